"""COCO instance JSON: what is accepted, completed, left out with a count, and refused."""

import copy
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmmaskformer.formats.coco_instances import complete_instances, read_instances

OUTLINE = [10, 10, 40, 10, 40, 40, 10, 40]
ROW = dict(id=1, image_id=7, category_id=5, bbox=[10, 10, 30, 30], area=900, iscrowd=0, segmentation=[OUTLINE])


def read(tmp_path, *rows: dict, **parts):
    """Contents of a file with one image of 90 x 120 pixels and annotations changed from `ROW`; '-' removes a key."""
    annotations = []
    for number, changes in enumerate(rows, 1):
        row = copy.deepcopy(ROW) | dict(id=number) | changes
        annotations.append({key: value for key, value in row.items() if not (isinstance(value, str) and value == '-')})
    content = dict(
        images=[dict(id=7, file_name='a.jpg', height=90, width=120)],
        annotations=annotations,
        categories=[dict(id=5, name='thing')],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(content | parts))
    return read_instances(str(tmp_path / 'instances.json'))


def test_annotations_in_cocos_form(tmp_path):
    runs = dict(size=[90, 120], counts=[0, 900, 9900])
    found = read(tmp_path, {}, dict(segmentation=runs, iscrowd=1))
    first, second = found.annotations[7]
    expected = {key: value for key, value in ROW.items() if key != 'image_id'}
    assert first == expected
    assert second == expected | dict(id=2, iscrowd=True, segmentation=runs)
    assert found.categories == {5: 'thing'} and found.notes.lines() == []


@pytest.mark.parametrize(
    'outline',
    ['-', None, [], {}, [[]], [[10, 10, 40, 40]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6, 7]], 'text', 5, [['a'] * 6],
     [[math.nan] * 6], {'counts': [], 'size': [90, 120]}, {'size': [90, 120]}, [None]],
)  # fmt: skip
def test_annotations_without_an_outline_are_skipped_and_reported(tmp_path, outline):
    found = read(tmp_path, {}, dict(segmentation=outline), dict(segmentation=outline))
    assert [row['id'] for row in found.annotations[7]] == [1]
    assert found.notes.lines() == [
        f'instance file {tmp_path / "instances.json"}: 2 annotations without a usable outline '
        "('segmentation' missing, empty, or of fewer than three points), left out; the first: annotation 2 of a.jpg"
    ]


@pytest.mark.parametrize('counts', [[10, 5], [10, -5, 10795], [0, 21600], ['a'], 'abc', '04', '0' * 50, 'é'])
def test_run_lengths_that_do_not_fill_the_image_are_left_out(tmp_path, counts):
    found = read(tmp_path, {}, dict(segmentation=dict(size=[90, 120], counts=counts)))
    assert [row['id'] for row in found.annotations[7]] == [1]
    (line,) = found.notes.lines()
    assert (
        '1 annotations whose run lengths do not add up to the pixels of their image, left out; the first: ann' in line
    )


def test_a_file_without_defects_is_evaluated_unchanged(tmp_path):
    read(tmp_path, {}, dict(id=7, iscrowd=1))
    assert complete_instances(str(tmp_path / 'instances.json')) is None


@pytest.mark.parametrize(
    'changes',
    [dict(id=0), dict(id='-'), dict(id=1), dict(id=[]), dict(area='-'), dict(iscrowd='-'), dict(bbox=[]),
     *(dict(area=area) for area in (0, -5, math.nan, math.inf, '900', True, [900]))],
)  # fmt: skip
def test_a_file_is_completed_for_the_metric(tmp_path, changes):
    read(tmp_path, dict(area=7, iscrowd=1), changes, dict(segmentation=[[1, 2, 3, 4]]))
    content = complete_instances(str(tmp_path / 'instances.json'))
    first, second = content['annotations']
    assert (first['id'], second['id'], first['area'], first['iscrowd'], second['image_id']) == (1, 2, 7, 1, 7)
    inside = coco_mask.area(coco_mask.frPyObjects([OUTLINE], 90, 120))[0]
    assert second['area'] == (inside if 'area' in changes else 900) and second['iscrowd'] == 0
    assert content['categories'] == [dict(id=5, name='thing')]


def test_parts_of_an_outline(tmp_path):
    found = read(tmp_path, dict(segmentation=[[1, 2, 3, 4], OUTLINE, []]), dict(segmentation=OUTLINE))
    assert [row['segmentation'] for row in found.annotations[7]] == [[OUTLINE]] * 2
    (line,) = found.notes.lines()
    assert '1 polygons of fewer than three points, left out of outlines that have others' in line


@pytest.mark.parametrize('box', ['-', None, [], [1, 2, 3], [10, 10, 0, 5], ['a'] * 4, [math.nan] * 4, {}])
def test_a_box_is_computed_from_the_outline(tmp_path, box):
    mask = np.zeros((90, 120), np.uint8, order='F')
    mask[20:50, 5:17] = 1
    packed = coco_mask.encode(mask)
    packed = dict(size=packed['size'], counts=packed['counts'].decode())
    lengths = np.diff(np.flatnonzero(np.diff(mask.ravel(order='F'), prepend=2, append=2))).tolist()
    runs = dict(size=[90, 120], counts=lengths)
    outside = [-5, 10, 500, 10, 500, 40, -5, 40]
    rows = [dict(bbox=box, segmentation=outline) for outline in ([OUTLINE], [outside], packed, runs)]
    found = read(tmp_path, *rows)
    boxes = [[10, 10, 30, 30], [0, 10, 120, 30], [5, 20, 12, 30], [5, 20, 12, 30]]
    assert [row['bbox'] for row in found.annotations[7]] == boxes
    assert ": 4 annotations without a usable 'bbox', computed from their outline; " in found.notes.lines()[0]


