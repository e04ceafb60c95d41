"""Missing, damaged or wrong files stop a preparation before anything is written."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers.published import BUILDERS, SIZE, as_opencv_reads, write_full_index, write_map, write_photo

from mmmaskformer.apis import cli
from mmmaskformer.datasets.converters.engine import prepare
from mmmaskformer.datasets.converters.plain_pickle import read_plain_pickle
from mmmaskformer.datasets.converters.recipes import RECIPES


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.rglob(pattern))[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_pixel(path: Path, value, dtype=np.uint8) -> None:
    pixels = as_opencv_reads(path)
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1].copy()
    pixels[0, 0] = value
    write_map(path, pixels, dtype)


def set_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def other_release_of_full(source: Path) -> None:
    write_full_index(source / 'index_ade20k.pkl', [], first=-40)


def set_matlab(source: Path, value: int) -> None:
    matrix = np.zeros(SIZE, np.uint8)
    matrix[0, 0] = value
    scipy.io.savemat(first(source, '*.mat'), {'S': matrix})


def two_categories(root: Path) -> None:
    path = first(root / 'annotations_instance', '*.png')
    set_pixel(path, (5, 3, 0))


def second_zip(root: Path) -> None:
    cut(root / 'annotations/panoptic_train2017.zip')


def other_segment(root: Path) -> None:
    set_pixel(first(root / 'validation/panoptic', '*.png'), (1, 2, 3))


def release_2(root: Path) -> None:
    (root / 'config.json').rename(root / 'config_v2.0.json')
    (root / 'training/labels').rename(root / 'training/v2.0')


def more_labels(content: dict) -> None:
    content['labels'].insert(2, dict(content['labels'][1], readable='Ambiguous Barrier'))


def only_coarse(root: Path) -> None:
    (root / 'gtFine').rename(root / 'gtCoarse')


def stuff_164k(source: Path) -> None:
    shutil.rmtree(source / 'imageLists')
    (source / 'train2017').mkdir()


def without_instances(root: Path) -> None:
    shutil.rmtree(root / 'annotations_instance')
    (root / 'annotations_instance.tar').write_bytes(b'archive')


def instances_instead(root: Path) -> None:
    set_json(root / 'annotations/panoptic_val2017.json', lambda content: [
        row.pop('segments_info') for row in content['annotations']
    ])  # fmt: skip


# dataset, defect of the published files, and part of the message
DEFECTS = [
    ('ade20k', lambda root: (root / 'index_ade20k.mat').touch(), 'contains the full ADE20K .* prepare ade20k_full'),
    ('ade20k', lambda root: shutil.rmtree(root / 'annotations'),
     r'annotations/training does not exist\. .*download ADE'),
    ('ade20k', lambda root: first(root / 'annotations/training', '*.png').unlink(),
     r'1 of the 2 files \*\.jpg in .*images/training have no \*\.png in .*annotations/training: ADE_train_00000001'),
    ('ade20k', lambda root: set_pixel(first(root / 'annotations', '*.png'), 151),
     r'ADE_train_00000001\.png: found the ids 151 \(1 px\), expected 0 \(unlabelled\) to 150'),
    ('ade20k', lambda root: cut(first(root / 'annotations', '*.png')), r'ADE_train_00000001\.png: .*cannot be decoded'),
    ('ade20k', lambda root: write_photo(first(root / 'images', '*.jpg'), (40, 40)),
     r'48 x 72 pixels .*ADE_train_00000001\.jpg has 40 x 40'),
    ('ade20k', lambda root: first(root / 'images', '*.jpg').write_bytes(b'<html>'), r'6 bytes that are not an image'),
    ('ade20k_panoptic', without_instances,
     r'annotations_instance/training does not exist\. Found, but not unpacked: .*_instance\.tar\. Fix: download'),
    ('ade20k_panoptic', lambda root: set_pixel(first(root / 'annotations_instance', '*.png'), (101, 9, 0)),
     r'found the ids 101 \(1 px\), expected categories 0 \(none\) to 100'),
    ('ade20k_panoptic', two_categories, r'pixels of instance 3 \(green\) have the categories \[4, 5\]'),
    ('ade20k_full', lambda source: (source / 'index_ade20k.pkl').rename(source / 'index_ade20k.mat'),
     r'index_ade20k\.mat but no index_ade20k\.pkl, like the release of 2016.*ADE20K_2021_17_01'),
    ('ade20k_full', other_release_of_full, r'0 of the 847 classes have the same id .*number the classes differently'),
    ('ade20k_full', lambda source: first(source, '*_seg.png').unlink(),
     r'1 of 6 files that .*index_ade20k\.pkl lists are missing: .*ADE_train_00000001_seg\.png'),
    ('ade20k_full', lambda source: cut(source / 'index_ade20k.pkl'), r'not a complete pickle .*unpack the archive'),
    ('ade20k_full', lambda source: (source / 'index_ade20k.pkl').write_bytes(pickle.dumps([1])),
     r"found list, expected the lists 'folder', 'filename' and 'objectnames'"),
    ('ade20k_full', lambda source: cut(first(source, '*.jpg')), r'ADE_train_00000001\.jpg: .*not a complete image'),
    ('cocostuff10k', lambda source: shutil.copy(source / 'imageLists/all.txt', source / 'imageLists/train.txt'),
     r'1 images are listed in train and test: COCO_train2014_000000000079\. Expected each in one split'),
    ('cocostuff10k', stuff_164k, 'contains COCO-Stuff 164k .*expected the 10k images'),
    ('cocostuff10k', lambda source: (source / 'imageLists/test.txt').unlink(),
     r'the file .*imageLists/test\.txt does not exist'),
    ('cocostuff10k', lambda source: first(source, '*.mat').unlink(),
     r'1 of 6 files that .*imageLists lists are missing'),
    ('cocostuff10k', lambda source: set_matlab(source, 12),
     r'found the ids 12 \(1 px\), expected 0 \(unlabelled\) to 182'),
    ('cocostuff10k', lambda source: cut(first(source, '*.mat')), 'that are not a complete MATLAB file'),
    ('cocostuff10k', lambda source: scipy.io.savemat(first(source, '*.mat'), {'T': [1]}),
     r"found no matrix 'S' of class ids"),
    ('cityscapes', only_coarse, 'has the coarse annotations, gtCoarse, but no gtFine'),
    ('cityscapes', lambda root: first(root, '*_labelIds.png').unlink(),
     r'1 of the 2 files \*_leftImg8bit\.png .* have no \*_gtFine_labelIds\.png .*: aachen/aachen_000000_000019'),
    ('cityscapes', lambda root: set_pixel(first(root, '*_labelIds.png'), 34),
     r'found the ids 34 \(1 px\), expected 0 to 33'),
    ('cityscapes', lambda root: shutil.rmtree(root / 'gtFine/val'), r'the folder .*gtFine/val does not exist'),
    ('cityscapes_panoptic', lambda root: set_pixel(first(root, '*_instanceIds.png'), 40001, np.uint16),
     r'found the ids 40 \(1 px\), expected 0 to 33, or such an id \* 1000'),
    ('cityscapes_panoptic', lambda root: (root / 'gtFine/cityscapes_panoptic_val.json').write_text('{}'),
     r'cityscapes_panoptic_val\.json exists, .*--overwrite'),
    ('mapillary', release_2, r'contains release 2\.0 .*expected 1\.2.*the content of .*\{training,validation\}/v1\.2'),
    ('mapillary', lambda root: set_json(root / 'config.json', more_labels),
     r"config\.json: lists 67 labels; the first difference is 'Ambiguous Barrier', expected 'Curb'"),
    ('mapillary', lambda root: (root / 'config.json').unlink(), r'the file .*config\.json does not exist'),
    ('mapillary', lambda root: write_map(first(root / 'training/labels', '*.png'), np.full(SIZE, 66)),
     r'found the ids 66 \(3456 px\), expected 0 to 65, the labels of release 1\.2'),
    ('mapillary_panoptic', lambda root: (root / 'training/panoptic/panoptic_2018.json').unlink(),
     r'the file .*training/panoptic/panoptic_2018\.json does not exist'),
    ('mapillary_panoptic', other_segment, r'segment ids \[197121\], which the JSON file does not list'),
    ('coco_panoptic', second_zip, r'panoptic_train2017\.zip is damaged .*download train2017\.zip'),
    ('coco_panoptic', lambda root: first(root / 'train2017', '*.jpg').unlink(),
     r'1 of 4 files in .*panoptic_train2017\.json are missing: .*000000000009\.jpg'),
    ('coco_panoptic', lambda root: shutil.rmtree(root / 'annotations/panoptic_val2017'),
     r'the folder .*annotations/panoptic_val2017 does not exist'),
    ('coco_panoptic', instances_instead, "no 'segments_info'"),
]  # fmt: skip


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob('*')}


@pytest.mark.parametrize('name, spoil, message', DEFECTS, ids=[f'{name}-{i}' for i, (name, *_) in enumerate(DEFECTS)])
def test_defects(tmp_path, name, spoil, message):
    tree = BUILDERS[name](tmp_path)
    spoil(tree.source or tree.root)
    before = files_of(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        prepare(RECIPES[name], tree.root, tree.source, workers=1, partial_set=True)
    assert 'Fix: ' in str(caught.value)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize('name', list(BUILDERS))
def test_numbers_of_images_are_compared_with_the_published_ones(tmp_path, name):
    tree = BUILDERS[name](tmp_path)
    before = files_of(tmp_path)
    split, number = next(iter(RECIPES[name].images.items()))
    message = rf'found these numbers of images: {split} {len(tree.truth[split])} \(published: {number}\).*--partial'
    with pytest.raises(ValueError, match=message):
        prepare(RECIPES[name], tree.root, tree.source, workers=1)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize('name', list(BUILDERS))
def test_no_data(tmp_path, name, capsys):
    source = ['--source', str(tmp_path / 'a')] if RECIPES[name].source else []
    assert cli.main(['data', 'prepare', name, '--root', str(tmp_path / 'a'), *source]) == 2
    printed = capsys.readouterr().err
    assert (
        printed.startswith('error: ')
        and str(tmp_path / 'a') in printed
        and RECIPES[name].files.split(' ')[0] in printed
    )
    assert not any(tmp_path.iterdir())


def test_an_empty_split_is_refused_even_with_partial(tmp_path):
    tree = BUILDERS['ade20k'](tmp_path)
    for path in tree.root.rglob('ADE_val*'):
        path.unlink()
    with pytest.raises(ValueError, match=r'validation 0 \(published: 2000\)'):
        prepare(RECIPES['ade20k'], tree.root, partial_set=True)


def test_archive_beside_the_missing_folder_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / 'ADEChallengeData2016.zip', 'w'):
        pass
    with pytest.raises(
        FileNotFoundError, match=r'Found, but not unpacked: .*ADEChallengeData2016\.zip\. Fix: download'
    ):
        prepare(RECIPES['ade20k'], tmp_path / 'ADEChallengeData2016')


@pytest.mark.parametrize('name', BUILDERS)
def test_an_archive_unpacked_into_its_own_folder(tmp_path, name):
    """Some archive tools add a folder level when they unpack."""
    tree = BUILDERS[name](tmp_path / 'data')
    place = tree.source or tree.root
    place.rename(tmp_path / 'outer')
    place.mkdir()
    (tmp_path / 'outer').rename(place / 'outer')
    with pytest.raises(FileNotFoundError, match=rf'{place}/outer: move the content of that folder to {place}\.'):
        prepare(RECIPES[name], tree.root, tree.source, workers=1, partial_set=True)


def test_folders_above_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'iterdir', refuse)
    with pytest.raises(FileNotFoundError, match='the folder .*images/training does not exist. Fix: download'):
        prepare(RECIPES['ade20k'], tmp_path / 'data', workers=1)


def test_unknown_names_and_numbers(capsys):
    assert cli.main(['data', 'prepare', 'ade']) == 2
    assert "dataset 'ade': unknown. Expected one of ade20k, " in capsys.readouterr().err
    assert cli.main(['data', 'prepare', 'ade20k', '--workers', '0']) == 2
    assert 'workers: found 0, expected at least 1' in capsys.readouterr().err
    assert cli.main(['data', 'prepare', 'ade20k', '--source', 'a']) == 2
    assert (
        'source: found a, but ADE20K, 150 classes is prepared in the folder in which it is' in capsys.readouterr().err
    )


class Runs:
    def __reduce__(self):
        return (Path.touch, (Path('ran'),))


def test_pickles_do_not_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {'names': np.array(['a', 'b'], dtype=object), 'table': np.eye(2, dtype=np.uint8), 'harm': Runs()}
    Path('a.pkl').write_bytes(pickle.dumps(content))
    read = read_plain_pickle(Path('a.pkl'))
    assert read['names'].tolist() == ['a', 'b'] and (read['table'] == np.eye(2)).all()
    assert not Path('ran').exists() and type(read['harm']).__name__ == '_Unknown'


@pytest.mark.parametrize('name', [name for name in BUILDERS if name != 'ade20k_full'])
def test_truncated_images(tmp_path, name):
    """The last file of a partly unpacked archive; its header can still be read."""
    tree = BUILDERS[name](tmp_path)
    folder = {'cityscapes': 'leftImg8bit/train', 'cityscapes_panoptic': 'leftImg8bit/train', 'coco_panoptic': 'val2017'}
    image = first((tree.source or tree.root) / folder.get(name, ''), '*.png' if 'cityscapes' in name else '*.jpg')
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) * 9 // 10])
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=rf'{image.name}: truncated after \d+ bytes.*not fully unpacked'):
        prepare(RECIPES[name], tree.root, tree.source, workers=1, partial_set=True)
    assert files_of(tmp_path) == before
    image.write_bytes(whole + bytes(200))  # some tools append data
    prepare(RECIPES[name], tree.root, tree.source, workers=1, partial_set=True)
