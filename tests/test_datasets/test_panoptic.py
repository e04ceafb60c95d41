"""The panoptic datasets on tiny files: entries, class lists, and one clear error for each kind of bad input."""

import copy
import json
from unittest import mock

import numpy as np
import pytest
from helpers.panoptic import CROWD, write_json, write_panoptic
from mmengine.registry import DefaultScope

from mmmaskformer.datasets.inspection import inspect_data
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.formats.label_maps import write_label_map
from mmmaskformer.registry import DATASETS

# Neither things first nor ids in order.
METAINFO = dict(
    classes=('grass', 'ball', 'sky'),
    isthing=(False, True, False),
    palette=[[1, 1, 1], [2, 2, 2], [3, 3, 3]],
    category_ids=(7, 3, 5),
)
NAMES_ONLY = {key: METAINFO[key] for key in ('classes', 'isthing')}


@pytest.fixture(autouse=True)
def under_mmdet():
    """The default scope of the configs, for one test."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def content(tmp_path) -> dict:
    """Two images with three segments and a crowd each, as files, and the contents of the JSON file."""
    return write_panoptic(tmp_path, METAINFO)


def build(root, kind: str = 'PanopticDataset', content: dict | None = None, **options):
    if content is not None:
        write_json(root / 'panoptic.json', content)
    if kind == 'PanopticDataset' and 'metainfo_file' not in options:
        options.setdefault('metainfo', METAINFO)
    options = dict(ann_file='panoptic.json', data_prefix=dict(img='images', seg='segments')) | options
    return DATASETS.build(dict(type=f'mmmaskformer.{kind}', data_root=str(root), **options))


def changed(content: dict, *keys, **values) -> dict:
    """A copy of the JSON with changed values in the dict at ``keys``; None removes a key."""
    copied = copy.deepcopy(content)
    place = copied
    for key in keys:
        place = place[key]
    for key, value in values.items():
        if value is None:
            del place[key]
        else:
            place[key] = value
    return copied


def first_segment(content: dict, **values) -> dict:
    return changed(content, 'annotations', 0, 'segments_info', 0, **values)


# --- accepted input ---


@pytest.mark.parametrize('metainfo', [METAINFO, NAMES_ONLY], ids=['by category_ids', 'by name'])
def test_entries(tmp_path, content, metainfo):
    dataset = build(tmp_path, metainfo=metainfo)
    assert len(dataset) == 2
    info = dataset.get_data_info(1)
    assert info.pop('sample_idx') == 1
    assert info == dict(
        img_id=2,
        img_path=str(tmp_path / 'images' / 'q.png'),
        seg_map_path=str(tmp_path / 'segments' / 'q.png'),
        height=40,
        width=60,
        void_ids=[],
        segments_info=[
            dict(id=300, category=0, is_thing=False, iscrowd=False, area=38 * 20),
            dict(id=600, category=1, is_thing=True, iscrowd=False, area=38 * 20),
            dict(id=900, category=1, is_thing=True, iscrowd=False, area=38 * 20),
            dict(id=CROWD, category=0, is_thing=False, iscrowd=True, area=60),
        ],
    )
    assert 'category_ids' not in dataset.metainfo
    assert build(tmp_path, metainfo=metainfo, test_mode=True).metainfo['category_ids'] == (7, 3, 5)
    assert dataset.get_cat_ids(1) == [0, 1, 1]


def test_metainfo_is_complete(tmp_path, content):
    metainfo = build(tmp_path, test_mode=True).metainfo
    assert metainfo == METAINFO | dict(thing_classes=('ball',), stuff_classes=('grass', 'sky'))


def test_crowd_of_a_thing_is_not_a_thing(tmp_path, content):
    crowd = changed(content, 'annotations', 0, 'segments_info', 1, iscrowd=1)
    dataset = build(tmp_path, content=crowd)
    segment = dataset.get_data_info(0)['segments_info'][1]
    assert segment['iscrowd'] is True and segment['is_thing'] is False
    assert dataset.get_cat_ids(0) == [0, 1]


def test_missing_iscrowd_is_not_a_crowd(tmp_path, content):
    dataset = build(tmp_path, content=first_segment(content, iscrowd=None))
    assert dataset.get_data_info(0)['segments_info'][0]['iscrowd'] is False


def test_categories_outside_the_class_list_become_void(tmp_path, content):
    part = dict(classes=('sky', 'ball'), isthing=(False, True))
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        dataset = build(tmp_path, metainfo=part)
    assert '1 categories of' in log.call_args.args[0] and 'become void: grass (7)' in log.call_args.args[0]
    info = dataset.get_data_info(0)
    assert info['void_ids'] == [300, CROWD] and [row['id'] for row in info['segments_info']] == [600, 900]
    assert {row['category'] for row in info['segments_info']} == {1}


def test_classes_without_a_segment_are_reported_at_the_start(tmp_path, content):
    [found] = inspect_data(build(tmp_path))
    assert found.is_warning and "all 2 images: 1 of 3 classes have no segment: 2 'sky'. Check the" in found.text
    segments = [row for each in content['annotations'] for row in each['segments_info']]
    segments[0]['category_id'] = 5
    assert inspect_data(build(tmp_path, content=content)) == []


def test_files_listed_twice_are_reported(tmp_path, content):
    content['images'][1]['file_name'] = content['images'][0]['file_name']
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        build(tmp_path, content=content)
    assert '1 files listed for several images each' in log.call_args.args[0]


def test_part_of_the_classes_of_a_known_set(tmp_path):
    write_scenes(tmp_path / 'scenes', 1, 1)
    options = dict(ann_file='panoptic_val.json', data_prefix=dict(img='images/val', seg='panoptic_val'), test_mode=True)
    every = build(tmp_path / 'scenes', 'ScenesPanopticDataset', **options)
    assert every.metainfo['classes'] == scenes.METAINFO['classes']
    assert every.metainfo['isthing'] == scenes.METAINFO['isthing']
    assert every.metainfo['category_ids'] == tuple(range(1, 10))
    some = build(tmp_path / 'scenes', 'ScenesPanopticDataset', metainfo=dict(classes=('ball', 'sky')), **options)
    metainfo = some.metainfo
    assert metainfo['isthing'] == (True, False) and metainfo['category_ids'] == (4, 1)
    assert metainfo['palette'] == [list(scenes.CLASSES[3].color), list(scenes.CLASSES[0].color)]
    assert metainfo['thing_classes'] == ('ball',) and metainfo['stuff_classes'] == ('sky',)


def test_images_without_ground_truth(tmp_path, content):
    dataset = build(
        tmp_path, data_prefix=dict(img='images'), test_mode=True, content=changed(content, annotations=None)
    )
    assert dataset.get_data_info(0).keys() == {'img_id', 'img_path', 'height', 'width', 'sample_idx'}
    with pytest.raises(ValueError, match=r"expected also 'seg', the folder of the panoptic PNG files, for training"):
        build(tmp_path, data_prefix=dict(img='images'))


def test_class_list_from_a_file(tmp_path, content):
    (tmp_path / 'mine.json').write_text(json.dumps(METAINFO))
    dataset = build(tmp_path, metainfo_file=str(tmp_path / 'mine.json'))
    assert dataset.metainfo == build(tmp_path).metainfo


@pytest.mark.parametrize('area', [None, 0.5, 'many', 10**6])
def test_the_area_is_that_of_the_file_or_none(tmp_path, content, area):
    dataset = build(tmp_path, content=first_segment(content, area=area))
    found = dataset.get_data_info(0)['segments_info'][0]['area']
    assert found == (area if isinstance(area, int | float) else None)


@pytest.mark.parametrize(
    'form',
    ['./{}', r'.\{}', '{root}/{folder}/{}', '/home/anna/set/{folder}/{}', r'C:\set\{folder}\{}', '../{folder}/{}'],
)
@pytest.mark.parametrize('folder', ['images', 'segments'])
def test_names_written_on_another_machine(tmp_path, content, form, folder):
    expected = build(tmp_path).get_data_info(1)
    rows = content['images' if folder == 'images' else 'annotations']
    for row in rows:
        row['file_name'] = form.format(row['file_name'], root=tmp_path, folder=folder)
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        found = build(tmp_path, content=content).get_data_info(1)
    assert {key: found[key] for key in ('img_path', 'seg_map_path')} == {
        key: expected[key] for key in ('img_path', 'seg_map_path')
    }
    texts = [call.args[0] for call in log.call_args_list]
    messages = [text for text in texts if ' 2 file names with ' in text or ' 2 paths that do not exist here' in text]
    assert bool(messages) is not form.startswith(('{root}', '../'))


def test_an_absolute_path_outside_the_folder_is_used_if_it_exists(tmp_path, content):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'images' / 'p.png').rename(tmp_path / 'elsewhere' / 'p.png')
    content['images'][0]['file_name'] = str(tmp_path / 'elsewhere' / 'p.png')
    assert build(tmp_path, content=content).get_data_info(0)['img_path'] == str(tmp_path / 'elsewhere' / 'p.png')
    content['images'][0]['file_name'] = '/nowhere/x.png'
    with pytest.raises(
        ValueError, match=r"1 of 2 files that '.*\.json' lists are missing in '.*images': /nowhere/x\.png"
    ):
        build(tmp_path, content=content)


def test_ids_as_text(tmp_path, content):
    expected = build(tmp_path).get_data_info(1)
    for annotation in content['annotations']:
        annotation['image_id'] = str(annotation['image_id'])
        for segment in annotation['segments_info']:
            segment.update(id=str(segment['id']), category_id=str(segment['category_id']))
    for category in content['categories']:
        category['id'] = str(category['id'])
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        assert build(tmp_path, content=content).get_data_info(1) == expected
    texts = [call.args[0] for call in log.call_args_list]
    assert sum('read as whole numbers' in text for text in texts) == 2 and len(texts) == 3


def test_two_categories_of_one_name(tmp_path, content):
    content['categories'].append(dict(id=77, name=' ball', isthing=1))
    with pytest.raises(
        ValueError, match=r"2 categories have the name 'ball', ids \[3, 77\], .*metainfo\['category_ids'\]"
    ):
        build(tmp_path, metainfo=NAMES_ONLY, content=content)
    # The ids determine the class.
    content['annotations'][0]['segments_info'][1]['category_id'] = 77
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        found = build(tmp_path, content=content).get_data_info(0)
    assert found['void_ids'] == [600] and [row['category'] for row in found['segments_info']] == [0, 1, 0]
    assert '1 categories' in log.call_args.args[0] and 'become void:  ball (77)' in log.call_args.args[0]


# --- named datasets ---

COUNTS = {'CocoPanopticDataset': (133, 80), 'ADE20KPanopticDataset': (150, 100), 'CamVidPanopticDataset': (11, 3),
          'ScenesPanopticDataset': (9, 5)}  # fmt: skip


@pytest.mark.parametrize('kind', sorted(COUNTS))
def test_known_sets(tmp_path, kind):
    metainfo = DATASETS.get(f'mmmaskformer.{kind}').METAINFO
    assert (len(metainfo['classes']), sum(metainfo['isthing'])) == COUNTS[kind]
    assert len(metainfo['thing_classes']) == COUNTS[kind][1]
    assert len({tuple(colour) for colour in metainfo['palette']}) == COUNTS[kind][0] == len(metainfo['palette'])
    last = len(metainfo['classes']) - 1
    write_panoptic(tmp_path, metainfo, labels=(0, last))
    assert build(tmp_path, kind).get_cat_ids(0) == [0, last]


def test_coco_is_the_hosts_list():
    from mmdet.datasets import CocoPanopticDataset

    metainfo, theirs = DATASETS.get('mmmaskformer.CocoPanopticDataset').METAINFO, CocoPanopticDataset.METAINFO
    for key in ('classes', 'thing_classes', 'stuff_classes'):
        assert metainfo[key] == theirs[key]
    assert [tuple(colour) for colour in metainfo['palette']] == list(theirs['palette'])
    ids = metainfo['category_ids']
    assert (ids[0], ids[11], ids[79], ids[80], ids[132]) == (1, 13, 90, 92, 200) and list(ids) == sorted(ids)


def test_ade20k_is_the_semantic_list_with_the_hosts_things():
    from mmdet.datasets import ADE20KPanopticDataset
    from mmseg.datasets import ADE20KDataset

    metainfo = DATASETS.get('mmmaskformer.ADE20KPanopticDataset').METAINFO
    assert list(metainfo['classes']) == [name.strip() for name in ADE20KDataset.METAINFO['classes']]
    assert metainfo['category_ids'] == tuple(range(150))
    # MMDetection writes many names in full, and uses different names for some; things and stuff have the same order
    others = {'thing_classes': ['streetlight', 'television receiver', 'apparel', 'ashcan'],
              'stuff_classes': ['waterfall']}  # fmt: skip
    for key, renamed in others.items():
        pairs = zip(metainfo[key], ADE20KPanopticDataset.METAINFO[key], strict=True)
        differ = [ours for ours, theirs in pairs if ours not in theirs and theirs.split(', ')[0] not in ours]
        assert differ == renamed


# --- the filter ---


def test_filter(tmp_path, content):
    empty = changed(content, 'annotations', 0, segments_info=content['annotations'][0]['segments_info'][3:])
    assert len(build(tmp_path, content=empty)) == 2
    with mock.patch('mmmaskformer.datasets.panoptic.print_log') as log:
        dataset = build(tmp_path, filter_cfg=dict(filter_empty_gt=True))
    assert [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] == [2]
    assert '2 images, 1 of which are kept: 0 are smaller than min_size=0, 1 have no trainable' in str(log.call_args)
    assert len(build(tmp_path, filter_cfg=dict(filter_empty_gt=True), test_mode=True)) == 2
    small = changed(empty, 'images', 1, width=31)
    assert len(build(tmp_path, content=small, filter_cfg=dict(min_size=32))) == 1
    with pytest.raises(ValueError, match='0 of which are kept: 1 are smaller .*, 1 have no .* Fix: correct'):
        build(tmp_path, filter_cfg=dict(min_size=32, filter_empty_gt=True))
    with pytest.raises(TypeError, match=r'filter_cfg does not take the key .*: filter_empty_gt, min_size'):
        build(tmp_path, filter_cfg=dict(empty=True))


# --- bad input ---


def test_class_list_missing_or_twice(tmp_path, content):
    with pytest.raises(ValueError, match="PanopticDataset: no 'classes'. Fix: set metainfo=dict"):
        build(tmp_path, metainfo=None)
    with pytest.raises(ValueError, match="PanopticDataset: no 'isthing'. Fix: set metainfo=dict"):
        build(tmp_path, metainfo=dict(classes=('a',)))
    with pytest.raises(ValueError, match="both metainfo_file='camvid' and metainfo, expected one class list"):
        build(tmp_path, metainfo_file='camvid', metainfo=METAINFO)
    with pytest.raises(ValueError, match="ScenesPanopticDataset: no 'isthing'"):
        build(tmp_path, 'ScenesPanopticDataset', metainfo=dict(classes=('sky', 'cloud')))


def test_unknown_options_fail(tmp_path, content):
    with pytest.raises(TypeError, match='seg_suffix'):
        build(tmp_path, seg_suffix='.png')
    with pytest.raises(ValueError, match=r'data_prefix is .*img_path.*, expected dict\(img='):
        build(tmp_path, data_prefix=dict(img_path='images', seg='segments'))


def test_missing_files(tmp_path, content):
    with pytest.raises(FileNotFoundError, match=r'none\.json: not found. Expected: a COCO panoptic JSON'):
        build(tmp_path, ann_file='none.json')
    for prefix in (dict(img='none', seg='segments'), dict(img='images', seg='none')):
        key = 'img' if prefix['img'] == 'none' else 'seg'
        with pytest.raises(FileNotFoundError, match=rf"data_prefix\['{key}'\] is the folder '.*none', which does not"):
            build(tmp_path, data_prefix=prefix)
    (tmp_path / 'segments' / 'q.png').unlink()
    with pytest.raises(ValueError, match=r"1 of 2 files that '.*\.json' lists are missing in '.*segments': q\.png"):
        build(tmp_path)
    (tmp_path / 'images' / 'p.png').unlink()
    with pytest.raises(ValueError, match=r"missing in '.*images': p\.png\. Fix: .*data_prefix\['img'\]"):
        build(tmp_path)


def test_not_a_panoptic_json(tmp_path, content):
    for broken, message in (
        ([1], r"found list, expected an object with the lists \['images', 'categories', 'annotations'\]"),
        (changed(content, images=None), r"found the keys \['annotations', 'categories'\]"),
        (changed(content, annotations={}), 'expected an object with the lists'),
        (changed(content, images=[], annotations=[]), "lists no 'images'"),
    ):
        with pytest.raises(ValueError, match=rf'panoptic.json.*{message}'):
            build(tmp_path, content=broken)
    (tmp_path / 'panoptic.json').write_text('{"images": [')
    with pytest.raises(ValueError, match=r'panoptic\.json: not valid JSON .* Fix: copy or write the file again'):
        build(tmp_path)


def test_instances_json(tmp_path, content):
    objects = [dict(id=1, image_id=1, category_id=7, bbox=[0, 0, 1, 1], area=1, segmentation=[], iscrowd=0)]
    plain = [dict(id=row['id'], name=row['name']) for row in content['categories']]
    with pytest.raises(
        ValueError, match=r"its 'categories' have no 'isthing', as in instance .* \(panoptic_\*\.json\)"
    ):
        build(tmp_path, content=content | dict(annotations=objects, categories=plain))
    with pytest.raises(
        ValueError, match=r"image 1 has the keys \['area', .* but no 'segments_info'; this is not a COCO"
    ):
        build(tmp_path, content=content | dict(annotations=objects))


@pytest.mark.parametrize(
    'keys, values, message',
    [
        (('categories', 1), dict(isthing=None), "category .*'ball'.* has no 'isthing'"),
        (
            ('categories', 1),
            dict(isthing=0),
            r"category 3 \('ball'\) has 'isthing': 0, the class list has isthing=True",
        ),
        (('categories', 1), dict(id=5), r"ids \[5\] occur more than once in 'categories'"),
        (('images', 0), dict(height=None), "image .*'p.png'.* has no 'height'"),
        (('images', 0), dict(id=2), r"ids \[2\] occur more than once in 'images'"),
        (('annotations', 0), dict(image_id=2), r"ids \[2\] occur more than once in 'annotations'"),
        (
            ('annotations', 0),
            dict(image_id=9),
            r'1 images have no annotation, image ids \[1\]; expected one annotation',
        ),
        (('annotations', 0), dict(segments_info=None), "annotation of image 1 has the keys .* no 'segments_info'"),
        (('annotations', 0), dict(file_name=None), "annotation .* has no 'file_name'"),
    ],
)
def test_defects_of_the_file(tmp_path, content, keys, values, message):
    with pytest.raises(ValueError, match=rf'panoptic file .*panoptic\.json: .*{message}.*Fix: '):
        build(tmp_path, content=changed(content, *keys, **values))


def test_annotation_of_no_image(tmp_path, content):
    extra = content['annotations'] + [dict(image_id=9, file_name='z.png', segments_info=[])]
    with pytest.raises(ValueError, match=r'1 annotations belong to no image, image ids \[9\]'):
        build(tmp_path, content=content | dict(annotations=extra))


@pytest.mark.parametrize(
    'values, message',
    [
        (dict(category_id=8), "segment of p.png, id 300, has category_id 8, expected one of the 3 ids in 'categories'"),
        (dict(category_id=None), "segment of p.png .*'id': 300.* has no 'category_id'"),
        (dict(id=0), 'segment of p.png has id 0, expected 1 to 16777215'),
        (dict(id=2**24), 'segment of p.png has id 16777216, expected 1 to 16777215'),
        (dict(id=600), r"ids \[600\] occur more than once in 'segments_info of p.png'"),
    ],
)
def test_defects_of_a_segment(tmp_path, content, values, message):
    with pytest.raises(ValueError, match=rf'panoptic file .*panoptic\.json: {message}.*Fix: '):
        build(tmp_path, content=first_segment(content, **values))


def test_class_list_that_does_not_fit(tmp_path, content):
    other = dict(classes=('grass', 'cube', 'sky'), isthing=METAINFO['isthing'])
    with pytest.raises(
        ValueError, match=r"do not fit the class list: expected class 'cube', found 'sky' \(5\), 'ball' \(3\), 'grass'"
    ):
        build(tmp_path, metainfo=other)
    with pytest.raises(ValueError, match="expected class 'ball' with category id 4, where 'ball' has id 3, found"):
        build(tmp_path, metainfo=METAINFO | dict(category_ids=(7, 4, 5)))
    with pytest.raises(ValueError, match="expected class 'grass' with category id 5, where 'grass' has id 7"):
        build(tmp_path, metainfo=METAINFO | dict(category_ids=(5, 3, 7)))
    # if ids are given, names may be spelt differently, as in ADE20K's files
    assert len(build(tmp_path, metainfo=METAINFO | dict(classes=('lawn', 'ball', 'sky')))) == 2
    with pytest.raises(
        ValueError, match="do not fit the class list: expected class 'person' with category id 1, found"
    ):
        build(tmp_path, 'CocoPanopticDataset')


def test_semantic_label_maps_beside_the_segments(content, tmp_path):
    folders = dict(img='images', seg='segments', labels='labels')
    with pytest.raises(FileNotFoundError, match=r"data_prefix\['labels'\] is the folder .*labels.*does not exist"):
        build(tmp_path, data_prefix=folders)
    for name in 'pq':
        write_label_map(tmp_path / f'labels/{name}.png', np.zeros((40, 60), np.uint8))
    entry = build(tmp_path, data_prefix=folders, test_mode=True, reduce_zero_label=True)[0]
    assert entry['semantic_label_path'] == str(tmp_path / 'labels/p.png')
    assert entry['reduce_zero_label'] is True and entry['label_map'] is None
    (tmp_path / 'labels/q.png').unlink()
    with pytest.raises(ValueError, match=r"1 of 2 files .* are missing in .*labels.*: q\.png.*data_prefix\['labels'\]"):
        build(tmp_path, data_prefix=folders)


def test_semantic_label_maps_follow_the_chosen_classes(tmp_path):
    """Label files use the order of the whole class list; the model has a subset of the classes."""
    write_scenes(tmp_path, 1, 1)
    folders = dict(img='images/val', seg='panoptic_val', labels='annotations/val')
    every = scenes.METAINFO['classes']
    dataset = build(
        tmp_path,
        'ScenesPanopticDataset',
        ann_file='panoptic_val.json',
        data_prefix=folders,
        metainfo=dict(classes=(every[4], every[1])),
        test_mode=True,
    )
    expected = dict.fromkeys(range(len(every)), 255) | {4: 0, 1: 1}
    assert dataset[0]['label_map'] == expected
