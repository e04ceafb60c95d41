"""Atomic writes of files and folders: written under a temporary name, flushed to disk, then renamed."""

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
"""This machine, in the names of temporary files: whether a process of another machine still runs is unknown."""

FOREIGN_AGE = 24 * 3600
"""Seconds after which a temporary file of another machine counts as abandoned."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of the disk, which do not depend on the file."""

_numbers = itertools.count()
"""Numbers of the temporary files of this process, so that two threads or two long names never share one."""

_swept: set[Path] = set()
"""Folders from which this process has removed the temporary files of killed processes."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: readers never see a part of it.

    ::

        with whole_file('result.png') as part:
            image.save(part, format='PNG')

    The file gets its name when the block ends; if the block raises an error, an older file is not changed. A symbolic
    link to a file remains a link. Temporary files of killed processes in the folder are removed.

    Args:
        path: the file; its folder must exist.

    Yields:
        A unique temporary name in the same folder. Its suffix differs from that of ``path``.

    Raises:
        OSError: if ``path`` is not a regular file, or cannot be written; the message gives the reason and what remains.
    """
    require_writable(path)
    target = Path(os.path.realpath(path))
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_parts(target.parent)
    # file names are limited to 255 bytes
    part = target.with_name(f'.{target.name[:50]}.{next(_numbers)}.{MACHINE}-{os.getpid()}.part')
    try:
        with explaining(path, part):
            yield part
            _flush(part)
            os.replace(part, target)
    finally:
        with suppress(OSError):  # the error that the block raised is more informative
            part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, atomically; see `whole_file`.

    Args:
        path: the file; its folder must exist.
        content: the whole content.

    Raises:
        OSError: see `whole_file`.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def require_writable(path: str | Path, key: str = '', *, folder: bool = False) -> None:
    """Check, before hours of work, that a file or folder can be written.

    Args:
        path: path of the output; neither it nor its parent folders need to exist.
        key: name of the option or setting, for messages.
        folder: whether a folder will be written.

    Raises:
        OSError: if the path is something else (a folder, a device, a pipe, a socket, a broken symbolic link), the file
            is write-protected, or its parent is not a folder or not writable.
    """
    named = f'{key}: {path}' if key else str(path)
    found, wanted = _kind(path), 'a folder' if folder else 'a file'
    if found not in (None, wanted):
        raise FileExistsError(f'{named}: found {found}, expected {wanted} or nothing of that name. Fix: choose another '
                              'name')  # fmt: skip
    if found == 'a file' and not os.access(path, os.W_OK):  # renaming would replace it nevertheless
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
    """Description of what exists at a path; None if nothing does."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return 'a broken symbolic link' if os.path.lexists(path) else None
    kinds = {stat.S_ISREG: 'a file', stat.S_ISDIR: 'a folder', stat.S_ISFIFO: 'a pipe', stat.S_ISSOCK: 'a socket'}
    return next((kind for has, kind in kinds.items() if has(mode)), 'a device')


@contextmanager
def explaining(path: str | Path, part: Path | None = None) -> Iterator[None]:
    """Let errors of the disk name the file that could not be written, and what remains.

    Args:
        path: file that is written in the block.
        part: the temporary name; None if it is written under its own.

    Raises:
        OSError: instead of one without a file name.
    """
    try:
        yield
    except OSError as error:
        of_part = error.filename is not None and Path(os.fsdecode(error.filename)) == (part or Path(path))
        if error.errno not in CANNOT_WRITE and not of_part:
            raise
        remains = 'no file exists now'
        if os.path.exists(path):
            remains = 'it may be incomplete' if part is None else 'the older file is unchanged'
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise type(error)(
            f'{path}: could not be written ({reason}); {remains}. Fix: free space, make the folder writable or choose '
            'another one'
        ) from error


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder so that it is either complete or absent.

    Temporary folders of killed processes are removed; an older folder that they had moved aside is restored.

    Args:
        path: the folder; its parent folders are created. An existing folder is replaced when the block ends, and is not
            changed if the block raises an error.

    Yields:
        An empty folder next to it.

    Raises:
        OSError: if ``path`` is not a folder, or cannot be written; the message gives the reason.
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
    """Rename a finished folder, and remove the folder that had the name before.

    Args:
        fresh: the finished folder, on the same disk.
        path: its final name. If renaming fails, the older folder keeps the name.
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
    """Flush all files below a folder to disk."""
    for file in folder.rglob('*'):
        if file.is_file():
            _flush(file)


def _recover(path: Path) -> None:
    """Undo the changes of a process that was killed while it wrote this folder."""
    for left in path.parent.glob(f'.{_escaped(path.name)}.*'):
        if left.suffix not in ('.new', '.old') or not left.is_dir() or not _is_left_behind(left):
            continue
        if left.suffix == '.old' and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left)


def _escaped(name: str) -> str:
    """A glob pattern that matches only this name."""
    return ''.join(f'[{letter}]' if letter in '*?[' else letter for letter in name)


def _flush(path: Path) -> None:
    """Flush a file to disk; otherwise a renamed file could be empty after a power failure."""
    with open(path, 'rb') as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: str | Path) -> None:
    """Flush the names in a folder to disk, before a file that newer ones replace is removed.

    Args:
        folder: on a local disk; nothing is done on systems that do not support this.
    """
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_parts(folder: str | Path, *, of_any_machine: bool = False) -> list[Path]:
    """Remove the temporary files of `whole_file` whose process was killed.

    Files of a running process on this machine are kept, and those of other machines for a day.

    Args:
        folder: folder in which files were written; need not exist.
        of_any_machine: also remove those of other machines immediately, if no other machine writes to the folder.

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
    """Whether the process that writes a temporary file has ended."""
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
    """Whether another process with this id runs on this machine.

    Args:
        process: its id.
    """
    if process == os.getpid():
        return False  # the id was reused: this process has not written anything yet
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except OverflowError:
        return False
    return True
