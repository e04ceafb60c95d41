"""Locations of datasets: behind links, on several disks, in folders that are not writable."""

import errno
import os
from pathlib import Path

import pytest
from helpers.prepared import prepare_part, visible
from helpers.published import BUILDERS

from mmmaskformer.datasets.converters import engine
from mmmaskformer.datasets.converters.recipes import RECIPES


@pytest.fixture
def another_disk(monkeypatch):
    """Nothing can be moved out of the preparation's folder, as if the data were links to another disk."""
    rename = os.replace

    def refuse(source, target):
        if 'preparing' in str(source) and 'preparing' not in str(target):
            raise OSError(errno.EXDEV, 'Invalid cross-device link')
        rename(source, target)

    monkeypatch.setattr(os, 'replace', refuse)


@pytest.mark.parametrize('name', ['cityscapes', 'cityscapes_panoptic', 'coco_panoptic', 'cocostuff10k'])
def test_folders_on_another_disk(tmp_path, name, another_disk, monkeypatch):
    tree = BUILDERS[name](tmp_path / 'disks')
    prepare_part(tree, RECIPES[name])
    monkeypatch.undo()
    expected = BUILDERS[name](tmp_path / 'disk')
    prepare_part(expected, RECIPES[name])
    assert visible(tree.root) == visible(expected.root)
    assert not [path for path in tree.root.rglob('.*')]


def test_interrupted_copies_to_another_disk_do_not_look_complete(tmp_path, another_disk, monkeypatch):
    tree = BUILDERS['coco_panoptic'](tmp_path)
    pngs = tree.root / 'annotations/panoptic_train2017'
    with monkeypatch.context() as patch:

        def stop(source, target, **kwargs):
            Path(target, 'half.png').touch()
            raise KeyboardInterrupt

        patch.setattr('shutil.copytree', stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_part(tree, RECIPES['coco_panoptic'])
    assert not pngs.exists()
    prepare_part(tree, RECIPES['coco_panoptic'])
    assert sorted(path.name for path in pngs.iterdir()) == ['000000000009.png', '000000000025.png']


def test_folders_of_a_split_that_are_links(tmp_path):
    """The dataset of a run follows them, so the preparation must include them."""
    tree = BUILDERS['cityscapes'](tmp_path)
    for kind in ('leftImg8bit', 'gtFine'):
        elsewhere = tmp_path / 'elsewhere' / kind
        elsewhere.parent.mkdir(exist_ok=True)
        (tree.root / kind / 'train/aachen').rename(elsewhere)
        (tree.root / kind / 'train/aachen').symlink_to(elsewhere)
    assert prepare_part(tree, RECIPES['cityscapes']).record.images == {'train': 2, 'val': 1}
    assert len(list((tmp_path / 'elsewhere/gtFine').glob('*_labelTrainIds.png'))) == 1


def test_an_unwritable_folder_is_reported_before_the_work(tmp_path, monkeypatch):
    recipe = RECIPES['cityscapes']
    tree = BUILDERS['cityscapes'](tmp_path)
    closed = tree.root / 'gtFine/train/bochum'
    monkeypatch.setattr(engine.os, 'access', lambda path, mode: Path(path) != closed)
    before = visible(tree.root)
    with pytest.raises(ValueError, match=r'gtFine/train/bochum is not writable, .*Fix: make it writable'):
        prepare_part(tree, recipe)
    assert visible(tree.root) == before
    monkeypatch.undo()
    prepare_part(tree, recipe)

    # it contains the files of another tool, but nothing has to be written there
    (tree.root / 'cityscapes.prepared.json').unlink()
    monkeypatch.setattr(engine.os, 'access', lambda path, mode: Path(path) != closed)
    assert not prepare_part(tree, recipe).kept


@pytest.mark.parametrize('end, mark', [('\r\n', b''), ('\r\n', b'\xef\xbb\xbf'), (' \n\n', b'')])
def test_lists_as_other_systems_write_them(tmp_path, end, mark):
    tree = BUILDERS['cocostuff10k'](tmp_path)
    for path in (tree.source / 'imageLists').iterdir():
        path.write_bytes(mark + path.read_text().replace('\n', end).encode())
    assert prepare_part(tree, RECIPES['cocostuff10k']).record.images == {'train': 2, 'test': 1}
