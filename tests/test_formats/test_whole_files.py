"""Files and folders appear whole or not at all."""

import os
import stat

import pytest

from mmmaskformer.formats.whole_files import remove_parts, whole_file, whole_folder, write_whole


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


def test_parts_of_dead_processes_are_removed(tmp_path):
    dead, own, other = (tmp_path / f'.file.{number}.part' for number in (999999999, os.getpid(), os.getppid()))
    for path in (dead, own, other, tmp_path / '.file.part', tmp_path / 'file'):
        path.write_text('')
    assert set(remove_parts(tmp_path)) == {dead, own}
    assert set(listing(tmp_path)) == {other.name, '.file.part', 'file'}
    assert remove_parts(tmp_path / 'absent') == []
