"""Zoo weights as files: downloaded, converted for this package and cached; safe with several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmmaskformer import __version__
from mmmaskformer.apis.backbones import convert_backbone
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.scripts import SHIPPED
from mmmaskformer.checkpoints.downloads import AbsentError, DownloadError, by_hand, download, require_checksum
from mmmaskformer.checkpoints.readers import CONFIG, WEIGHTS
from mmmaskformer.checkpoints.writers import PREPROCESSOR
from mmmaskformer.checkpoints.zoo import FOLDER_VARIABLE, OFFLINE_VARIABLE, ZooModel, find_model, is_offline


def converted_file(reference: str) -> Path:
    """The checkpoint of a zoo name, converted for this package; downloaded and converted at the first call.

    Args:
        reference: ``zoo://NAME``, or only the name.

    Returns:
        A ``.pth`` file with weights, config, class list, licence and source.

    Raises:
        ValueError: if the name is unknown, or the file is damaged or holds another model.
        OSError: if it cannot be downloaded or written; the message says how to install the file by hand.
    """
    model = find_model(reference)
    path = model.folder / f'{model.name}-{__version__}.pth'  # another release may convert differently
    result = f'; published: {model.describe_result()}' if model.result else ''
    _say(f'{model.name}: {model.released_as or model.address}, licence of the weights: {model.licence}{result}')
    if path.is_file():
        return path
    with _alone(model):
        if not path.is_file():
            _fetch(model)
            _convert(model, path)
    return path


def original_file(reference: str) -> Path:
    """The released file or folder of a zoo name, downloaded at the first call.

    Args:
        reference: ``zoo://NAME``, or only the name.

    Raises:
        ValueError: if the name is unknown.
        OSError: see `converted_file`.
    """
    model = find_model(reference)
    with _alone(model):
        _fetch(model)
    return model.original


def _convert(model: ZooModel, path: Path) -> None:
    if model.package == 'backbone':
        convert_backbone(model.original, path, licence=model.licence)
        return
    config = SHIPPED / model.config if model.config else None
    report = convert_checkpoint(
        model.original,
        path,
        'mmmaskformer',
        config=config,
        classes=model.classes,
        task=model.task,
        licence=model.licence,
    )
    _say(f'{report.lines()[0]}; converted: {path}')


def _fetch(model: ZooModel) -> None:
    """Download the released files, or check files that were placed there by hand."""
    if not model.is_folder:
        _fetch_file(model.address, model.original, model.checksum)
        return
    model.original.mkdir(exist_ok=True)
    _fetch_file(f'{model.address}{CONFIG}', model.original / CONFIG)
    _fetch_file(f'{model.address}{PREPROCESSOR}', model.original / PREPROCESSOR, optional=True)
    if any((model.original / name).is_file() for name in WEIGHTS):
        return
    if not _fetch_file(f'{model.address}{WEIGHTS[0]}', model.original / WEIGHTS[0], optional=True):
        _fetch_file(f'{model.address}{WEIGHTS[1]}', model.original / WEIGHTS[1])


def _fetch_file(address: str, path: Path, checksum: str = '', *, optional: bool = False) -> bool:
    """Download a file unless it exists; return whether it exists afterwards."""
    if path.is_file():
        try:
            require_checksum(path, checksum)
        except DownloadError as error:
            raise DownloadError(f'{path}: {error}. Fix: remove it, or download {address} again') from None
        return True
    if is_offline():
        if optional and path.name == PREPROCESSOR:
            return False
        raise DownloadError(by_hand(address, path, f'{OFFLINE_VARIABLE} is set'))
    _say(f'fetching {address}')
    try:
        download(address, path, checksum, _say)
    except AbsentError:
        if not optional:
            raise
    return path.is_file()


@contextmanager
def _alone(model: ZooModel) -> Iterator[None]:
    """Lock the folder of a model against other processes."""
    try:
        model.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(model.folder, os.W_OK):
            raise PermissionError('it is not writable')
    except OSError as error:
        raise OSError(
            f'{model.folder}: the cache folder cannot be used ({error}). Fix: set {FOLDER_VARIABLE} to another folder'
        ) from None
    lock = FileLock(model.folder / '.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f'{model.name}: another process is downloading it; waiting')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _say(line: str) -> None:
    print_log(line, logger='current')
