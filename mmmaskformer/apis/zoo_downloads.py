"""Released files of the zoo: downloaded, checked and cached; safe with several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmmaskformer.checkpoints.downloads import AbsentError, DownloadError, by_hand, download, require_checksum
from mmmaskformer.checkpoints.readers import (
    CONFIG,
    NOT_A_CHECKPOINT,
    WEIGHTS,
    UnreadableError,
    is_transformers_folder,
    kind_of,
    read_json,
)
from mmmaskformer.checkpoints.writers import PREPROCESSOR
from mmmaskformer.checkpoints.zoo import FOLDER_VARIABLE, OFFLINE_VARIABLE, ZooModel, find_model, is_offline


def original_file(reference: str) -> Path:
    """The released file or folder of a zoo name, downloaded at the first call.

    Args:
        reference: ``zoo://NAME``, or only the name.

    Raises:
        ValueError: if the name is unknown.
        OSError: if it cannot be downloaded or written; the message says how to install the file by hand.
    """
    model = find_model(reference)
    if _is_there(model):  # the cache may be read-only then
        fetch(model)
        return model.original
    with locked_folder(model):
        fetch(model)
    return model.original


def fetch(model: ZooModel) -> None:
    """Download the released files, or check files that are already there.

    Args:
        model: entry whose folder is locked, or complete.

    Raises:
        OSError: see `original_file`.
    """
    if not model.is_folder:
        _fetch_file(model.address, model.original, model.checksum)
        return
    model.original.mkdir(exist_ok=True)
    _fetch_file(f'{model.address}{CONFIG}', model.original / CONFIG)
    _fetch_file(f'{model.address}{PREPROCESSOR}', model.original / PREPROCESSOR, optional=True)
    there = next((name for name in WEIGHTS if (model.original / name).is_file()), None)
    if there is not None:
        _fetch_file(f'{model.address}{there}', model.original / there)
    elif not _fetch_file(f'{model.address}{WEIGHTS[0]}', model.original / WEIGHTS[0], optional=True):
        _fetch_file(f'{model.address}{WEIGHTS[1]}', model.original / WEIGHTS[1])


@contextmanager
def locked_folder(model: ZooModel) -> Iterator[None]:
    """Context in which this process holds the lock of a model's folder.

    Args:
        model: entry; its folder is created.

    Raises:
        OSError: if the folder cannot be used.
    """
    lock = FileLock(model.folder / '.lock')
    try:
        model.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(model.folder, os.W_OK):
            raise PermissionError('it is not writable')
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(f'{model.name}: another process is downloading it; waiting')
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # the latter on file systems without locks
        raise OSError(
            f'{model.folder}: the cache folder cannot be used ({error}). Fix: set {FOLDER_VARIABLE} to another folder'
        ) from None
    try:
        yield
    finally:
        lock.release()


def log(line: str) -> None:
    """Log a line.

    Args:
        line: message.
    """
    print_log(line, logger='current')


def _is_there(model: ZooModel) -> bool:
    """Whether nothing has to be downloaded."""
    if model.is_folder:
        weights = any((model.original / name).is_file() for name in WEIGHTS)
        return weights and is_transformers_folder(model.original) and (model.original / PREPROCESSOR).is_file()
    return model.original.is_file()


def _fetch_file(address: str, path: Path, checksum: str = '', *, optional: bool = False) -> bool:
    """Download a file unless it exists; return whether it exists afterwards."""
    if path.is_file():
        try:
            _require_kind(path)
            require_checksum(path, checksum)
        except DownloadError as error:
            raise DownloadError(f'{path}: {error}. Fix: remove it, or download {address} again') from None
        return True
    if is_offline():
        if optional and path.name == PREPROCESSOR:
            return False
        raise DownloadError(by_hand(address, path, f'{OFFLINE_VARIABLE} is set'))
    log(f'fetching {address}')
    try:
        download(address, path, checksum, log, _require_kind)
    except AbsentError:
        if not optional:
            raise
    return path.is_file()


def _require_kind(path: Path) -> None:
    """Check that a file is of the kind that its name implies: some networks answer with a web page of their own.

    Raises:
        DownloadError: if it is of another kind.
    """
    if path.name.removesuffix('.part').endswith('.json'):
        try:
            read_json(path)
        except UnreadableError:
            raise DownloadError(f'{path.name.removesuffix(".part")} is not a JSON object') from None
        return
    with open(path, 'rb') as stream:
        kind = kind_of(stream)
    if kind in NOT_A_CHECKPOINT:
        raise DownloadError(f'{path.name.removesuffix(".part")} {NOT_A_CHECKPOINT[kind][0]}')
