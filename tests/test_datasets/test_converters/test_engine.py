"""The engine runs in parallel, resumes, can run twice, and never leaves an incomplete dataset that looks complete."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.prepared import more_of_cityscapes, prepare_part, visible
from helpers.published import BUILDERS, SIZE, as_opencv_reads, end_process, labels_in_bands, write_map, write_photo

from mmmaskformer.apis import cli
from mmmaskformer.datasets.converters import engine, staging, unpacking
from mmmaskformer.datasets.converters.recipes import RECIPES
from mmmaskformer.datasets.converters.records import read_record

CITY = RECIPES['cityscapes_panoptic']


@pytest.fixture
def tree(tmp_path):
    return BUILDERS['cityscapes_panoptic'](tmp_path)


@pytest.fixture
def finished(tmp_path):
    """The same data, prepared without an interruption."""
    tree = BUILDERS['cityscapes_panoptic'](tmp_path / 'other')
    prepare_part(tree)
    return visible(tree.root)


class Stopping:
    """Converts some images, then raises KeyboardInterrupt."""

    def __init__(self, convert, after):
        self.convert, self.left, self.names = convert, after, []

    def __call__(self, item):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.names.append(item.name)
        return self.convert(item)


def test_interrupted_work_is_marked_as_unfinished_and_continued(tree, finished, monkeypatch, capsys):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    before = visible(tree.root)
    stopping = Stopping(CITY.convert, after=2)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree, CITY._replace(convert=stopping))
    assert visible(tree.root) == before and read_record(tree.root, CITY.name) is None
    assert cli.main(['data', 'check', CITY.name, '--root', str(tree.root)]) == 2
    assert 'the record of a complete dataset. Fix: mmmaskformer data prepare' in capsys.readouterr().err

    # a line of the journal and a file that were being written when the power failed
    folder = tree.root / '.cityscapes_panoptic.preparing'
    with open(folder / 'journal.jsonl', 'a') as stream:
        stream.write('{"split": "val", "na')
    (next(folder.rglob('*_panoptic.png')).parent / '.a.png.1.part').write_bytes(b'half')
    rest = Stopping(CITY.convert, after=-1)
    assert not prepare_part(tree, CITY._replace(convert=rest)).kept
    assert len(rest.names) == 1 and not set(rest.names) & set(stopping.names)
    assert visible(tree.root) == finished and not folder.exists()


def test_second_run_keeps_everything(tree):
    first = prepare_part(tree)
    before = {path: path.stat().st_mtime_ns for path in tree.root.rglob('*')}
    second = prepare_part(tree, CITY._replace(convert=end_process))
    assert second.kept and second.record == first.record
    assert {path: path.stat().st_mtime_ns for path in tree.root.rglob('*')} == before


def test_second_run_needs_no_files_of_the_publishers(tmp_path):
    tree = BUILDERS['cocostuff10k'](tmp_path)
    prepare_part(tree, RECIPES['cocostuff10k'])
    tree.source.rename(tmp_path / 'gone')
    assert prepare_part(tree, RECIPES['cocostuff10k']).kept
    next(tree.root.rglob('*_labelTrainIds.png')).unlink()
    with pytest.raises(ValueError, match=r'1 of its 6 files are missing .*--overwrite'):
        prepare_part(tree, RECIPES['cocostuff10k'])


def test_checked_data_are_checked_again_when_images_are_added(tmp_path):
    tree = BUILDERS['mapillary'](tmp_path)
    assert not prepare_part(tree, RECIPES['mapillary']).kept and prepare_part(tree, RECIPES['mapillary']).kept
    write_photo(tree.root / 'training/images/new.jpg')
    write_map(tree.root / 'training/labels/new.png', labels_in_bands((1, 2)) % 66)
    again = prepare_part(tree, RECIPES['mapillary'])
    assert not again.kept and again.record.images == {'training': 3, 'validation': 1}


@pytest.mark.parametrize('name, folder', [
    ('ade20k', 'annotations/training'),
    ('mapillary', 'training/images'),
    ('mapillary_panoptic', 'validation/panoptic'),
    ('cityscapes', 'leftImg8bit/train'),
    ('coco_panoptic', 'annotations/panoptic_val2017'),
])  # fmt: skip
def test_deleted_files_are_reported_later(tmp_path, monkeypatch, capsys, name, folder):
    """Includes the publishers' files, which the preparation did not write."""
    tree = BUILDERS[name](tmp_path)
    prepare_part(tree, RECIPES[name])
    shutil.rmtree(tree.root / folder)
    assert cli.main(['data', 'check', name, '--root', str(tree.root)]) == 2
    assert f'the folder {tree.root / folder} does not exist' in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match='the folder .* does not exist'):
        prepare_part(tree, RECIPES[name]._replace(images={split: len(row) for split, row in tree.truth.items()}))


