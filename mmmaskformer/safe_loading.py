"""Lets mmengine read checkpoints without executing code from them, under every supported torch.

A pickle may call any function. mmengine calls ``torch.load`` without ``weights_only``: torch 2.1 to 2.5 then execute
the calls in the file, newer releases do so if TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, and all of them do for files
that mmengine downloads. This module passes ``weights_only=True`` whenever mmengine reads a checkpoint. Before torch 2.6
that mode supports too few types for mmengine's files, which are read by a restricted unpickler with the same list of
types.

A checkpoint also holds a config as text, which is Python: `Runner.resume` and the inferencers execute it. Text that is
more than values is removed when the file is read.

Files that mmengine cannot read (pickles of detectron2, safetensors and folders of transformers) are read here as well.
Those of a MaskFormer are brought into the form of mmengine's checkpoints with unchanged names; the model renames them,
see `mmmaskformer.heads.conversion`. Names of the zoo, ``zoo://NAME``, stand for files that are first downloaded and
converted.
"""

import contextlib
import functools
import logging
import pickle
import threading
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch._weights_only_unpickler import _get_allowed_globals
from torch.torch_version import TorchVersion

from mmmaskformer import compat
from mmmaskformer.checkpoints import loading, readers, transformers_files, writers, zoo
from mmmaskformer.checkpoints.config_text import remove_code
from mmmaskformer.formats import plain_arrays

_patching = threading.RLock()
SHOWN = 200
"""Characters of a line of code in a message."""


def install() -> None:
    """Make mmengine's `CheckpointLoader`, which every loading function of mmengine uses, read files safely.

    Repeated calls have no effect.
    """
    load_checkpoint = CheckpointLoader.load_checkpoint.__func__
    if getattr(load_checkpoint, 'is_safe', False):
        return

    @functools.wraps(load_checkpoint)
    def load_safely(cls, filename, *args, **kwargs):
        if zoo.is_name(filename):
            filename = _file_of_the_zoo(filename)
        if readers.is_transformers_folder(filename):
            content = read_folder(filename)
        else:
            with _safe_torch_load(str(filename)), _explained_download(str(filename)):
                content = load_checkpoint(cls, filename, *args, **kwargs)
        for code in remove_code(content):
            print_log(
                f'checkpoint {filename}: a config in it is more than values, and mmengine would run it as Python; it '
                f'is ignored ({code[:SHOWN]}).',
                logger='current',
                level=logging.WARNING,
            )
        return loading.in_form_of_mmengine(content, str(filename))

    load_safely.is_safe = True
    CheckpointLoader.load_checkpoint = classmethod(load_safely)


@contextlib.contextmanager
def _explained_download(name: str):
    """Name the checkpoint and the fix if a download within the context fails."""
    try:
        yield
    except urllib.error.URLError as error:
        raise OSError(
            f'checkpoint {name}: it cannot be downloaded ({error}). Fix: check the network; or download the file '
            f'elsewhere and save it in {torch.hub.get_dir()}/checkpoints under the name that it has there; or use '
            'another file (model.backbone.init_cfg.checkpoint for a backbone, load_from for a model); or start a '
            'backbone from random weights with --cfg-options model.backbone.init_cfg=None.'
        ) from error


def _file_of_the_zoo(name: str) -> str:
    """The file of a name that begins with ``zoo://``, downloaded and converted at the first call."""
    from mmmaskformer.apis.zoo_files import converted_file  # a circular import at module level

    return str(converted_file(name))


@contextlib.contextmanager
def _safe_torch_load(name: str):
    """Make ``torch.load`` safe in this thread within the context, regardless of its arguments.

    Args:
        name: name of the checkpoint, for messages.
    """
    with _patching:
        original, thread = torch.load, threading.get_ident()

        def load(f, map_location=None, *args, **kwargs):
            if threading.get_ident() != thread:
                return original(f, map_location, *args, **kwargs)
            return read_safely(f, map_location, name=name, load=original)

        torch.load = load
        try:
            yield
        finally:
            torch.load = original


def read_safely(file, map_location=None, *, name: str, load=torch.load) -> Any:
    """Read a checkpoint without executing code from it.

    Args:
        file: path or binary file.
        map_location: as in `torch.load`.
        name: name of the checkpoint, for messages.
        load: `torch.load`.

    Raises:
        ValueError: if the file cannot be read or holds anything but tensors, numbers, strings, lists and dicts.
        OSError: if the file does not exist or is not readable.
    """
    special = _read_special(file, name)
    if special is not None:
        return special
    mode = dict(weights_only=True)
    if TorchVersion(torch.__version__) < compat.FIRST_CHECKING_TORCH:
        mode = dict(weights_only=False, pickle_module=RESTRICTED_PICKLE)
    try:
        with _bounded_tensors():
            return load(file, map_location, **mode)
    except (OSError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'checkpoint {name}: it is damaged or would execute code, and is not read: {_first_lines(error)}. '
            'Fix: use a file of a training run or one that holds tensors and plain values only. If, and only if, you '
            'trust the file, read it with torch.load(path, weights_only=False) and save its state_dict again.'
        ) from None
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f'checkpoint {name}: it cannot be read ({type(error).__name__}: {_first_lines(error)}). Fix: the file is '
            'damaged, truncated or not a checkpoint of torch; copy it again or use an earlier one.'
        ) from error


