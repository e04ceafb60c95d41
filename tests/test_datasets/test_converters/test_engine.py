"""The engine: parallel, resumable, safe to run twice, and never a data set that looks complete and is not."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.published import BUILDERS, SIZE, as_opencv_reads, end_process, labels_in_bands, write_map, write_photo
from helpers.runs import ROOT

from mmmaskformer.apis import cli
from mmmaskformer.datasets.converters import engine, processes, progress, staging, unpacking
from mmmaskformer.datasets.converters.engine import prepare
from mmmaskformer.datasets.converters.recipes import RECIPES
from mmmaskformer.datasets.converters.records import read_record

CITY = RECIPES['cityscapes_panoptic']


def visible(root: Path) -> dict[str, bytes]:
    """Content of all files but those in hidden folders."""
    files = (path for path in root.rglob('*') if path.is_file())
    names = {str(path.relative_to(root)): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith('.')}


def run(tree, recipe=CITY, **kwargs):
    return prepare(recipe, tree.root, tree.source, partial_set=True, **{'workers': 1} | kwargs)


def more_images(tree, count):
    """Images of train, so that there are enough for several processes."""
    for number in range(100, 100 + count):
        start = f'train/aachen/aachen_000000_{number:06d}'
        write_photo(tree.root / f'leftImg8bit/{start}_leftImg8bit.png', seed=number)
        write_map(tree.root / f'gtFine/{start}_gtFine_labelIds.png', np.full(SIZE, 7))
        write_map(tree.root / f'gtFine/{start}_gtFine_instanceIds.png', np.full(SIZE, 26000 + number), np.uint16)
        write_map(tree.root / f'gtFine/{start}_gtFine_color.png', np.zeros((*SIZE, 4)))


@pytest.fixture
def tree(tmp_path):
    return BUILDERS['cityscapes_panoptic'](tmp_path)


@pytest.fixture
def finished(tmp_path):
    """The same data, prepared without any interruption."""
    tree = BUILDERS['cityscapes_panoptic'](tmp_path / 'other')
    run(tree)
    return visible(tree.root)


class Stopping:
    """Converts some images, then stops as Ctrl-C does."""

    def __init__(self, convert, after):
        self.convert, self.left, self.names = convert, after, []

    def __call__(self, item):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.names.append(item.name)
        return self.convert(item)


def test_interrupted_work_looks_unfinished_and_is_taken_up(tree, finished, monkeypatch, capsys):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    before = visible(tree.root)
    stopping = Stopping(CITY.convert, after=2)
    with pytest.raises(KeyboardInterrupt):
        run(tree, CITY._replace(convert=stopping))
    assert visible(tree.root) == before and read_record(tree.root, CITY.name) is None
    assert cli.main(['data', 'check', CITY.name, '--root', str(tree.root)]) == 2
    assert 'the record of a complete data set. Fix: mmmaskformer data prepare' in capsys.readouterr().err

    # a line of the journal and a file that were being written when the power failed
    folder = tree.root / '.cityscapes_panoptic.preparing'
    with open(folder / 'journal.jsonl', 'a') as stream:
        stream.write('{"split": "val", "na')
    (next(folder.rglob('*_panoptic.png')).parent / '.a.png.1.part').write_bytes(b'half')
    rest = Stopping(CITY.convert, after=-1)
    assert not run(tree, CITY._replace(convert=rest)).kept
    assert len(rest.names) == 1 and not set(rest.names) & set(stopping.names)
    assert visible(tree.root) == finished and not folder.exists()


def test_second_run_keeps_everything(tree):
    first = run(tree)
    before = {path: path.stat().st_mtime_ns for path in tree.root.rglob('*')}
    second = run(tree, CITY._replace(convert=end_process))
    assert second.kept and second.record == first.record
    assert {path: path.stat().st_mtime_ns for path in tree.root.rglob('*')} == before


def test_second_run_needs_no_files_of_the_publishers(tmp_path):
    tree = BUILDERS['cocostuff10k'](tmp_path)
    run(tree, RECIPES['cocostuff10k'])
    tree.source.rename(tmp_path / 'gone')
    assert run(tree, RECIPES['cocostuff10k']).kept
    next(tree.root.rglob('*_labelTrainIds.png')).unlink()
    with pytest.raises(ValueError, match=r'1 of 6 files that it lists are missing .*--overwrite'):
        run(tree, RECIPES['cocostuff10k'])


def test_checked_data_are_checked_again_when_images_are_added(tmp_path):
    tree = BUILDERS['mapillary'](tmp_path)
    assert not run(tree, RECIPES['mapillary']).kept and run(tree, RECIPES['mapillary']).kept
    write_photo(tree.root / 'training/images/new.jpg')
    write_map(tree.root / 'training/labels/new.png', labels_in_bands((1, 2)) % 66)
    again = run(tree, RECIPES['mapillary'])
    assert not again.kept and again.record.images == {'training': 3, 'validation': 1}


def test_files_of_other_tools_are_kept_if_they_are_the_same(tree):
    recipe = RECIPES['cityscapes']
    labels = next(tree.root.rglob('aachen*_labelIds.png'))
    mine = labels.with_name(labels.name.replace('labelIds', 'labelTrainIds'))
    shown = next(iter(tree.truth['train'].values())).labels
    write_map(mine, np.where(shown < 0, 255, shown))
    written_by_pillow = mine.read_bytes()
    run(tree, recipe)
    assert mine.read_bytes() == written_by_pillow

    write_map(mine, np.zeros(SIZE))
    (tree.root / 'cityscapes.prepared.json').unlink()
    before = visible(tree.root)
    with pytest.raises(ValueError, match=r'aachen.*_labelTrainIds\.png: this file is there already and differs'):
        run(tree, recipe)
    assert visible(tree.root) == before
    run(tree, recipe, overwrite=True)
    assert (as_opencv_reads(mine) == np.where(shown < 0, 255, shown)).all()


@pytest.mark.parametrize('moved', [0, 1, 2])
def test_interrupted_while_files_get_their_names(tree, finished, monkeypatch, moved):
    move, calls = os.replace, []

    def move_some(source, target):
        if Path(target).suffix != '.jsonl' and '.preparing' not in str(target) and 'preparing' in str(source):
            calls.append(target)
            if len(calls) > moved:
                raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(staging.os, 'replace', move_some)
    with pytest.raises(KeyboardInterrupt):
        run(tree)
    monkeypatch.undo()
    # the PNG files get their names first; without the JSON files nothing reads them
    names = set(visible(tree.root))
    assert 'cityscapes_panoptic.prepared.json' not in names and 'gtFine/cityscapes_panoptic_val.json' not in names
    run(tree)
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


def test_images_are_linked_where_that_is_possible(tmp_path, monkeypatch):
    tree = BUILDERS['cocostuff10k'](tmp_path)
    monkeypatch.setattr(staging.os, 'link', lambda *args: (_ for _ in ()).throw(OSError('another disk')))
    run(tree, RECIPES['cocostuff10k'])
    copies = {path.name: path.read_bytes() for path in tree.root.rglob('*.jpg')}
    monkeypatch.undo()
    run(tree, RECIPES['cocostuff10k'], overwrite=True)
    originals = {path.name: path for path in tree.source.rglob('*.jpg')}
    for path in tree.root.rglob('*.jpg'):
        assert path.samefile(originals[path.name]) and path.read_bytes() == copies[path.name]


def test_the_rest_of_the_data_is_added_to_a_part_of_them(tree):
    run(tree)
    more_images(tree, 2)
    done = run(tree)
    assert not done.kept and done.record.images == {'train': 4, 'val': 1}
    content = json.loads((tree.root / 'gtFine/cityscapes_panoptic_train.json').read_text())
    assert len(content['images']) == 4
    assert run(tree).kept


def test_interrupted_replacement_does_not_look_complete(tree, monkeypatch):
    first = run(tree)
    with pytest.raises(KeyboardInterrupt):
        run(tree, CITY._replace(convert=Stopping(CITY.convert, after=4)), overwrite=True)
    assert run(tree).record == first.record  # nothing was touched

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, '_move_into', stop)
    with pytest.raises(KeyboardInterrupt):
        run(tree, overwrite=True)
    assert read_record(tree.root, CITY.name) is None
    monkeypatch.undo()
    assert not run(tree).kept and read_record(tree.root, CITY.name) == first.record


def test_ctrl_c_on_the_command_line(tree, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, 'cityscapes_panoptic', CITY._replace(convert=Stopping(CITY.convert, after=4)))
    arguments = ['data', 'prepare', 'cityscapes_panoptic', '--root', str(tree.root), '--partial', '--workers', '1']
    assert cli.main(arguments) == 130
    assert 'the same command goes on from here' in capsys.readouterr().err


def test_two_preparations_at_once(tree):
    lock = tree.root / '.cityscapes_panoptic.preparing/lock'
    lock.parent.mkdir()
    lock.write_text(f'{os.getppid()} {staging.socket.gethostname()}')
    with pytest.raises(ValueError, match=rf'lock: another preparation is at work here .*{os.getppid()}'):
        run(tree)
    lock.write_text(f'4194304 {staging.socket.gethostname()}')  # killed
    run(tree)


def test_unfinished_work_of_another_release_is_not_used(tree, finished, monkeypatch):
    monkeypatch.setattr(engine, 'VERSION', 0)
    with pytest.raises(KeyboardInterrupt):
        run(tree, CITY._replace(convert=Stopping(CITY.convert, after=5)))
    monkeypatch.undo()
    counting = Stopping(CITY.convert, after=-1)
    run(tree, CITY._replace(convert=counting))
    assert len(counting.names) == 2 * 3 and visible(tree.root) == finished  # each in the sample as well


def test_defect_behind_the_sample_leaves_the_data_set_as_it_was(tree, monkeypatch):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    last = sorted(tree.root.rglob('*_instanceIds.png'))[-1]
    good = last.read_bytes()
    write_map(last, np.full(SIZE, 99), np.uint16)
    before = visible(tree.root)
    with pytest.raises(ValueError, match=r'lindau.*found the ids 99'):
        run(tree)
    assert visible(tree.root) == before
    last.write_bytes(good)
    run(tree)


KILLED = """
import multiprocessing, os, signal, sys
from mmmaskformer.datasets.converters import engine
from mmmaskformer.datasets.converters.recipes import RECIPES
finish = engine.work_on
def run(work, items, workers):
    for count, pair in enumerate(finish(work, items, workers)):
        if count == 5:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        yield pair
