"""COCO panoptic JSON: round trip, accepted variants, and refused files."""

import copy
import json
import math

import numpy as np
import pytest

from mmmaskformer.formats.coco_json import read_panoptic, write_panoptic
from mmmaskformer.formats.coco_values import Notes

CONTENT = dict(
    images=[dict(id=7, file_name='a.jpg', height=4, width=6), dict(id=8, file_name='b.jpg', height=5, width=7)],
    annotations=[
        dict(
            image_id=7,
            file_name='a.png',
            segments_info=[
                dict(id=300, category_id=1, area=20, iscrowd=0),
                dict(id=600, category_id=2, area=4, iscrowd=1),
            ],
        ),
        dict(image_id=8, file_name='b.png', segments_info=[]),
    ],
    categories=[dict(id=1, name='sky', isthing=0), dict(id=2, name='cat', isthing=1)],
)


def read(tmp_path, change=lambda content: None, **options):
    content = copy.deepcopy(CONTENT)
    change(content)
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    return read_panoptic(str(tmp_path / 'panoptic.json'), **options)


def setting(*path, **values):
    """A change of the contents: values of the dict at ``path``."""

    def change(content):
        for key in path:
            content = content[key]
        content.update(values)

    return change


SEGMENT = ('annotations', 0, 'segments_info', 0)


def test_round_trip(tmp_path):
    write_panoptic(tmp_path / 'panoptic.json', CONTENT['annotations'], CONTENT['images'], CONTENT['categories'])
    found = read_panoptic(str(tmp_path / 'panoptic.json'))
    assert found.images == CONTENT['images']
    assert list(found.annotations.values()) == CONTENT['annotations'] and list(found.annotations) == [7, 8]
    assert list(found.categories.values()) == CONTENT['categories'] and list(found.categories) == [1, 2]
    assert found.notes.lines() == []


def test_results_have_annotations_only(tmp_path):
    write_panoptic(tmp_path / 'result.json', CONTENT['annotations'])
    assert json.loads((tmp_path / 'result.json').read_text()) == {'annotations': CONTENT['annotations']}


@pytest.mark.parametrize('area', [None, -3, 0, 'many', '20', math.nan, math.inf, [20], 'absent'])
def test_an_unusable_area_is_counted(tmp_path, area):
    def change(content):
        for segment in content['annotations'][0]['segments_info']:
            segment['area'] = area
            if area == 'absent':
                del segment['area']

    found = read(tmp_path, change)
    assert [segment['area'] for segment in found.annotations[7]['segments_info']] == [None, None]
    (line,) = found.notes.lines()
    assert line == (
        f"panoptic file {tmp_path / 'panoptic.json'}: 2 segments without a usable 'area', whose pixels are counted in "
        'the PNG; the first: segment 0 of a.png, id 300'
    )


def test_a_fractional_area_is_kept(tmp_path):
    found = read(tmp_path, setting(*SEGMENT, area=19.5))
    assert found.annotations[7]['segments_info'][0]['area'] == 19.5 and found.notes.lines() == []


@pytest.mark.parametrize('convert', [str, float])
def test_numbers_in_other_notations(tmp_path, convert):
    def change(content):
        for image in content['images']:
            image.update({key: convert(image[key]) for key in ('height', 'width')})
        for category in content['categories']:
            category.update({key: convert(category[key]) for key in ('id', 'isthing')})
        for segment in content['annotations'][0]['segments_info']:
            segment.update({key: convert(segment[key]) for key in ('id', 'category_id', 'iscrowd')})

    found = read(tmp_path, change)
    assert found.images == CONTENT['images']
    assert list(found.annotations.values()) == CONTENT['annotations']
    assert list(found.categories.values()) == CONTENT['categories']
    lines = found.notes.lines()
    assert [line.split(': ')[1].split(' ', 1)[0] for line in lines] == ['4', '2', '2', '2', '2', '2']
    assert all('read as' in line for line in lines)