def test_deleted_folder_of_an_archive_is_unpacked_again(tmp_path, capsys):
    tree = BUILDERS['coco_panoptic'](tmp_path)
    prepare_part(tree, RECIPES['coco_panoptic'])
    pngs = tree.root / 'annotations/panoptic_train2017'
    shutil.rmtree(pngs)
    assert cli.main(['data', 'check', 'coco_panoptic', '--root', str(tree.root)]) == 2
    assert 'annotations/panoptic_train2017.zip is not unpacked' in capsys.readouterr().err
    assert not prepare_part(tree, RECIPES['coco_panoptic']).kept and len(list(pngs.iterdir())) == 2
    assert prepare_part(tree, RECIPES['coco_panoptic']).kept


def test_files_of_other_tools_are_kept_if_they_are_the_same(tree):
    recipe = RECIPES['cityscapes']
    labels = next(tree.root.rglob('aachen*_labelIds.png'))
    mine = labels.with_name(labels.name.replace('labelIds', 'labelTrainIds'))
    shown = next(iter(tree.truth['train'].values())).labels
    write_map(mine, np.where(shown < 0, 255, shown))
    written_by_pillow = mine.read_bytes()
    prepare_part(tree, recipe)
    assert mine.read_bytes() == written_by_pillow

    write_map(mine, np.zeros(SIZE))
    (tree.root / 'cityscapes.prepared.json').unlink()
    before = visible(tree.root)
    with pytest.raises(ValueError, match=r'aachen.*_labelTrainIds\.png: this file exists and differs'):
        prepare_part(tree, recipe)
    assert visible(tree.root) == before
    prepare_part(tree, recipe, overwrite=True)
    assert (as_opencv_reads(mine) == np.where(shown < 0, 255, shown)).all()


@pytest.mark.parametrize('moved', [0, 1, 2])
def test_interrupted_while_files_are_renamed(tree, finished, monkeypatch, moved):
    move, calls = os.replace, []

    def move_some(source, target):
        if Path(target).suffix != '.jsonl' and '.preparing' not in str(target) and 'preparing' in str(source):
            calls.append(target)
            if len(calls) > moved:
                raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(staging.os, 'replace', move_some)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree)
    monkeypatch.undo()
    # PNG files get their final names first; nothing reads them without the JSON files
    names = set(visible(tree.root))
    assert 'cityscapes_panoptic.prepared.json' not in names and 'gtFine/cityscapes_panoptic_val.json' not in names
    prepare_part(tree)
    assert visible(tree.root) == finished


def test_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    tree = BUILDERS['cocostuff10k'](tmp_path / 'data')
    monkeypatch.chdir(tmp_path)
    assert cli.main(['data', 'prepare', 'cocostuff10k', '--partial', '--workers', '1']) == 0
    expected = visible(tree.root)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    arguments = ['--root', '../again', '--source', '../data/cocostuff-10k-v1.1', '--partial', '--workers', '1']
    assert cli.main(['data', 'prepare', 'cocostuff10k', *arguments]) == 0
    assert visible(tmp_path / 'again') == expected and not any((tmp_path / 'elsewhere').iterdir())


