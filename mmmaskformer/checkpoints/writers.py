"""Writers for the weight files of every package; all write atomically."""

import errno
import json
import pickle
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mmmaskformer.checkpoints.readers import CONFIG, META, WEIGHTS
from mmmaskformer.formats import whole_files
from mmmaskformer.formats.whole_files import whole_folder, write_whole

ENDINGS = {
    'mmmaskformer': ('.pth', '.safetensors'),
    'mmseg': ('.pth',),
    'mmdet': ('.pth',),
    'official': ('.pkl', '.pth'),
    'transformers': (),
}
"""File name suffixes that each package reads; transformers reads folders."""

PREPROCESSOR = 'preprocessor_config.json'
SPARE = 1.05
"""Free disk space that is required, relative to the size of the weights."""


def require_writable(path: Path, package: str, force: bool, *, makes_folder: bool = False) -> None:
    """Check an output path before any work is done.

    Args:
        path: file or folder to write.
        package: key of `ENDINGS`.
        force: whether an existing output may be replaced.
        makes_folder: whether a missing parent folder is created.

    Raises:
        ValueError: if the package does not read files with this suffix.
        FileExistsError: if it exists and must not be replaced.
        FileNotFoundError: if its folder does not exist.
        OSError: if it cannot be written, as in `mmmaskformer.formats.whole_files.require_writable`.
    """
    endings = ENDINGS[package]
    if endings and path.suffix not in endings:
        raise ValueError(
            f'{path}: found the suffix {path.suffix!r}, expected {" or ".join(endings)}, which {package} reads. '
            'Fix: change the suffix'
        )
    if not endings and path.suffix in ('.pth', '.pkl', '.safetensors', '.bin'):
        raise ValueError(
            f'{path}: found the name of a file, but transformers reads folders. Fix: choose the name of a folder'
        )
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists and is not replaced. Fix: choose another name, or add --force')
    if path.exists() and path.is_dir() == bool(endings):
        kinds = ('a file', 'a folder') if endings else ('a folder', 'a file')
        raise FileExistsError(f'{path} is {kinds[1]}; expected {kinds[0]} or nothing. Fix: choose another name')
    if path.is_dir() and any(path.iterdir()) and not (path / CONFIG).is_file():
        raise FileExistsError(f'{path} is a folder without {CONFIG} and is not replaced. Fix: choose another name')
    if not path.parent.is_dir() and not makes_folder:
        raise FileNotFoundError(f'{path.parent}: the folder does not exist. Fix: create it')
    whole_files.require_writable(path, folder=not endings)


def require_room(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Check that the disk has room for the weights.

    Raises:
        OSError: if there is not enough space.
    """
    needed = int(SPARE * sum(value.numel() * value.element_size() for value in weights.values()))
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f'{path}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; nothing is written. '
            'Fix: free space',
        )


def write_checkpoint(path: Path, weights: Mapping[str, Tensor], more: Mapping[str, Any]) -> None:
    """Write a file that mmengine reads: ``.pth``, or ``.safetensors`` with everything else in its header.

    Args:
        path: path of the file.
        weights: the state dict.
        more: further content of the checkpoint, such as ``meta``; plain values only.

    Raises:
        OSError: if it cannot be written; an existing file is kept.
    """
    require_room(path, weights)
    if path.suffix == '.safetensors':
        write_whole(path, _safetensors(weights, {META: json.dumps(more)}))
    else:
        write_whole(path, _torch_file({'state_dict': dict(weights), **more}))


def write_official(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a file that detectron2 reads: a pickle of numpy arrays, or a ``.pth`` file.

    The names are those of released files; the published code inserts ``pixel_decoder.`` when it loads them.

    Raises:
        OSError: if it cannot be written; an existing file is kept.
    """
    require_room(path, weights)
    if path.suffix == '.pth':
        write_whole(path, _torch_file({'model': dict(weights)}))
        return
    # Without an author, detectron2 assumes a file of Caffe2 and matches names heuristically.
    arrays = {name: _with_type_of_numpy(value).numpy() for name, value in weights.items()}
    content = {'model': arrays, '__author__': 'mmmaskformer'}
    write_whole(path, pickle.dumps(content, protocol=4))


def _with_type_of_numpy(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.bfloat16 else value  # numpy has no bfloat16; nothing is lost


def write_transformers(path: Path, weights: Mapping[str, Tensor], config: Mapping, preprocessor: Mapping) -> None:
    """Write a folder that ``from_pretrained`` reads.

    Args:
        path: path of the folder.
        weights: weights by their names in the files of transformers.
        config: content of config.json.
        preprocessor: content of preprocessor_config.json.

    Raises:
        OSError: if it cannot be written; an existing folder is kept.
    """
    require_room(path, weights)
    with whole_folder(path) as folder:
        (folder / WEIGHTS[0]).write_bytes(_safetensors(weights, {}))
        for name, content in ((CONFIG, config), (PREPROCESSOR, preprocessor)):
            (folder / name).write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


def _torch_file(content: Mapping[str, Any]) -> bytes:
    """Serialise to memory first, since torch's file writer does not report why a file could not be written."""
    stream = BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _safetensors(weights: Mapping[str, Tensor], header: dict[str, str]) -> bytes:
    return save({name: value.contiguous() for name, value in weights.items()}, {'format': 'pt', **header})