engine.work_on = run
engine.prepare(RECIPES['cityscapes_panoptic'], sys.argv[1], workers=2, partial_set=True)
"""


def test_killed_with_its_processes_and_taken_up_by_others(tree):
    more_images(tree, 40)
    before = visible(tree.root)
    process = subprocess.run(
        [sys.executable, '-c', KILLED, str(tree.root)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    children = [int(number) for number in process.stdout.split()]
    assert len(children) == 2
    wait_until(lambda: not any(is_running(number) for number in children))
    assert visible(tree.root) == before
    noted = (tree.root / '.cityscapes_panoptic.preparing/journal.jsonl').read_text().count('"split"')
    assert noted == 5

    done = run(tree, workers=2)
    assert done.record.images == {'train': 42, 'val': 1}
    content = json.loads((tree.root / 'gtFine/cityscapes_panoptic_train.json').read_text())
    names = sorted(row['file_name'] for row in content['annotations'])
    assert names == sorted(path.name for path in (tree.root / 'gtFine/cityscapes_panoptic_train').iterdir())
    assert len(names) == 42


def is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'the condition did not come true'
        time.sleep(0.05)


def test_process_without_memory(tree, monkeypatch):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    monkeypatch.setattr(processes, 'FEW', 1)
    with pytest.raises(
        ValueError, match=r'one of 2 processes was killed, .*goes on where it stopped, with --workers 1'
    ):
        run(tree, CITY._replace(convert=end_process), workers=2)


def test_folder_that_cannot_be_written(tree, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'mkdir', refuse)
    with pytest.raises(ValueError, match=r'preparing: this folder cannot be made \(Permission denied\).*--root'):
        run(tree)


def test_record_of_something_else(tree):
    (tree.root / 'cityscapes_panoptic.prepared.json').write_text('[]')
    with pytest.raises(ValueError, match=r'cityscapes_panoptic\.prepared\.json: not the record of a preparation'):
        run(tree)


def test_unpacking_goes_on_after_an_interruption(tmp_path, monkeypatch):
    tree = BUILDERS['coco_panoptic'](tmp_path)
    recipe, extract, names = RECIPES['coco_panoptic'], unpacking.zipfile.ZipFile.extract, []

    def stop(self, member, folder):
        if names:
            raise KeyboardInterrupt
        names.append(member.filename)
        return extract(self, member, folder)

    monkeypatch.setattr(unpacking.zipfile.ZipFile, 'extract', stop)
    with pytest.raises(KeyboardInterrupt):
        run(tree, recipe)
    pngs = tree.root / 'annotations/panoptic_train2017'
    assert len(names) == 1 and not pngs.exists()

    def count(self, member, folder):
        names.append(member.filename)
        return extract(self, member, folder)

    monkeypatch.setattr(unpacking.zipfile.ZipFile, 'extract', count)
    run(tree, recipe)
    assert len(names) == len(set(names)) == 2
    assert sorted(path.name for path in pngs.iterdir()) == ['000000000009.png', '000000000025.png']


def test_progress_tells_the_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    stream = io.StringIO()
    with progress.show_progress('ade20k: images', 100, 50, stream) as advance:
        for _ in range(50):
            now[0] += 4
            advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == 'ade20k: images: 50 of 100' and lines[-1] == 'ade20k: images: 100 of 100, 3 min 20 s'
    assert lines[1] == 'ade20k: images: 58 of 100, 2 min 48 s left'  # 8 images in 32 s, 42 to go
    assert len(lines) == 2 + 6


def test_progress_in_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with progress.show_progress('images', 4, 1, stream) as advance:
        for _ in range(3):
            advance()
    assert 'images' in stream.getvalue() and '4/4' in stream.getvalue()
