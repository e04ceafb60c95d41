"""Orders of classes."""

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed

from mmdet.datasets import ADE20KPanopticDataset, CocoPanopticDataset  # isort: skip

import pytest

from mmmaskformer.checkpoints.classes import (
    class_lists,
    facts_of,
    find_permutation,
    inverse,
    list_of_same_classes,
    permuted,
    read_class_list,
    things_first,
)


def test_mmdetection_puts_the_things_of_ade20k_first_in_their_published_order():
    ours = class_lists()['ade20k_panoptic']
    theirs = ADE20KPanopticDataset.METAINFO
    order = find_permutation(theirs['classes'], ours['classes'])
    assert order == inverse(things_first(ours['isthing'])) and order[:3] == [100, 101, 102] != order[8:11]
    assert list_of_same_classes(theirs['classes']) == ours
    flags = facts_of(theirs)['isthing']
    assert [flags[label] for label in order] == ours['isthing']


def test_coco_has_one_order():
    ours, theirs = class_lists()['coco_panoptic'], CocoPanopticDataset.METAINFO
    assert find_permutation(theirs['classes'], ours['classes']) == list(range(133)) == things_first(ours['isthing'])


def test_synonyms_and_different_classes():
    assert find_permutation(['road, route', 'car'], ['car', 'road']) == [1, 0]
    assert find_permutation(['plane', 'screen door, screen', 'screen'], ['screen', 'airplane', 'screen door']) == [
        2,
        0,
        1,
    ]
    assert find_permutation(['a', 'b'], ['a', 'c']) is None and find_permutation(['a'], ['a', 'b']) is None
    assert find_permutation(['a', 'a'], ['a', 'a']) is None  # the two cannot be distinguished


def test_entries_are_permuted_with_their_classes():
    meta = dict(classes=('a', 'b', 'c'), palette=[[1], [2], [3]], isthing=[True, False, False], ignore_index=255)
    found = permuted(meta, [2, 0, 1])
    assert found == dict(
        classes=['c', 'a', 'b'], palette=[[3], [1], [2]], isthing=[False, True, False], ignore_index=255
    )
    assert permuted(found, inverse([2, 0, 1])) == meta | dict(classes=['a', 'b', 'c'])


def test_facts_have_one_form():
    assert facts_of(dict(CLASSES=('a', 'b'), PALETTE=((1, 2, 3), (4, 5, 6)))) == dict(
        classes=['a', 'b'], palette=[[1, 2, 3], [4, 5, 6]]
    )
    assert facts_of(dict(classes=('a', 'b'), thing_classes=('b',)))['isthing'] == [False, True]


@pytest.mark.parametrize('text, message', [(None, 'expected one of ade20k'), ('[', 'as JSON'), ('[]', 'an object')])
def test_lists_are_names_or_files(tmp_path, text, message):
    path = tmp_path / 'classes.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_list(str(path))
    path.write_text('{"classes": ["a"]}')
    assert read_class_list(str(path)) == dict(classes=['a'])


@pytest.mark.parametrize(
    'meta, message',
    [
        ([1], 'dataset_meta is a list, expected a dict with classes. Fix'),
        (dict(palette=[1]), r'palette has 1, expected 3 whole numbers. Fix'),
        (dict(palette=[[1, 2, 'x']]), r"palette has \[1, 2, 'x'\], expected 3 whole numbers"),
        (dict(palette=[[1, 2]]), r'palette has \[1, 2\], expected 3 whole numbers'),
        (dict(ignore_index='x'), r"ignore_index has \['x'\], expected 1 whole number. Fix"),
        (dict(ignore_index=float('nan')), 'ignore_index has .*expected 1 whole number'),
    ],
)
def test_invalid_facts_are_named(meta, message):
    with pytest.raises(ValueError, match=message):
        facts_of(meta)
