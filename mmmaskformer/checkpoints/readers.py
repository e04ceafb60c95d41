"""Readers of the weight files of every package; none executes code from a file."""

import json
import pickle
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from mmmaskformer.formats import plain_arrays

HEADER_LIMIT = 100_000_000
"""Limit of safetensors itself, in bytes."""

CONFIG = 'config.json'
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
INDICES = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
META = 'mmmaskformer'
"""Key in the header of a safetensors file under which this package stores everything except the weights."""

TORCH_LEGACY = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
"""First bytes of files of torch before 1.6; other pickles begin differently."""


class UnreadableError(ValueError):
    """The file is damaged, is not a checkpoint, or would execute code."""


class RestrictedUnpickler(pickle.Unpickler):
    """Reads numpy arrays, numbers, strings and plain containers; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name.

        Raises:
            pickle.UnpicklingError: if it is not on the list of allowed objects.
        """
        full_name = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        if full_name not in ALLOWED:
            raise pickle.UnpicklingError(f'it refers to {full_name}')
        return ALLOWED[full_name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects that are stored outside the file.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f'it refers to an object outside the file, {pid!r}')


ALLOWED: dict[str, Any] = {
    'collections.OrderedDict': OrderedDict,
    'collections.defaultdict': defaultdict,
    'builtins.set': set,
    'builtins.dict': dict,
    'builtins.list': list,
    'builtins.int': int,
    'builtins.float': float,
    # how pickle writes the bytes of arrays under protocol 2
    '_codecs.encode': plain_arrays.encode,
    **plain_arrays.stand_ins(),
}