@pytest.mark.parametrize('in_images', [True, False])
def test_an_image_id_may_be_text_in_one_of_the_lists(tmp_path, in_images):
    def change(content):
        for row in content['images'] if in_images else content['annotations']:
            key = 'id' if in_images else 'image_id'
            row[key] = str(row[key])

    found = read(tmp_path, change)
    ids = ['7', '8'] if in_images else [7, 8]
    assert list(found.annotations) == [image['id'] for image in found.images] == ids
    assert found.notes.lines()[0].split(': ')[1].startswith("2 'image_id' written as text where the image has a number")


def test_image_ids_may_be_names(tmp_path):
    def change(content):
        for image, annotation, name in zip(content['images'], content['annotations'], ('007', '7'), strict=True):
            image['id'] = annotation['image_id'] = name

    found = read(tmp_path, change)
    assert list(found.annotations) == ['007', '7'] and found.notes.lines() == []


@pytest.mark.parametrize(
    ('name', 'plain'), [('./a.jpg', 'a.jpg'), (r'x\a.jpg', 'x/a.jpg'), ('x//y/../a.jpg', 'x/a.jpg'), ('x/..a', 'x/..a')]
)
def test_file_names(tmp_path, name, plain):
    def change(content):
        content['images'][0]['file_name'] = content['annotations'][0]['file_name'] = name

    found = read(tmp_path, change)
    assert found.images[0]['file_name'] == found.annotations[7]['file_name'] == plain
    assert bool(found.notes.lines()) is (name != plain)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (setting(*SEGMENT, iscrowd='no'), r"segment 0 of a\.png, id 300: 'iscrowd' is 'no', expected 0 or 1"),
        (setting(*SEGMENT, iscrowd=math.nan), r"segment 0 of a\.png, id 300: 'iscrowd' is nan, expected 0 or 1"),
        (setting(*SEGMENT, iscrowd=None), r"segment 0 of a\.png, id 300: 'iscrowd' is None, expected 0 or 1"),
        (setting(*SEGMENT, iscrowd=[]), r"segment 0 of a\.png, id 300: 'iscrowd' is \[\], expected 0 or 1"),
        (setting(*SEGMENT, iscrowd=2), r"segment 0 of a\.png, id 300: 'iscrowd' is 2, expected 0 or 1"),
        (setting(*SEGMENT, id=None), r"segment 0 of a\.png: 'id' is None, expected a whole number"),
        (setting(*SEGMENT, id=True), r"segment 0 of a\.png: 'id' is True, expected a whole number"),
        (setting(*SEGMENT, id=1.5), r"segment 0 of a\.png: 'id' is 1\.5, expected a whole number"),
        (setting(*SEGMENT, id=[1]), r"segment 0 of a\.png: 'id' is \[1\], expected a whole number"),
        (setting(*SEGMENT, id='x'), r"segment 0 of a\.png: 'id' is 'x', expected a whole number"),
        (setting(*SEGMENT, category_id={}), r"segment 0 of a\.png: 'category_id' is {}, expected a whole number"),
        (setting('annotations', 0, segments_info=''), r"'segments_info' of a\.png is '', expected a list of objects"),
        (setting('annotations', 0, segments_info=None), r"'segments_info' of a\.png is None, expected a list of objec"),
        (setting('annotations', 0, segments_info={}), r"'segments_info' of a\.png is {}, expected a list of objects"),
        (setting('annotations', 0, segments_info=[3]), r'segment 0 of a\.png is 3, expected an object'),
        (setting('annotations', 0, file_name=3), r"annotation 0 \(3\): 'file_name' is 3, expected the name of a file"),
        (setting('annotations', 0, image_id=[]), r"annotation 0 \('a\.png'\): 'image_id' is \[\], expected a whole"),
        (setting('images', 1, file_name=None), r"image 1 \(None\): 'file_name' is None, expected the name of a file"),
        (setting('images', 1, id=None), r"image 1 \('b\.jpg'\): 'id' is None, expected a whole number or text"),
        (setting('images', 1, id=''), r"image 1 \('b\.jpg'\): 'id' is '', expected a whole number or text"),
        (setting('images', 1, width=-1), r"image 1 \('b\.jpg'\): 'width' is -1, expected a number of pixels"),
        (setting('images', 1, height='tall'), r"image 1 \('b\.jpg'\): 'height' is 'tall', expected a number of pixels"),
        (setting('images', 1, height=math.inf), r"image 1 \('b\.jpg'\): 'height' is inf, expected a number of pixels"),
        (setting('categories', 0, id='x'), r"category 0 \('sky'\): 'id' is 'x', expected a whole number"),
        (setting('categories', 0, name=5), r"category 0 \(5\): 'name' is 5, expected text"),
        (setting('categories', 0, isthing='stuff'), r"category 0 \('sky'\): 'isthing' is 'stuff', expected 0 or 1"),
        (setting(images=[3]), r"entry 0 of 'images' is 3, expected an object"),
        (setting(annotations=[None]), r"entry 0 of 'annotations' is None, expected an object"),
        (setting(categories=['sky']), r"entry 0 of 'categories' is 'sky', expected an object"),
        (
            setting(categories={'1': 'sky'}),
            r"expected an object with the lists \['images', 'categories', 'annotations'",
        ),
    ],
)
def test_a_value_of_the_wrong_type_names_file_entry_and_key(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf'^panoptic file .*panoptic\.json: .*{message}.*Fix: '):
        read(tmp_path, change)