@pytest.mark.parametrize('area', ['-', None, 0, -3, 0.5, 'many'])
def test_the_area_does_not_count(tmp_path, area):
    (row,) = read(tmp_path, dict(area=area)).annotations[7]
    assert row['area'] == 900


@pytest.mark.parametrize(
    ('changes', 'note'),
    [
        (dict(bbox=[130, 10, 30, 30]), 'outside of their image or smaller than a pixel, left out'),
        (dict(bbox='-', segmentation=[[3, 3, 3, 3, 3, 3]]), 'outside of their image or smaller than a pixel, left out'),
        (dict(segmentation=dict(size=[9, 9], counts=[0, 81])), 'run-length mask of another size than their image'),
        (dict(ignore=1), "with 'ignore' set, left out"),
        (dict(image_id=8), 'of images that are not listed, left out'),
    ],
)
def test_left_out(tmp_path, changes, note):
    found = read(tmp_path, {}, changes)
    assert len(found.annotations[7]) == 1
    assert [note in line and ': 1 annotations ' in line for line in found.notes.lines() if 'bbox' not in line] == [True]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(category_id=6), 'annotation 1 has category_id 6, expected one of the 1 ids'),
        (dict(category_id=None), "annotation 1: 'category_id' is None, expected a whole number"),
        (dict(category_id='-'), "annotation 1 .* has no 'category_id'"),
        (dict(image_id='-'), "annotation 1 .* has no 'image_id'"),
        (dict(image_id=[]), r"annotation 1: 'image_id' is \[\], expected a whole number or text"),
        (dict(ignore='false'), r"annotation 1 of a\.jpg: 'ignore' is 'false', expected 0 or 1"),
        (dict(iscrowd='no'), r"annotation 1 of a\.jpg: 'iscrowd' is 'no', expected 0 or 1"),
    ],
)
def test_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf'^instance file .*instances\.json: {message}.*Fix: '):
        read(tmp_path, changes)


VALUES = (None, True, -1, 0, 2, 1.5, math.nan, math.inf, 2**70, 10**400, '', 'x', '1', [], [[]], {}, {'id': 1}, [[[1]]],
          [True] * 6, [[10**400] * 6], [0, 0, 2**70, 5])  # fmt: skip


def test_any_value_anywhere_is_read_or_refused_with_the_file(tmp_path):
    image, category = dict(id=7, file_name='a.jpg', height=90, width=120), dict(id=5, name='thing')
    changes = [(ROW, lambda row: ({}, row, {}))]
    changes += [(part, lambda row, name=name: ({}, {}, {name: [row]}))
                for name, part in (('images', image), ('categories', category))]  # fmt: skip
    for part, arranged in changes:
        for key, value in ((key, value) for key in part for value in VALUES):
            for function in (read_instances, complete_instances):
                first, second, more = arranged(part | {key: value})
                try:
                    read(tmp_path, first, second, **more)
                    function(str(tmp_path / 'instances.json'))
                except ValueError as error:
                    assert str(error).startswith(f'instance file {tmp_path / "instances.json"}: ') and 'Fix: ' in str(
                        error
                    )
    for name, row in (('images', {}), ('images', dict(file_name='a.jpg')), ('categories', {})):
        with pytest.raises(ValueError, match=r"instances\.json: (image|category) .* has no 'id'"):
            read(tmp_path, {}, **{name: [row]})


@pytest.mark.parametrize('far', [1e7, -1e7, 1e12, 2**70])
def test_points_far_outside_of_their_image_are_left_out(tmp_path, far):
    """pycocotools walks along the edges: a point at 1e9 exhausts the memory of the machine."""
    found = read(
        tmp_path, dict(segmentation=[[-1200, 10, 1200, 10, 40, 40]]), dict(segmentation=[[1, 1, far, 1, 9, 9]])
    )
    assert [row['id'] for row in found.annotations[7]] == [1]
    (line,) = found.notes.lines()
    assert ': 1 annotations with points further outside of their image than ten times its longer side, left out' in line
    (row,) = read(tmp_path, dict(bbox=[0, 0, abs(far), 5])).annotations[7]
    assert row['bbox'] == [10, 10, 30, 30]


def test_ids_as_text_and_names(tmp_path):
    image = dict(id='7', file_name='./a.jpg', height=90, width=120)
    found = read(tmp_path, dict(category_id='5', iscrowd='0'), images=[image])
    assert found.images[0]['file_name'] == 'a.jpg' and len(found.annotations['7']) == 1
    assert len(found.notes.lines()) == 4


@pytest.mark.parametrize('parts', [dict(categories={}), dict(images=[3]), dict(categories=[dict(id=5)])])
def test_another_form(tmp_path, parts):
    with pytest.raises(ValueError, match=r'instance file .*instances\.json: '):
        read(tmp_path, {}, **parts)
