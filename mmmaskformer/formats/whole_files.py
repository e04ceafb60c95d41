"""Files and folders that are whole or absent: written under another name, flushed to disk, renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file so that no reader ever sees half of it.

    ::

        with whole_file('result.png') as part:
            image.save(part, format='PNG')

    The file appears under its name when the block ends; if the block raises, an older file stays as it was.

    Args:
        path: the file; its folder must exist.

    Yields:
        A name in the same folder that nobody else writes to. Its ending is not that of ``path``.
    """
    path = Path(path)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield part
        _flush(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `whole_file` does.

    Args:
        path: the file; its folder must exist.
        content: all of it.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder so that it is complete or absent.

    Args:
        path: the folder; the folders above it are created. A folder that is there is replaced when the block ends, and
            stays as it was if the block raises.

    Yields:
        An empty folder beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        fresh = workshop / 'new'
        fresh.mkdir()
        yield fresh
        replace_folder(fresh, path)
    finally:
        shutil.rmtree(workshop)


def replace_folder(fresh: Path, path: Path) -> None:
    """Rename a finished folder; the folder that had the name before is removed.

    Args:
        fresh: the finished folder, on the same disk.
        path: its name. If the renaming fails, the older folder keeps it.
    """
    old = path.with_name(f'.{path.name}.{os.getpid()}.old')
    for file in fresh.rglob('*'):
        if file.is_file():
            _flush(file)
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    if old.exists():
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Have the system write the file to disk: after a power failure a renamed file could be empty otherwise."""
    with open(path, 'rb') as stream:
        os.fsync(stream.fileno())


def remove_parts(folder: str | Path) -> list[Path]:
    """Remove what `whole_file` left behind when its process was killed.

    Files of a process that still runs on this machine stay.

    Args:
        folder: in which files were written; need not exist.

    Returns:
        The files removed.
    """
    removed = []
    for part in Path(folder).glob('.*.part'):
        number = part.name.split('.')[-2]
        if number.isdigit() and not is_running(int(number)):
            part.unlink(missing_ok=True)
            removed.append(part)
    return removed


def is_running(process: int) -> bool:
    """Whether there is another process of that number on this machine.

    Args:
        process: its number.
    """
    if process == os.getpid():
        return False  # a number used again: this process writes nothing yet
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