@contextlib.contextmanager
def _bounded_tensors():
    """Context in which a tensor larger than its stored data is refused; torch would allocate the memory."""
    name, allowed = 'torch._utils._rebuild_tensor', _get_allowed_globals()
    with _patching:
        original = torch._utils._rebuild_tensor

        def rebuild(storage, offset, size, stride):
            end = offset + 1 + sum((extent - 1) * step for extent, step in zip(size, stride, strict=False))
            stored = getattr(storage, '_untyped_storage', storage).nbytes() // storage.dtype.itemsize
            if 0 not in size and end > stored:
                raise pickle.UnpicklingError(
                    f'it holds a tensor of shape {tuple(size)}, for which {end} values are needed, and stores {stored}'
                )
            return original(storage, offset, size, stride)

        listed = allowed.get(name)
        torch._utils._rebuild_tensor = rebuild
        if listed is not None:
            allowed[name] = rebuild
        try:
            yield
        finally:
            torch._utils._rebuild_tensor = original
            if listed is not None:
                allowed[name] = listed


def read_folder(folder: str | Path) -> dict:
    """Read a model of transformers.

    Args:
        folder: folder with config.json and the weights, in one file or several.

    Returns:
        ``state_dict`` with the names in the files; ``meta`` with ``dataset_meta`` and ``settings``, the settings in the
        files as arguments of `transformers_files.Settings`.

    Raises:
        ValueError: if the folder holds another kind of model, or a file cannot be read.
        FileNotFoundError: if there are no weights.
    """
    folder = Path(folder).expanduser()
    preprocessor = folder / writers.PREPROCESSOR
    try:
        settings = transformers_files.settings_of_hub(
            readers.read_json(folder / readers.CONFIG),
            readers.read_json(preprocessor) if preprocessor.is_file() else {},
        )
    except ValueError as error:
        raise ValueError(f'checkpoint {folder}: {error}') from None
    weights: dict = {}
    for file in readers.weight_files(folder):
        content = read_safely(file, 'cpu', name=str(file))
        state = content.get('state_dict', content) if isinstance(content, dict) else None
        if not isinstance(state, dict):
            raise ValueError(
                f'checkpoint {file}: it holds a {type(content).__name__}, expected a dict of weights. Fix: download it '
                'again'
            )
        weights |= readers.tensors_of(state)
    return {'state_dict': weights, 'meta': {'dataset_meta': {'classes': settings['classes']}, 'settings': settings}}


def _read_special(file, name: str) -> dict | None:
    """Apply `readers.read_special` to a path or a binary file; None for files of torch."""
    if isinstance(file, str | Path):
        with open(file, 'rb') as stream:
            return readers.read_special(stream, name)
    return readers.read_special(file, name)


class RestrictedUnpickler(pickle.Unpickler):
    """Allows only the objects of tensors and mmengine's checkpoints."""

    def find_class(self, module: str, name: str):
        """The object of that name.

        Raises:
            pickle.UnpicklingError: if it is not on the list of allowed objects.
        """
        # the last is how pickle writes the bytes of arrays and numpy scalars
        allowed = {**_get_allowed_globals(), **compat.checkpoint_globals(), '_codecs.encode': plain_arrays.encode}
        full_name = f'{module}.{name}'.replace('__builtin__.', 'builtins.')  # as protocol 2 calls it
        if full_name not in allowed:
            raise pickle.UnpicklingError(f'Unsupported global: {full_name}')
        return allowed[full_name]


def _load(file, **kwargs):
    return RestrictedUnpickler(file, **kwargs).load()


RESTRICTED_PICKLE = SimpleNamespace(__name__='mmmaskformer.pickle', Unpickler=RestrictedUnpickler, load=_load)
"""The ``pickle_module`` for `torch.load`."""


def _first_lines(error: Exception) -> str:
    """The first 200 characters of the reason, without torch's advice to disable the check."""
    _, _, reason = str(error).partition('WeightsUnpickler error: ')
    lines = [line.strip() for line in (reason or str(error)).splitlines()]
    kept = [line for line in lines if line and not line.startswith(('Weights only load failed', 'Check the doc'))]
    return ' '.join(kept)[:200]
