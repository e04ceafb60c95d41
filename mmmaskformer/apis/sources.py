"""Reading and recognition of checkpoints of any package."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mmmaskformer.checkpoints.layouts import describe_layout, package_of, take_apart
from mmmaskformer.checkpoints.readers import is_transformers_folder, weight_files
from mmmaskformer.safe_loading import read_folder, read_safely


class Source(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        path: path of the file or folder.
        package: the package that wrote it, a key of `key_maps.NAMES`.
        weights: weights by name.
        meta: meta information stored with the weights.
        rest: descriptions of everything else in the file, by name.
        sha256: digest of the file, or of the files of a folder one after the other.
    """

    path: Path
    package: str
    weights: dict[str, Tensor]
    meta: dict
    rest: dict[str, str]
    sha256: str


def read_source(path: Path, averaged: bool = False) -> Source:
    """Read a checkpoint and identify the package that wrote it.

    Args:
        path: file, or folder of transformers.
        averaged: see `convert_checkpoint`.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it cannot be read, or is not a MaskFormer.
    """
    if is_transformers_folder(path):
        content, files = read_folder(path), weight_files(path)
    elif path.is_file():
        content, files = read_safely(path, 'cpu', name=str(path)), [path]
    elif path.is_dir():
        raise FileNotFoundError(f'{path}: a folder without config.json, expected a folder of transformers, or a file')
    else:
        raise FileNotFoundError(f'{path}: no such file. Fix: correct the path; a model of the hub is downloaded first')
    if not isinstance(content, Mapping):
        raise ValueError(f'{path}: it holds a {type(content).__name__}, expected a dict of weights')
    found = take_apart(content, averaged)
    package = package_of(found.weights)
    if package is None:
        what, fix = describe_layout(found.weights)
        raise ValueError(f'{path}: not a MaskFormer; {what}. Fix: {fix}.')
    return Source(path, package, found.weights, found.meta, found.rest, _sha256(files))


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, 'rb') as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