def test_any_value_anywhere_is_read_or_refused_with_the_file(tmp_path):
    def places(node, path=()):
        rows = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in rows:
            yield (*path, key)
            yield from places(value, (*path, key))

    paths = list(places(CONTENT))
    assert len(paths) == 39
    for path in paths:
        for value in (None, True, -1, 0, 2, 1.5, math.nan, '', 'x', '1', [], [[]], {}, {'id': 1}):

            def change(content, path=path, value=value):
                for key in path[:-1]:
                    content = content[key]
                content[path[-1]] = value

            try:
                read(tmp_path, change)
            except ValueError as error:
                assert str(error).startswith(f'panoptic file {tmp_path / "panoptic.json"}: ') and 'Fix: ' in str(error)


def test_missing_annotations_are_not_checked(tmp_path):
    found = read(tmp_path, setting(annotations='none'), with_annotations=False)
    assert found.annotations == {} and found.images == CONTENT['images']


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_encodings_of_windows_programs(tmp_path, encoding):
    (tmp_path / 'a.json').write_text(json.dumps(CONTENT), encoding=encoding)
    assert len(read_panoptic(str(tmp_path / 'a.json')).images) == len(CONTENT['images'])


def test_not_text(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match=r'a\.json: not UTF-8 text .* Fix: copy or write the file again'):
        read_panoptic(str(tmp_path / 'a.json'))


def test_notes_count_each_kind():
    notes = Notes('file a')
    for where in ('file a: x', 'file a: y'):
        notes.add('things', where)
    notes.add('others', 'z')
    assert notes.lines() == ['file a: 2 things; the first: x', 'file a: 1 others; the first: z']


def test_numbers_of_numpy_are_written(tmp_path):
    segment = dict(id=np.int32(7), category_id=np.int64(3), area=np.float32(2.5), iscrowd=np.bool_(False))
    path = tmp_path / 'panoptic.json'
    write_panoptic(path, [dict(image_id=np.uint8(1), file_name='a.png', segments_info=[segment])])
    expected = [dict(id=7, category_id=3, area=2.5, iscrowd=False)]
    assert json.loads(path.read_text())['annotations'][0] == dict(image_id=1, file_name='a.png', segments_info=expected)
    with pytest.raises(TypeError, match="b'a' is a bytes, expected a number"):
        write_panoptic(path, [dict(image_id=b'a')])
