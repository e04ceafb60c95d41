"""Files and folders that are whole or absent: written under another name, flushed to disk, renamed."""

import errno
import hashlib
import itertools
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
"""This machine, in the names of unfinished files: a process of another one cannot be asked whether it still runs."""

FOREIGN_AGE = 24 * 3600
"""Seconds after which an unfinished file of another machine counts as left behind."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors that come from the disk whatever the file is."""

_numbers = itertools.count()
"""Numbers of the unfinished files of this process: two threads, or two long names, never share one."""

_swept: set[Path] = set()
"""Folders from which this process has removed what killed processes left behind."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file so that no reader ever sees half of it.

    ::

        with whole_file('result.png') as part:
            image.save(part, format='PNG')

    The file appears under its name when the block ends; if the block raises, an older file stays as it was. A symbolic
    link to a file stays a link. What killed processes left in the folder is removed.

    Args:
        path: the file; its folder must exist.

    Yields:
        A name in the same folder that nobody else writes to. Its ending is not that of ``path``.

    Raises:
        OSError: if ``path`` is no regular file, or cannot be written; the message says why and what remains.
    """
    require_writable(path)
    target = Path(os.path.realpath(path))
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_parts(target.parent)
    # the longest names of disks have 255 bytes
    part = target.with_name(f'.{target.name[:50]}.{next(_numbers)}.{MACHINE}-{os.getpid()}.part')
    try:
        with explaining(path, part):
            yield part
            _flush(part)
            os.replace(part, target)
    finally:
        with suppress(OSError):  # the error that the block raised says more
            part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `whole_file` does.

    Args:
        path: the file; its folder must exist.
        content: all of it.

    Raises:
        OSError: likewise.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def require_writable(path: str | Path, key: str = '', *, folder: bool = False) -> None:
    """Check, before the work of hours, that a file or folder can be written under a name.

    Args:
        path: the name; neither it nor the folders above it need to exist.
        key: of the option or setting that names it, for messages.
        folder: whether it is to be a folder.

    Raises:
        OSError: if something else has the name (a folder, a device, a pipe, a socket, a symbolic link to nothing), the
            file is write-protected, or the folder that it would be in is no folder or may not be written to.
    """
    named = f'{key}: {path}' if key else str(path)
    found, wanted = _kind(path), 'a folder' if folder else 'a file'
    if found not in (None, wanted):
        raise FileExistsError(f'{named}: found {found}, expected {wanted} or nothing of that name. Fix: choose another '
                              'name')  # fmt: skip
    if found == 'a file' and not os.access(path, os.W_OK):  # renaming would replace it all the same
        raise PermissionError(f'{named}: the file is write-protected. Fix: make it writable, or choose another name')
    above = Path(os.path.abspath(os.path.realpath(path)))
    above = above if folder else above.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(f'{named}: {above} is {_kind(above)}, expected a folder. Fix: choose another name')
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f'{named}: the folder {above} is read-only. Fix: make it writable, or choose another one')


def _kind(path: str | Path) -> str | None:
    """What has a name, in words; None for nothing."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return 'a symbolic link to nothing' if os.path.lexists(path) else None
    kinds = {stat.S_ISREG: 'a file', stat.S_ISDIR: 'a folder', stat.S_ISFIFO: 'a pipe', stat.S_ISSOCK: 'a socket'}
    return next((kind for has, kind in kinds.items() if has(mode)), 'a device')


@contextmanager
def explaining(path: str | Path, part: Path | None = None) -> Iterator[None]:
    """Let errors of the disk say which file could not be written, and what remains.

    Args:
        path: what is written in the block.
        part: the name under which it is written; None for its own.

    Raises:
        OSError: in the place of one without a name.
    """
    try:
        yield
    except OSError as error:
        of_part = error.filename is not None and Path(os.fsdecode(error.filename)) == (part or Path(path))
        if error.errno not in CANNOT_WRITE and not of_part:
            raise
        remains = 'there is no such file now'
        if os.path.exists(path):
            remains = 'it may be incomplete' if part is None else 'the older file stays as it was'
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise type(error)(
            f'{path}: could not be written ({reason}); {remains}. Fix: make room, make the folder writable or choose '
            'another one'
        ) from error


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder so that it is complete or absent.

    What killed processes left beside it is removed, or put back if they had moved the older folder out of the way.

    Args:
        path: the folder; the folders above it are created. A folder that is there is replaced when the block ends, and
            stays as it was if the block raises.

    Yields:
        An empty folder beside it.

    Raises:
        OSError: if ``path`` is no folder, or cannot be written; the message says why.
    """
    require_writable(path, folder=True)
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _recover(path)
    fresh = path.with_name(f'.{path.name}.{MACHINE}-{os.getpid()}.new')
    try:
        with explaining(path, fresh):
            fresh.mkdir()
            yield fresh
            replace_folder(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def replace_folder(fresh: Path, path: Path) -> None:
    """Rename a finished folder; the folder that had the name before is removed.

    Args:
        fresh: the finished folder, on the same disk.
        path: its name. If the renaming fails, the older folder keeps it.
    """
    old = path.with_name(f'.{path.name}.{MACHINE}-{os.getpid()}.old')
    flush_files(fresh)
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


def flush_files(folder: Path) -> None:
    """Have the system write all files below a folder to disk."""
    for file in folder.rglob('*'):
        if file.is_file():
            _flush(file)


def _recover(path: Path) -> None:
    """Undo what a process left that was killed while it wrote this folder."""
    for left in path.parent.glob(f'.{_escaped(path.name)}.*'):
        if left.suffix not in ('.new', '.old') or not left.is_dir() or not _is_left_behind(left):
            continue
        if left.suffix == '.old' and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left)


def _escaped(name: str) -> str:
    """A name as a pattern that fits nothing else."""
    return ''.join(f'[{letter}]' if letter in '*?[' else letter for letter in name)


def _flush(path: Path) -> None:
    """Have the system write the file to disk: after a power failure a renamed file could be empty otherwise."""
    with open(path, 'rb') as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: str | Path) -> None:
    """Have the system write the names of a folder to disk, before a file that newer ones replace is removed.

    Args:
        folder: on a disk of this machine; systems that cannot do it are left alone.
    """
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_parts(folder: str | Path, *, of_any_machine: bool = False) -> list[Path]:
    """Remove what `whole_file` left behind when its process was killed.

    Files of a process that still runs on this machine stay, and those of other machines for a day.

    Args:
        folder: in which files were written; need not exist.
        of_any_machine: remove those of other machines at once, where no other one writes to the folder.

    Returns:
        The files removed.
    """
    removed = []
    for part in Path(folder).glob('.*.part'):
        if _is_left_behind(part, of_any_machine):
            with suppress(OSError):
                part.unlink(missing_ok=True)
                removed.append(part)
    return removed


def _is_left_behind(part: Path, of_any_machine: bool = False) -> bool:
    """Whether the process that writes under a name of ours is gone."""
    machine, _, process = part.name.split('.')[-2].rpartition('-')
    if not process.isdigit():
        return False
    if machine in ('', MACHINE):
        return not is_running(int(process))
    try:
        return of_any_machine or time.time() - part.stat().st_mtime > FOREIGN_AGE
    except FileNotFoundError:
        return False


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
    except OverflowError:
        return False
    return True
