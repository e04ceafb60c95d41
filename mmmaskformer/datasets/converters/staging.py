"""Where a preparation keeps its work until all of it is done, and how that work gets its final names."""

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmmaskformer.formats.whole_files import is_running, whole_file, whole_folder, write_whole

JOURNAL, LOCK, PUBLISHING, FILES = 'journal.jsonl', 'lock', 'publishing', 'files'


class Staging:
    """A hidden folder in the data set, ``.NAME.preparing``: finished files, and a journal with a line for each image.

    If the process is killed, the next one finds there what is done. Nothing outside the folder is touched before
    `publish`, which renames, or copies to folders that lie on another disk.

    Args:
        root: of the data set; created when the first file is written.
        name: of the data set.
        version: work of another version is thrown away.
    """

    def __init__(self, root: Path, name: str, version: Any) -> None:
        self.root = root
        self.folder = root / f'.{name}.preparing'
        self.files = self.folder / FILES
        self._journal = self.folder / JOURNAL
        self._header = json.dumps({'name': name, 'version': version}, sort_keys=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            ValueError: if another one is at work on it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f'{self.folder}: this folder cannot be created ({error.strerror}). Expected a data set to which files '
                'can be added. Fix: make it writable, or give another folder with --root.'
            ) from error
        lock = self.folder / LOCK
        owner = f'{os.getpid()} {socket.gethostname()}'
        while not _claim(lock, owner):
            other = _read(lock)
            if other is None:
                continue  # it has just ended
            if _may_be_at_work(other):
                raise ValueError(
                    f'{lock}: another preparation is at work here (process and host: {other}), expected none. Fix: '
                    'wait for it; if there is no such process any more, remove that file.'
                )
            _remove_stale(lock, other)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def read_journal(self) -> dict[tuple[str, str], Any]:
        """What earlier processes finished: split and name of an image to what was noted of it.

        A last line that was cut off is ignored, and so is a journal of another version, whose files are removed.
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
        if rest:  # cut off: what follows would stand in the same line
            write_whole(self._journal, '\n'.join([header, *whole, '']))
        rows = map(json.loads, whole)
        return {(row['split'], row['name']): row['note'] for row in rows}

    @contextmanager
    def journal(self):
        """Opens the journal to add to; yields a function ``note(split, name, content)``."""
        with open(self._journal, 'a', encoding='utf-8') as stream:

            def note(split: str, name: str, content: Any) -> None:
                stream.write(json.dumps({'split': split, 'name': name, 'note': content}) + '\n')
                stream.flush()

            yield note

    def has(self, target: str) -> bool:
        """Whether a file is finished here."""
        return (self.files / target).is_file()

    @property
    def is_publishing(self) -> bool:
        """Whether a process was killed while it renamed finished files: they may lie here or in their places."""
        return (self.folder / PUBLISHING).is_file()

    def publish(self, last: list[str]) -> None:
        """Move all finished files to their places, in one renaming where a folder is new.

        Args:
            last: files that readers take for the sign that the others are there; moved after them.
        """
        for part in self.files.rglob('.*.part'):  # of processes that were killed while they wrote
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
        """Remove the folder, when all is done."""
        shutil.rmtree(self.folder)


def write_target(path: Path, content: bytes | Path) -> None:
    """Write a finished file, whole or not at all.

    Args:
        path: of the file; its folder is created.
        content: its bytes, or a file of which it is a copy: a hard link on the same disk, which takes no space.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        write_whole(path, content)
        return
    with whole_file(path) as part:
        part.unlink(missing_ok=True)
        try:
            os.link(content.resolve(), part)
        except OSError:  # another disk, or one without links
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
    """Rename a file or a folder. On another disk, to which a link may lead, a whole copy gets the name.

    Args:
        source: what is finished; gone afterwards.
        target: its name. An older file is replaced; a folder must not be there.
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
    """Write the lock, with its content from the start, unless there is one; whether it was written."""
    lock.parent.mkdir(parents=True, exist_ok=True)  # an earlier process may just have removed the folder
    part = lock.with_name(f'.{LOCK}.{os.getpid()}')
    try:
        write_whole(part, owner)
        os.link(part, lock)
    except FileExistsError:
        return False
    except FileNotFoundError:  # the folder went
        return False
    except OSError:  # a disk without hard links
        return _claim_without_links(lock, owner)
    finally:
        part.unlink(missing_ok=True)
    return True


def _claim_without_links(lock: Path, owner: str) -> bool:
    try:
        with open(lock, 'x', encoding='utf-8') as stream:
            stream.write(owner)
    except FileExistsError:
        return False
    return True


def _read(lock: Path) -> str | None:
    """Process and host of a lock; None if it is gone."""
    try:
        return lock.read_text(encoding='utf-8')
    except FileNotFoundError:
        return None


def _remove_stale(lock: Path, owner: str) -> None:
    """Remove the lock of a process that was killed; not that of one which has taken it over in the meantime."""
    taken = lock.with_name(f'.{LOCK}.{os.getpid()}.stale')
    with suppress(FileNotFoundError):
        os.rename(lock, taken)
        if _read(taken) != owner:
            with suppress(FileExistsError):
                os.link(taken, lock)
        taken.unlink(missing_ok=True)


def _may_be_at_work(owner: str) -> bool:
    """Whether the process of a lock may still be at work; of other machines nothing is known."""
    number, _, host = owner.partition(' ')
    if host != socket.gethostname() or not number.isdigit():
        return bool(owner)
    return is_running(int(number))
