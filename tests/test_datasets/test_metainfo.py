"""Class lists: what is accepted, and one clear error for each defect."""

import json

import pytest

from mmmaskformer.datasets.metainfo import (
    FOLDER,
    check_metainfo,
    check_panoptic_metainfo,
    load_metainfo,
    load_panoptic_metainfo,
    load_source_ids,
)

GOOD = {'classes': ['a', 'b'], 'palette': [[1, 2, 3], [4, 5, 6]]}


@pytest.mark.parametrize('name', sorted(path.stem for path in FOLDER.glob('*.json')))
def test_lists_of_the_package_are_valid(name):
    metainfo = load_metainfo(name)
    assert set(metainfo) == {'classes', 'palette'} and len(metainfo['classes']) == len(metainfo['palette'])


def test_camvid():
    metainfo = load_metainfo('camvid')
    assert len(metainfo['classes']) == 11
    assert metainfo['classes'][3] == 'road' and metainfo['palette'][3] == [128, 64, 128]


def test_a_custom_file(tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(GOOD | {'about': 'letters'}))
    assert load_metainfo(path) == {'classes': ('a', 'b'), 'palette': [[1, 2, 3], [4, 5, 6]]}
    assert load_metainfo(str(path)) == load_metainfo(path)


@pytest.mark.parametrize('name', ['nothing', 'folder/nothing.json'])
def test_missing_list(name):
    with pytest.raises(FileNotFoundError, match=f"class list '{name}': no such file.*'camvid'"):
        load_metainfo(name)


def test_broken_json(tmp_path):
    (tmp_path / 'a.json').write_text('{"classes": [')
    with pytest.raises(ValueError, match=r'a\.json: not valid JSON'):
        load_metainfo(tmp_path / 'a.json')


@pytest.mark.parametrize(
    'content, message',
    [
        ([1], 'found list, expected an object'),
        ({'classes': ['a']}, r"found the keys \['classes'\], expected an object with 'classes', 'palette'"),
        (GOOD | {'colours': []}, "'colours'"),
        (GOOD | {'classes': 'ab'}, "'classes' is 'ab', expected a list of names"),
        (GOOD | {'classes': []}, r"'classes' is \[\], expected a list of names, at least one"),
        (GOOD | {'classes': ['a', 7]}, 'expected a list of names'),
        (GOOD | {'classes': ['a', 'a']}, r"class names occur twice: \['a'\]"),
        (GOOD | {'classes': ['a', ' a ']}, r"class names occur twice: \['a'\]"),
        (GOOD | {'palette': 'red'}, "'palette' is 'red', expected a list"),
        (GOOD | {'palette': [[1, 2, 3], [1, 2, 300]]}, r'palette holds \[1, 2, 300\], expected \[R, G, B\]'),
        (GOOD | {'palette': [[1, 2, 3], [1, 2]]}, r'palette holds \[1, 2\]'),
        (GOOD | {'palette': [[1, 2, 3], [1, 2, 3]]}, r'palette colours occur twice: \[\(1, 2, 3\)\]'),
        (GOOD | {'palette': [[1, 2, 3]]}, '2 classes but 1 palette colours'),
    ],
)
def test_defects(content, message):
    with pytest.raises(ValueError, match=f'class list mine: .*{message}'):
        check_metainfo(content, 'mine')


PANOPTIC = {'classes': ['a', 'b', 'c'], 'isthing': [0, True, False], 'category_ids': [9, 2, 4]}


@pytest.mark.parametrize(
    'name', ['camvid', 'coco_panoptic', 'ade20k_panoptic', 'cityscapes_panoptic', 'mapillary_panoptic']
)
def test_panoptic_lists_of_the_package(name):
    metainfo = load_panoptic_metainfo(name)
    count = len(metainfo['classes'])
    assert {len(metainfo[key]) for key in ('isthing', 'category_ids', 'palette')} == {count}
    assert len(metainfo['thing_classes']) + len(metainfo['stuff_classes']) == count


def test_a_custom_panoptic_list(tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(PANOPTIC | {'palette': [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}))
    assert load_panoptic_metainfo(path) == {
        'classes': ('a', 'b', 'c'),
        'palette': [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        'isthing': (False, True, False),
        'category_ids': (9, 2, 4),
        'thing_classes': ('b',),
        'stuff_classes': ('a', 'c'),
    }
    assert set(load_metainfo(path)) == {'classes', 'palette'}


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'isthing': [True]}, r"'isthing' is \[True\], expected true .* for each of the 3 classes"),
        ({'isthing': ['a', 'b', 'c']}, "'isthing' is .*, expected true"),
        ({'isthing': 'yes'}, "'isthing' is 'yes', expected true"),
        ({'category_ids': [1, 2]}, r"'category_ids' is \[1, 2\], expected 3 different integers"),
        ({'category_ids': [1, 2, 2]}, 'expected 3 different integers'),
        ({'category_ids': [1, 2, 'c']}, 'expected 3 different integers'),
        ({'category_ids': '123'}, "'category_ids' is '123', expected 3"),
        ({'classes': ['a', 'a', 'b']}, r"class names occur twice: \['a'\]"),
    ],
)
def test_defects_of_a_panoptic_list(changes, message):
    with pytest.raises(ValueError, match=f'class list mine: .*{message}'):
        check_panoptic_metainfo(PANOPTIC | changes, 'mine')


@pytest.mark.parametrize('key', ['classes', 'isthing'])
def test_panoptic_list_without_a_key(key):
    content = {name: value for name, value in PANOPTIC.items() if name != key}
    with pytest.raises(ValueError, match=f"class list mine: no '{key}'. Fix: set metainfo=dict"):
        check_panoptic_metainfo(content, 'mine')


@pytest.mark.parametrize(
    'name, classes, things',
    [
        ('coco_panoptic', 133, 80),
        ('ade20k_panoptic', 150, 100),
        ('cityscapes_panoptic', 19, 8),
        ('mapillary_panoptic', 65, 37),
        ('ade20k_full', 847, None),
        ('cocostuff10k', 171, 80),
        ('cityscapes', 19, None),
        ('mapillary', 65, None),
    ],
)
def test_numbers_of_classes_are_the_published_ones(name, classes, things):
    assert len(load_metainfo(name)['classes']) == classes
    if things is None:
        with pytest.raises(ValueError, match="no 'isthing'"):
            load_panoptic_metainfo(name)
    else:
        assert sum(load_panoptic_metainfo(name)['isthing']) == things


@pytest.mark.parametrize('name', ['cityscapes', 'mapillary'])
def test_panoptic_list_has_the_classes_of_the_semantic_one(name):
    panoptic = load_panoptic_metainfo(f'{name}_panoptic')
    assert {key: panoptic[key] for key in ('classes', 'palette')} == load_metainfo(name)


def test_source_ids():
    # the ids that COCO-Stuff leaves out, and the evaluated ones of Cityscapes
    absent = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    assert load_source_ids('cocostuff10k') == tuple(sorted(set(range(1, 183)) - absent))
    assert load_source_ids('cityscapes') == load_panoptic_metainfo('cityscapes_panoptic')['category_ids']
    full = dict(zip(load_metainfo('ade20k_full')['classes'], load_source_ids('ade20k_full'), strict=True))
    assert full['wall'] == 2978 and full['building, edifice'] == 312 and len(full) == 847
    with pytest.raises(ValueError, match=r"camvid\.json: 'source_ids' is \(\), expected 11 different integers"):
        load_source_ids('camvid')
