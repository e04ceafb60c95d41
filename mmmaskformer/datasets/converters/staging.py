"""The staging folder of a preparation, and the move of finished files to their final names."""

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmmaskformer.formats.whole_files import CANNOT_WRITE, is_running, whole_file, whole_folder, write_whole

JOURNAL, LOCK, PUBLISHING, FILES = 'journal.jsonl', 'lock', 'publishing', 'files'


class Staging:
    """A hidden folder in the dataset, ``.NAME.preparing``, with finished files and a journal with a line per image.

    If the process is killed, the next one continues from this folder. Nothing outside of it is changed before
    `publish`, which renames the files, or copies them if the destination is on another disk.

    Args:
        root: root of the dataset; created when the first file is written.
        name: name of the dataset.
        version: work of another version is discarded.
    """

    def __init__(self, root: Path, name: str, version: Any) -> None:
        self.root = root
        self.folder = root / f'.{name}.preparing'
        self.files = self.folder / FILES
        self._journal = self.folder / JOURNAL
        self._header = json.dumps({'name': name, 'version': version}, sort_keys=True)

    @contextmanager
    def explaining_full_disk(self) -> Iterator[None]:
        """Let errors of the disk name the dataset's folder, and say that the work done so far is kept.

        Raises:
            OSError: instead of one without a file name.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            raise type(error)(
                f'{error.filename or self.folder}: could not be written ({os.strerror(error.errno)}). Expected enough '
                'space for the dataset. Fix: free space, or pass another folder with --root. The same command '
                'continues where it stopped.'
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes.

        Raises:
            ValueError: if another process is using it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f'{self.folder}: this folder cannot be created ({error.strerror}). Expected a writable dataset '
                'folder. Fix: make it writable, or pass another folder with --root.'
            ) from error
        lock = self.folder / LOCK
        owner = f'{os.getpid()} {socket.gethostname()}'
        while not _claim(lock, owner):
            other = _read(lock)
            if other is None:
                continue  # that process has just finished
            if _may_be_at_work(other):
                raise ValueError(
                    f'{lock}: another preparation is running here (process and host: {other}), expected none. Fix: '
                    'wait for it; if that process no longer exists, remove this file.'
                )
            _remove_stale(lock, other)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def read_journal(self) -> dict[tuple[str, str], Any]:
        """The images that earlier processes finished: the note of each, by split and name.

        A truncated last line is ignored. A journal of another version is ignored as well, and its files are removed.
        """
        try:
            header, *lines = self._journal.read_text(encoding='utf-8').split('\n')
        except FileNotFoundError:
            header, lines = '', []
        if header != self._header:
            shutil.rmtree(self.files, ignore_errors=True)
            (self.folder / PUBLISHING).unlink(missing_ok=True)
            write_whole(self._journal, f'{self._header}\n')
            return {}
        whole, rest = lines[:-1], lines[-1] if lines else ''
        if rest:  # truncated: the next entry would be appended to the same line
            write_whole(self._journal, '\n'.join([header, *whole, '']))
        rows = map(json.loads, whole)
        return {(row['split'], row['name']): row['note'] for row in rows}

    @contextmanager
    def journal(self):
        """Open the journal for appending; yields a function ``note(split, name, content)``."""
        with open(self._journal, 'a', encoding='utf-8') as stream:

            def note(split: str, name: str, content: Any) -> None:
                stream.write(json.dumps({'split': split, 'name': name, 'note': content}) + '\n')
                stream.flush()

            yield note

    def has(self, target: str) -> bool:
        """Whether the folder contains a finished file."""
        return (self.files / target).is_file()

    @property
    def is_publishing(self) -> bool:
        """Whether a process was killed while it moved finished files, which may be here or in their final place."""
        return (self.folder / PUBLISHING).is_file()

    def publish(self, last: list[str]) -> None:
        """Move all finished files to their final places; a new folder is renamed as a whole.

        Args:
            last: files whose existence shows that the dataset is complete; moved last.
        """
        for part in self.files.rglob('.*.part'):  # left by processes that were killed while writing
            part.unlink()
        write_whole(self.folder / PUBLISHING, '')
        kept = self.folder / 'last'
        for name in last:
            if self.has(name):
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.files / name, kept / name)
        for tree in (self.files, kept):
            if tree.is_dir():
                _move_into(tree, self.root)

    def remove(self) -> None:
        """Remove the folder after completion."""
        shutil.rmtree(self.folder)


def write_target(path: Path, content: bytes | Path) -> None:
    """Write a finished file atomically.

    Args:
        path: path of the file; its folder is created.
        content: its bytes, or a file to copy; on the same disk the copy is a hard link, which takes no space.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        write_whole(path, content)
        return
    with whole_file(path) as part:
        part.unlink(missing_ok=True)
        try:
            os.link(content.resolve(), part)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(content, part)


def _move_into(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        rename_or_copy(source, target)
        return
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir():
            _move_into(entry, place)
        else:
            rename_or_copy(entry, place)


def rename_or_copy(source: Path, target: Path) -> None:
    """Rename a file or folder; if the target is on another disk, copy it first and rename the complete copy.

    Args:
        source: finished file or folder; it no longer exists afterwards.
        target: final name. An existing file is replaced; a folder must not exist.
    """
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_to_another_disk(source, target)


def _move_to_another_disk(source: Path, target: Path) -> None:
    if source.is_dir():
        with whole_folder(target) as part:
            shutil.copytree(source, part, dirs_exist_ok=True)
        shutil.rmtree(source)
        return
    with whole_file(target) as part:
        shutil.copyfile(source, part)
    source.unlink()


def _claim(lock: Path, owner: str) -> bool:
    """Create the lock together with its content; False if there is one."""
    lock.parent.mkdir(parents=True, exist_ok=True)  # another process may just have removed it
    part = lock.with_name(f'.{LOCK}.{os.getpid()}')
    try:
        write_whole(part, owner)
        return _claim_with_link(part, lock, owner)
    except FileNotFoundError:  # the folder was removed
        return False
    finally:
        part.unlink(missing_ok=True)


def _claim_with_link(part: Path, lock: Path, owner: str) -> bool:
    try:
        os.link(part, lock)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError:  # the file system has no hard links
        return _claim_without_links(lock, owner)
    return True


def _claim_without_links(lock: Path, owner: str) -> bool:
    try:
        with open(lock, 'x', encoding='utf-8') as stream:
            stream.write(owner)
    except FileExistsError:
        return False
    except OSError:  # the disk is full
        lock.unlink(missing_ok=True)
        raise
    return True


def _read(lock: Path) -> str | None:
    """Process and host in a lock; None if the file was removed."""
    try:
        return lock.read_text(encoding='utf-8')
    except FileNotFoundError:
        return None


def _remove_stale(lock: Path, owner: str) -> None:
    """Remove the lock of a killed process, unless another process has replaced it in the meantime."""
    taken = lock.with_name(f'.{LOCK}.{os.getpid()}.stale')
    with suppress(FileNotFoundError):
        os.rename(lock, taken)
        if _read(taken) != owner:
            os.replace(taken, lock)
        taken.unlink(missing_ok=True)


def _may_be_at_work(owner: str) -> bool:
    """Whether the process that holds a lock may still be running; unknown for other machines."""
    number, _, host = owner.partition(' ')
    if host != socket.gethostname() or not number.isdigit():
        return bool(owner)
    return is_running(int(number))