def test_images_are_linked_where_possible(tmp_path, monkeypatch):
    tree = BUILDERS['cocostuff10k'](tmp_path)
    monkeypatch.setattr(staging.os, 'link', lambda *args: (_ for _ in ()).throw(OSError('another disk')))
    prepare_part(tree, RECIPES['cocostuff10k'])
    copies = {path.name: path.read_bytes() for path in tree.root.rglob('*.jpg')}
    monkeypatch.undo()
    prepare_part(tree, RECIPES['cocostuff10k'], overwrite=True)
    originals = {path.name: path for path in tree.source.rglob('*.jpg')}
    for path in tree.root.rglob('*.jpg'):
        assert path.samefile(originals[path.name]) and path.read_bytes() == copies[path.name]


def test_the_rest_of_the_data_is_added_to_a_part_of_them(tree):
    prepare_part(tree)
    more_of_cityscapes(tree, 2)
    done = prepare_part(tree)
    assert not done.kept and done.record.images == {'train': 4, 'val': 1}
    content = json.loads((tree.root / 'gtFine/cityscapes_panoptic_train.json').read_text())
    assert len(content['images']) == 4
    assert prepare_part(tree).kept


def test_interrupted_replacement_does_not_look_complete(tree, monkeypatch):
    first = prepare_part(tree)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree, CITY._replace(convert=Stopping(CITY.convert, after=4)), overwrite=True)
    assert prepare_part(tree).record == first.record  # nothing was written

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, '_move_into', stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree, overwrite=True)
    assert read_record(tree.root, CITY.name) is None
    monkeypatch.undo()
    assert not prepare_part(tree).kept and read_record(tree.root, CITY.name) == first.record


def test_ctrl_c_on_the_command_line(tree, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, 'cityscapes_panoptic', CITY._replace(convert=Stopping(CITY.convert, after=4)))
    arguments = ['data', 'prepare', 'cityscapes_panoptic', '--root', str(tree.root), '--partial', '--workers', '1']
    assert cli.main(arguments) == 130
    assert 'the same command resumes from here' in capsys.readouterr().err


def test_two_preparations_at_once(tree):
    lock = tree.root / '.cityscapes_panoptic.preparing/lock'
    lock.parent.mkdir()
    lock.write_text(f'{os.getppid()} {staging.socket.gethostname()}')
    with pytest.raises(ValueError, match=rf'lock: another preparation is running here .*{os.getppid()}'):
        prepare_part(tree)
    lock.write_text(f'4194304 {staging.socket.gethostname()}')  # of a killed process
    prepare_part(tree)


def test_a_lock_has_its_owner_from_the_start(tree, monkeypatch):
    """To another process, an empty lock would look like that of a killed one."""
    seen = []
    link = staging.os.link

    def look(source, target):
        seen.append((Path(source).read_text(), Path(target).exists()))
        link(source, target)

    monkeypatch.setattr(staging.os, 'link', look)
    folder = staging.Staging(tree.root, 'a', 1)
    with folder.locked():
        assert seen == [(f'{staging.os.getpid()} {staging.socket.gethostname()}', False)]
        assert [path.name for path in folder.folder.iterdir()] == ['lock']
    assert not list(folder.folder.iterdir())


def test_a_lock_that_another_process_has_taken_over(tree, monkeypatch):
    """The time between reading the lock of a killed process and removing it."""
    folder = staging.Staging(tree.root, 'a', 1)
    folder.folder.mkdir()
    lock = folder.folder / 'lock'
    lock.write_text(f'4194304 {staging.socket.gethostname()}')
    mine = f'{staging.os.getppid()} {staging.socket.gethostname()}'
    rename = staging.os.rename

    def be_late(source, target):
        lock.write_text(mine)
        rename(source, target)

    monkeypatch.setattr(staging.os, 'rename', be_late)
    with pytest.raises(ValueError, match='another preparation is running'), folder.locked():
        pass
    assert lock.read_text() == mine