def kind_of(stream: IO[bytes]) -> str:
    """Identify a file by its first bytes; the stream is reset to its start.

    Returns:
        'torch' (zip or legacy), 'pickle', 'safetensors', 'page' (HTML or XML), 'pointer' (of Git LFS), 'text',
        'empty' or 'unknown'.
    """
    start = stream.read(512)
    stream.seek(0)
    stripped = start.lstrip(b'\xef\xbb\xbf \t\r\n')
    if not start:
        return 'empty'
    if start.startswith((b'PK\x03\x04', TORCH_LEGACY)):
        return 'torch'
    if stripped[:1] == b'<':
        return 'page'
    if start.startswith(b'version https://git-lfs'):
        return 'pointer'
    if start[8:9] == b'{' and struct.unpack('<Q', start[:8])[0] <= HEADER_LIMIT:
        return 'safetensors'
    if start[:1] == b'\x80' and start[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05'):
        return 'pickle'
    return 'text' if all(byte >= 32 or byte in b'\t\r\n' for byte in start) else 'unknown'


NOT_A_CHECKPOINT = {
    'empty': ('has no bytes', 'download or copy it again'),
    'page': ('is a web page, not a checkpoint', 'download the file itself; the address may have led to an error page'),
    'pointer': ('is a pointer of Git LFS, not the file', "fetch the file with 'git lfs pull'"),
    'text': ('is a text file, not a checkpoint', 'use a file of weights'),
}
"""Kinds that hold no weights: what is wrong and the fix."""


def read_special(stream: IO[bytes], name: str) -> dict | None:
    """Read what `torch.load` cannot: pickles of numpy arrays and safetensors.

    Args:
        stream: stream of the file, at its start.
        name: name of the file, for messages.

    Returns:
        The content as a dict, with tensors instead of arrays; None for a file of torch or of an unknown kind.

    Raises:
        UnreadableError: if the file is damaged, is not a checkpoint, or would execute code.
    """
    kind = kind_of(stream)
    if kind in NOT_A_CHECKPOINT:
        what, fix = NOT_A_CHECKPOINT[kind]
        raise UnreadableError(f'checkpoint {name}: it {what}; expected weights. Fix: {fix}.')
    if kind == 'pickle':
        return read_pickle(stream, name)
    return read_safetensors(stream, name) if kind == 'safetensors' else None


def read_pickle(stream: IO[bytes], name: str) -> dict:
    """Read a pickle of plain values and numpy arrays, such as detectron2's; see `read_special`."""
    try:
        content = RestrictedUnpickler(stream, encoding='latin1').load()
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise UnreadableError(
            f'checkpoint {name}: it is damaged or would execute code, and is not read: {error}. Fix: download it again '
            'from its publisher; only numpy arrays and plain values are read.'
        ) from None
    except Exception as error:  # a damaged file can raise anything
        raise UnreadableError(
            f'checkpoint {name}: it cannot be read ({type(error).__name__}: {error}). Fix: the file is damaged or cut '
            'off; download or copy it again.'
        ) from None
    if not isinstance(content, Mapping):
        raise UnreadableError(
            f'checkpoint {name}: it holds a {type(content).__name__}, expected a dict of weights. Fix: use a '
            "checkpoint, such as detectron2's model_final_….pkl."
        )
    return as_tensors(content)


def read_safetensors(stream: IO[bytes], name: str) -> dict:
    """Read a safetensors file and what this package stored in its header; see `read_special`.

    Returns:
        ``state_dict``, and further keys such as ``meta`` if this package wrote the file.
    """
    content = stream.read()
    try:
        weights = load_safetensors(content)
        (length,) = struct.unpack('<Q', content[:8])
        header = json.loads(content[8 : 8 + length]).get('__metadata__') or {}
        more = json.loads(header[META]) if META in header else {}
        if not isinstance(more, dict):
            raise ValueError(f'{META} in its header is a {type(more).__name__}, expected an object')
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UnreadableError(
            f'checkpoint {name}: it begins like a safetensors file but cannot be read ({error}). Fix: the file is '
            'damaged or cut off; download or copy it again.'
        ) from None
    return {**more, 'state_dict': weights}


def as_tensors(content: Any) -> Any:
    """Replace the arrays in nested containers by tensors."""
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in 'fiub':
            return content.tolist()
        # Arrays of a pickle are read-only, and may have the byte order of another machine.
        return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder('='), copy=True))
    if isinstance(content, Mapping):
        return {key: as_tensors(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_tensors(value) for value in content]
    return content


def is_transformers_folder(path: str | Path) -> bool:
    """Whether a path is a folder with a model of transformers."""
    return (Path(path).expanduser() / CONFIG).is_file()


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a folder of transformers; if it has an index, all files that the index names.

    Raises:
        FileNotFoundError: if there are none, or a file of the index is missing.
        UnreadableError: if the index is damaged.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
    for name in INDICES:
        if (folder / name).is_file():
            parts = read_json(folder / name).get('weight_map')
            if not isinstance(parts, dict) or not parts or not all(map(_is_file_name, parts.values())):
                raise UnreadableError(
                    f"{folder / name}: expected an object 'weight_map' with the file of each weight. Fix: download it "
                    'again'
                )
            files = [folder / file for file in sorted(set(parts.values()))]
            for file in files:
                if not file.is_file():
                    raise FileNotFoundError(f'{file}: {folder / name} names it, but it is missing. Fix: download it')
            return files
    raise FileNotFoundError(
        f'{folder}: found a {CONFIG} but no weights, expected {" or ".join(WEIGHTS)}. Fix: download them into it'
    )


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and Path(value).name == value


def read_json(path: Path) -> dict:
    """A JSON object of a folder of transformers.

    Raises:
        UnreadableError: if the file is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise UnreadableError(f'{path}: it cannot be read as JSON ({error}). Fix: download it again') from None
    if not isinstance(content, dict):
        raise UnreadableError(
            f'{path}: found a {type(content).__name__}, expected an object with settings. Fix: download it again'
        )
    return content


def tensors_of(content: Mapping) -> dict[str, Tensor]:
    """The entries of a dict that are tensors, with their names as str."""
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
