"""Locks on folders: for a block, together with child processes, or for this process until it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK = '.lock'

_held: dict[Path, int] = {}
"""Folders that this process holds, and the open file of each."""


@contextmanager
def folder_lock(folder: str | Path, work: str) -> Iterator[None]:
    """Lock a folder against other processes.

    The system releases the lock when the last process that holds it ends, even if it is killed. Child processes started
    with ``close_fds=False`` hold the lock too: the folder stays locked until they end.

    Args:
        folder: folder to lock; created if it does not exist.
        work: name of the task for the message, such as 'sweep'.

    Raises:
        BlockingIOError: if another process holds the lock.
        OSError: if the folder is not writable.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.set_inheritable(number, True)
        _lock(number, folder, f'another {work}, or a run that it started,')
        yield
    finally:
        os.close(number)


def hold_folder(folder: str | Path, work: str) -> None:
    """Lock a folder against other processes until this process ends or releases it; no file is written.

    The system releases the lock when the process ends, even if it is killed. Child processes do not hold it, so that
    those of a killed process do not lock it any longer. Holding a folder twice has no effect.

    Args:
        folder: an existing folder.
        work: name of the task for the message, such as 'training run'.

    Raises:
        BlockingIOError: if another process holds the lock.
    """
    folder = Path(os.path.realpath(folder))
    if fcntl is None or folder in _held:
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        _lock(number, folder, f'another {work}')
    except BlockingIOError:
        os.close(number)
        raise
    _held[folder] = number


def release_folder(folder: str | Path) -> None:
    """Release a folder that `hold_folder` has locked; other folders are not changed.

    Args:
        folder: the folder.
    """
    number = _held.pop(Path(os.path.realpath(folder)), None)
    if number is not None:
        os.close(number)


def _release_in_child() -> None:
    for folder in list(_held):
        release_folder(folder)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_release_in_child)


def _lock(number: int, folder: Path, holder: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            f'{folder}: {holder} is using this folder. Fix: wait for it, stop it, or use another folder'
        ) from error
    except OSError:
        pass  # the disk does not support locks, such as some network disks
