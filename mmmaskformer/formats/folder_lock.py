"""A lock on a folder that this process and those that it starts hold, whatever ends them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows; nothing is locked there
    fcntl = None  # type: ignore[assignment]

LOCK = '.lock'


@contextmanager
def folder_lock(folder: str | Path, work: str) -> Iterator[None]:
    """Keep other processes out of a folder.

    The system ends the lock with the last process that holds it, so that a killed one leaves nothing behind. Processes
    started with ``close_fds=False`` hold it as well: while one of them is at work, the folder is not free.

    Args:
        folder: is made if it is not there.
        work: what is done in it, for the message, such as 'sweep'.

    Raises:
        BlockingIOError: if another process holds the lock.
        OSError: if the folder cannot be written to.
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
            f'{folder}: another {work}, or a run that it started, is at work in this folder. Fix: wait for it or end '
            'it, or give another folder'
        ) from error
    except OSError:
        pass  # a disk without locks, as some network disks are
