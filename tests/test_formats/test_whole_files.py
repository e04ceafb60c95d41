"""Files and folders are written atomically."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from mmmaskformer.formats.whole_files import (
    remove_parts,
    require_writable,
    whole_file,
    whole_folder,
    write_whole,
)


def listing(folder) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('content', ['größer', 'größer'.encode()])
def test_round_trip(tmp_path, content):
    for text in ('old', content):
        write_whole(tmp_path / 'file.json', text)
    assert listing(tmp_path) == {'file.json': 'größer'}


def test_an_error_leaves_the_older_file(tmp_path):
    (tmp_path / 'file').write_text('old')
    with pytest.raises(RuntimeError, match='full disk'), whole_file(tmp_path / 'file') as part:
        part.write_text('half')
        assert listing(tmp_path) == {'file': 'old', part.name: 'half'}
        raise RuntimeError('full disk')
    assert listing(tmp_path) == {'file': 'old'}


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / 'plain').write_text('')
    write_whole(tmp_path / 'file', '')
    assert stat.S_IMODE(os.stat(tmp_path / 'file').st_mode) == stat.S_IMODE(os.stat(tmp_path / 'plain').st_mode)


def test_a_folder_replaces_an_older_one_as_a_whole(tmp_path):
    for name in ('old', 'new'):
        with whole_folder(tmp_path / 'above/set') as fresh:
            assert list(fresh.iterdir()) == []
            (fresh / 'part').mkdir()
            (fresh / 'part' / name).write_text(name)
    assert listing(tmp_path) == {'above/set/part/new': 'new'}
    assert [path.name for path in (tmp_path / 'above').iterdir()] == ['set']


def test_an_error_leaves_the_older_folder(tmp_path):
    with whole_folder(tmp_path / 'set') as fresh:
        (fresh / 'a').write_text('old')
    with pytest.raises(RuntimeError, match='full disk'), whole_folder(tmp_path / 'set') as fresh:
        (fresh / 'a').write_text('half')
        raise RuntimeError('full disk')
    assert listing(tmp_path) == {'set/a': 'old'} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_renamed_leaves_the_older_one(tmp_path):
    with whole_folder(tmp_path / 'set') as fresh:
        (fresh / 'a').write_text('old')
    with pytest.raises(OSError, match='set'), whole_folder(tmp_path / 'set') as fresh:
        fresh.rmdir()
    assert listing(tmp_path) == {'set/a': 'old'} and len(list(tmp_path.iterdir())) == 1


def test_temporary_files_of_dead_processes_are_removed(tmp_path):
    dead, own, other = (tmp_path / f'.file.{number}.part' for number in (999999999, os.getpid(), os.getppid()))
    for path in (dead, own, other, tmp_path / '.file.part', tmp_path / 'file'):
        path.write_text('')
    assert set(remove_parts(tmp_path)) == {dead, own}
    assert set(listing(tmp_path)) == {other.name, '.file.part', 'file'}
    assert remove_parts(tmp_path / 'absent') == []


def test_temporary_files_of_other_machines_are_kept_for_a_day(tmp_path):
    new, old = tmp_path / '.a.0123abcd-7.part', tmp_path / '.b.0123abcd-7.part'
    for path in (new, old):
        path.write_text('')
    os.utime(old, (0, 0))
    assert remove_parts(tmp_path) == [old]
    assert remove_parts(tmp_path, of_any_machine=True) == [new]


def test_the_first_file_in_a_folder_removes_temporary_files_of_killed_processes(tmp_path):
    (tmp_path / '.other.999999999.part').write_text('half')
    write_whole(tmp_path / 'file', 'new')
    assert listing(tmp_path) == {'file': 'new'}


def test_a_name_as_long_as_disks_allow(tmp_path):
    write_whole(tmp_path / ('ß' * 127), 'new')
    assert list(listing(tmp_path).values()) == ['new']


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Paths that are not regular files, by their name in messages."""
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # socket paths must be short
    listener.bind('socket')
    os.mkfifo('pipe')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'dangling').symlink_to('nothing')
    yield {
        'a folder': tmp_path / 'folder',
        'a socket': tmp_path / 'socket',
        'a pipe': tmp_path / 'pipe',
        'a broken symbolic link': tmp_path / 'dangling',
    }
    listener.close()


