"""CocoInstanceDataset: MMDetection's entries, and files that MMDetection's own class misreads or rejects."""

import copy
import json
from unittest import mock

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmmaskformer.datasets.inspection import inspect_data
from mmmaskformer.registry import DATASETS

OUTLINE = [10, 10, 40, 10, 40, 40, 10, 40]
CLASSES = ('cat', 'dog')
PIPELINE = [
    dict(type='mmcv.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.PackDetInputs'),
]


@pytest.fixture(autouse=True)
def under_mmdet():
    """The default scope of the configs, for one test."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def content(tmp_path) -> dict:
    """Three images with a cat and a dog each, and their files."""
    (tmp_path / 'img').mkdir()
    images, rows = [], []
    for number in range(3):
        Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(tmp_path / f'img/{number}.png')
        images.append(dict(id=number, file_name=f'{number}.png', height=90, width=120))
        for label in range(2):
            rows.append(dict(id=2 * number + label, image_id=number, category_id=3 + 4 * label, area=900, iscrowd=0,
                             bbox=[10, 10, 30, 30], segmentation=[OUTLINE]))  # fmt: skip
    return dict(images=images, annotations=rows, categories=[dict(id=3, name='cat'), dict(id=7, name='dog')])


def build(root, content: dict, kind: str = 'mmmaskformer.CocoInstanceDataset', classes=CLASSES, **options):
    (root / 'instances.json').write_text(json.dumps(content))
    config = dict(type=kind, data_root=str(root), ann_file='instances.json', data_prefix=dict(img='img'),
                  metainfo=dict(classes=classes), pipeline=PIPELINE)  # fmt: skip
    return DATASETS.build(config | options)


def build_logged(*args, **options) -> tuple:
    with mock.patch('mmmaskformer.datasets.instance.print_log') as log:
        dataset = build(*args, **options)
    return dataset, [call.args[0] for call in log.call_args_list]


def test_entries_are_those_of_the_host(tmp_path, content):
    content['annotations'][1]['iscrowd'] = 1
    content['annotations'][3]['bbox'] = [119.5, 10, 30, 30]
    filters = dict(filter_empty_gt=True, min_size=32)
    ours, lines = build_logged(tmp_path, content, filter_cfg=filters)
    theirs = build(tmp_path, content, kind='mmdet.CocoDataset', filter_cfg=filters)
    assert len(ours) == len(theirs) == 3 and lines == []
    for index in range(3):
        assert ours.get_data_info(index) == theirs.get_data_info(index)
        assert ours.get_cat_ids(index) == theirs.get_cat_ids(index)
    assert ours.cat_ids == theirs.cat_ids and ours.cat2label == theirs.cat2label
    assert {key: sorted(set(ids)) for key, ids in ours.cat_img_map.items()} == {3: [0, 1, 2], 7: [0, 1, 2]}


@pytest.mark.parametrize('outline', [None, [], [[10, 10, 40, 40]], [[]]])
def test_unusable_annotations_are_skipped(tmp_path, content, outline):
    for position in (0, 2, 3):
        content['annotations'][position]['segmentation'] = outline
    dataset, lines = build_logged(tmp_path, content, filter_cfg=dict(filter_empty_gt=True))
    # The second image has no annotations left.
    assert [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] == [0, 2]
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [1]
    assert len(dataset[1]['data_samples'].gt_instances.masks) == 2
    (line,) = lines
    assert ': 3 annotations without a usable outline' in line and 'the first: annotation 0 of 0.png' in line


def test_missing_boxes_and_areas(tmp_path, content):
    expected = build(tmp_path, content).get_data_info(0)
    changed = copy.deepcopy(content)
    for row in changed['annotations']:
        del row['bbox'], row['area']
    dataset, lines = build_logged(tmp_path, changed)
    assert dataset.get_data_info(0) == expected and len(lines) == 1


def test_classes_without_an_annotation_are_reported(tmp_path, content):
    content['annotations'] = [row for row in content['annotations'] if row['category_id'] == 3]
    [found] = inspect_data(build(tmp_path, content))
    assert found.is_warning and "all 3 images: 1 of 2 classes have no segment: 1 'dog'" in found.text


def test_every_class_gets_its_own_label(tmp_path, content):
    content['categories'].insert(0, dict(id=9, name='bird'))
    content['annotations'][0]['category_id'] = 9
    dataset, lines = build_logged(tmp_path, content, classes=('cow', 'dog', 'cat'))
    labels = [[row['bbox_label'] for row in dataset.get_data_info(index)['instances']] for index in range(3)]
    assert labels == [[1], [2, 1], [2, 1]]
    assert '1 categories' in lines[0] and 'their 1 annotations are dropped: bird' in lines[0]
    assert '1 classes are not among the categories of' in lines[1] and lines[1].endswith(': cow')


@pytest.mark.parametrize('classes', [('dog', 'cat'), ('cat', 'cow', 'dog')])
def test_the_metric_numbers_classes_as_the_file_does(tmp_path, content, classes):
    with pytest.raises(ValueError, match='its categories .* but the class list is .* the order of the file. Fix: list'):
        build(tmp_path, content, classes=classes, test_mode=True)
    assert len(build(tmp_path, content, test_mode=True)) == 3


def test_invalid_files(tmp_path, content):
    double = content | dict(categories=[*content['categories'], dict(id=8, name='dog')])
    with pytest.raises(ValueError, match=r"several categories have the same name: \['dog'\]; expected one per class"):
        build(tmp_path, double)
    with pytest.raises(ValueError, match=r"its 'categories' are \['cat', 'dog'\], none of which is among the classes"):
        build(tmp_path, content, classes=('cow',))
    with pytest.raises(ValueError, match=r"CocoInstanceDataset: class names occur twice: \['cat'\]"):
        build(tmp_path, content, classes=('cat', 'cat '))
    with pytest.raises(ValueError, match="lists no 'images', expected at least one"):
        build(tmp_path, dict(content, images=[], annotations=[]))
    with pytest.raises(FileNotFoundError, match=r"CocoInstanceDataset: data_prefix\['img'\] is the folder '.*none'"):
        build(tmp_path, content, data_prefix=dict(img='none'))
    (tmp_path / 'img/1.png').unlink()
    with pytest.raises(
        ValueError, match=r"CocoInstanceDataset: 1 of 3 files that '.*' lists are missing in .*: 1\.png"
    ):
        build(tmp_path, content)


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize('size', [(45, 60), (120, 90)])
def test_images_of_another_size_than_listed(tmp_path, content, size, test_mode):
    """Outlines would be drawn in wrong places."""
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / 'img/1.png')
    dataset = build(tmp_path, content, test_mode=test_mode)
    height, width = size
    message = rf'image .*1\.png: {height} x {width} pixels .*, but its annotation is for 90 x 120'
    with pytest.raises(ValueError, match=message):
        inspect_data(dataset)
    assert dataset[0] is not None
    message = rf'1\.png: read with {height} x {width} pixels .*, but .*instances.json lists 90 x 120. Fix: '
    with pytest.raises(ValueError, match=message):
        dataset[1]


@pytest.mark.parametrize(
    ('option', 'error', 'message'),
    [
        (
            dict(filter_cfg=dict(min_sze=3)),
            TypeError,
            "filter_cfg does not take the key 'min_sze'. Did you mean 'min_s",
        ),
        (dict(filter_cfg=dict(min_size='a')), ValueError, "filter_cfg.min_size: found 'a', expected a number of at le"),
        (dict(data_prefix=dict(img='img', sg='x')), ValueError, r"data_prefix: found the keys \['sg'\], expected only"),
    ],
)
def test_keys_that_nothing_would_read(tmp_path, content, option, error, message):
    with pytest.raises(error, match=message):
        build(tmp_path, content, **option)
