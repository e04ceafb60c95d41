"""A lock on a folder that is held by this process and its child processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK = '.lock'


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
        _lock(number, folder, work)
        yield
    finally:
        os.close(number)


def _lock(number: int, folder: Path, work: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            f'{folder}: another {work}, or a run that it started, is using this folder. Fix: wait for it, stop it, '
            'or give another folder'
        ) from error
    except OSError:
        pass  # the disk does not support locks, such as some network disks