def test_a_disk_without_hard_links(tree, monkeypatch):
    def refuse(source, target):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(staging.os, 'link', refuse)
    folder = staging.Staging(tree.root, 'a', 1)
    with folder.locked():
        (folder.folder / 'lock').write_text(f'{staging.os.getppid()} {staging.socket.gethostname()}')
        with pytest.raises(ValueError, match='another preparation is running'), folder.locked():
            pass


def test_results_of_another_process_are_kept(tree, monkeypatch):
    """Both checked before either had begun."""
    recipe, done = CITY, []
    sample = engine._try_sample

    def meanwhile(*arguments):
        sample(*arguments)
        if not done:
            done.append(None)
            done[0] = prepare_part(tree)

    monkeypatch.setattr(engine, '_try_sample', meanwhile)
    counting = Stopping(recipe.convert, after=-1)
    second = prepare_part(tree, recipe._replace(convert=counting))
    assert second.kept and second.record == done[0].record and len(counting.names) == 3  # of the sample
    assert not (tree.root / '.cityscapes_panoptic.preparing').exists()


def test_unfinished_work_of_another_release_is_not_used(tree, finished, monkeypatch):
    monkeypatch.setattr(engine, 'VERSION', 0)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree, CITY._replace(convert=Stopping(CITY.convert, after=5)))
    monkeypatch.undo()
    counting = Stopping(CITY.convert, after=-1)
    prepare_part(tree, CITY._replace(convert=counting))
    assert len(counting.names) == 2 * 3 and visible(tree.root) == finished  # each once more in the sample


def test_defect_behind_the_sample_leaves_the_dataset_as_it_was(tree, monkeypatch):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    last = sorted(tree.root.rglob('*_instanceIds.png'))[-1]
    good = last.read_bytes()
    write_map(last, np.full(SIZE, 99), np.uint16)
    before = visible(tree.root)
    with pytest.raises(ValueError, match=r'lindau.*found the ids 99'):
        prepare_part(tree)
    assert visible(tree.root) == before
    last.write_bytes(good)
    prepare_part(tree)


def test_folder_that_cannot_be_written(tree, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'mkdir', refuse)
    with pytest.raises(ValueError, match=r'preparing: this folder cannot be created \(Permission denied\).*--root'):
        prepare_part(tree)


def test_record_of_something_else(tree):
    (tree.root / 'cityscapes_panoptic.prepared.json').write_text('[]')
    with pytest.raises(ValueError, match=r'cityscapes_panoptic\.prepared\.json: not the record of a preparation'):
        prepare_part(tree)


def test_unpacking_continues_after_an_interruption(tmp_path, monkeypatch):
    tree = BUILDERS['coco_panoptic'](tmp_path)
    recipe, extract, names = RECIPES['coco_panoptic'], unpacking.zipfile.ZipFile.extract, []

    def stop(self, member, folder):
        if names:
            raise KeyboardInterrupt
        names.append(member.filename)
        return extract(self, member, folder)

    monkeypatch.setattr(unpacking.zipfile.ZipFile, 'extract', stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_part(tree, recipe)
    pngs = tree.root / 'annotations/panoptic_train2017'
    assert len(names) == 1 and not pngs.exists()

    def count(self, member, folder):
        names.append(member.filename)
        return extract(self, member, folder)

    monkeypatch.setattr(unpacking.zipfile.ZipFile, 'extract', count)
    prepare_part(tree, recipe)
    assert len(names) == len(set(names)) == 2
    assert sorted(path.name for path in pngs.iterdir()) == ['000000000009.png', '000000000025.png']