def test_nothing_but_a_regular_file_is_replaced(odd):
    for kind, path in odd.items():
        before = os.lstat(path)
        with pytest.raises(FileExistsError, match=f'{path}: found {kind}, expected a file or nothing'):
            write_whole(path, 'new')
        assert os.lstat(path).st_ino == before.st_ino and os.lstat(path).st_mode == before.st_mode
    with pytest.raises(FileExistsError, match='/dev/null: found a device'):
        require_writable('/dev/null')
    with pytest.raises(FileExistsError, match='metric.out: .*found a pipe, expected a folder'):
        require_writable(odd['a pipe'], 'metric.out', folder=True)


def test_the_parts_of_a_path(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    require_writable(tmp_path / 'new/folders/file')
    with pytest.raises(NotADirectoryError, match=r'file is a file, expected a folder'):
        require_writable(tmp_path / 'file/below')
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match=rf'--out: {tmp_path}/new: the folder {tmp_path} is read-only. Fix'):
        require_writable(tmp_path / 'new', '--out')


def test_a_link_to_a_file_remains_a_link(tmp_path):
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'link').symlink_to('file')
    write_whole(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink() and listing(tmp_path) == {'file': 'new', 'link': 'new'}


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk(tmp_path, monkeypatch, code):
    write_whole(tmp_path / 'file', 'old')

    def full(number):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', full)
    for name, remains in (('file', 'the older file is unchanged'), ('new', 'no file exists now')):
        with pytest.raises(OSError, match=rf'{name}: could not be written \({os.strerror(code)}\); {remains}. Fix'):
            write_whole(tmp_path / name, 'new')
    assert listing(tmp_path) == {'file': 'old'}


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError, match='absent'), whole_file(tmp_path / 'file'):
        (tmp_path / 'absent').read_text()


def test_a_folder_whose_writer_was_killed_is_restored(tmp_path):
    def left(ending, text):
        folder = tmp_path / f'.set.999999999.{ending}'
        folder.mkdir()
        (folder / 'a').write_text(text)

    left('old', 'old')  # killed between the two renames
    left('new', 'half')
    with pytest.raises(RuntimeError), whole_folder(tmp_path / 'set'):
        raise RuntimeError
    assert listing(tmp_path) == {'set/a': 'old'}
    left('old', 'older')  # killed while the old folder was removed
    with whole_folder(tmp_path / 'set') as fresh:
        (fresh / 'a').write_text('new')
    assert listing(tmp_path) == {'set/a': 'new'} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_behind_a_link(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    with whole_folder(tmp_path / 'link') as fresh:
        (fresh / 'a').write_text('new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'real/a').read_text() == 'new'


def test_long_names_written_at_the_same_time_do_not_collide(tmp_path):
    first, second = (tmp_path / f'{"n" * 60}{letter}.png' for letter in 'ab')
    with whole_file(first) as one, whole_file(second) as other:
        one.write_bytes(b'first')
        other.write_bytes(b'second')
    assert (first.read_bytes(), second.read_bytes()) == (b'first', b'second')
    with whole_file(first) as one:  # two threads write one file: the last one wins, with a complete file
        write_whole(first, b'other')
        one.write_bytes(b'last')
    assert first.read_bytes() == b'last'


def test_a_write_protected_file_is_not_replaced(tmp_path, monkeypatch):
    file = tmp_path / 'file'
    file.write_text('old')
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != file or not mode & os.W_OK)
    with pytest.raises(PermissionError, match=f'--out: {file}: the file is write-protected. Fix'):
        require_writable(file, '--out')
    with pytest.raises(PermissionError, match='file is write-protected'):
        write_whole(file, 'new')
    assert listing(tmp_path) == {'file': 'old'}


def test_a_link_to_itself(tmp_path):
    (tmp_path / 'loop').symlink_to('loop')
    with pytest.raises(FileExistsError, match='loop: found a broken symbolic link'):
        write_whole(tmp_path / 'loop', 'new')
