"""Reading what to draw from hand-built data samples of both hosts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image
from pycocotools.mask import encode

from mmmaskformer.visualization.samples import (
    MIN_SCORE,
    ClassList,
    class_list_of,
    read_example,
    require_field,
    spread_indices,
    write_pictures,
)

# After our registry, which makes mmdet importable with mmcv-lite.
from mmdet.structures.mask import BitmapMasks  # isort: skip

NAMES = ('wall', 'person', 'sky', 'dog')
CLASSES = ClassList(NAMES, [[200, 0, 0], [0, 200, 0], [0, 0, 200], [90, 90, 0]], [False, True, False, True], 255)
# Two persons (class 1), a wall, void (4) in the top right corner.
PANOPTIC = [[1001, 2001, 4], [0, 2001, 0]]
IDS = np.array([[7, 70000, 0], [300, 70000, 9]])
SEGMENTS_INFO = [
    dict(id=70000, category=1, is_thing=True, iscrowd=False),
    dict(id=7, category=2, is_thing=False, iscrowd=False),
    dict(id=9, category=3, is_thing=False, iscrowd=True),
    dict(id=300, category=3, is_thing=True, iscrowd=False),
]


@pytest.fixture
def image_path(tmp_path):
    """Two pixels high, three wide."""
    path = str(tmp_path / 'picture.png')
    Image.new('RGB', (3, 2), (10, 20, 30)).save(path)
    return path


def make_sample(image_path, **fields):
    sample = BaseDataElement(metainfo={'img_path': image_path})
    sample.update(BaseDataElement(**fields))
    return sample


def map_field(values, key='sem_seg'):
    return PixelData(**{key: torch.tensor(values)[None]})


def pixels(segments):
    """The class of every pixel, -1 for void."""
    return np.append(-1, segments.labels)[segments.ids].tolist()


def panoptic_file(tmp_path):
    path = str(tmp_path / 'panoptic.png')
    Image.fromarray(np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], -1).astype(np.uint8)).save(path)
    return dict(seg_map_path=path, segments_info=SEGMENTS_INFO)


@pytest.mark.parametrize('field', ['pred_panoptic_seg', 'pred_detr_seg'])
def test_panoptic_prediction(image_path, field):
    name, example = read_example(make_sample(image_path, **{field: map_field(PANOPTIC)}), CLASSES, field)
    assert name == 'picture'
    np.testing.assert_array_equal(example.image[1, 2], [10, 20, 30])
    assert pixels(example.prediction) == [[1, 1, -1], [0, 1, 0]]
    persons = example.prediction.ids[:, :2]
    assert persons[0, 0] != persons[0, 1] == persons[1, 1]
    assert example.prediction.void == 'void'
    assert example.ground_truth is None


@pytest.mark.parametrize('key', ['sem_seg', 'data'])
def test_semantic_prediction_of_either_host(image_path, key):
    labels = [[3, 3, 4], [0, 1, 0]]
    _, example = read_example(make_sample(image_path, pred_sem_seg=map_field(labels, key)), CLASSES)
    assert pixels(example.prediction) == [[3, 3, -1], [0, 1, 0]]


def test_confident_instances_are_drawn_with_the_most_confident_on_top(image_path):
    masks = torch.tensor([[[1, 1, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [1, 1, 1]]], dtype=torch.bool)
    scores = torch.tensor([0.5, 0.9, MIN_SCORE - 0.01])
    found = InstanceData(masks=masks, labels=torch.tensor([1, 3, 3]), scores=scores)
    _, example = read_example(make_sample(image_path, pred_instances=found), CLASSES)
    assert pixels(example.prediction) == [[1, 3, -1], [-1, -1, -1]]
    assert example.prediction.void is None


def test_which_prediction(image_path):
    fields = dict(pred_sem_seg=map_field([[2] * 3] * 2), pred_panoptic_seg=map_field([[1001] * 3] * 2))
    sample = make_sample(image_path, **fields)
    assert pixels(read_example(sample, CLASSES)[1].prediction)[0] == [1, 1, 1]
    assert pixels(read_example(sample, CLASSES, 'pred_sem_seg')[1].prediction)[0] == [2, 2, 2]
    with pytest.raises(ValueError, match=r"\['pred_panoptic_seg', 'pred_sem_seg'\], expected pred_instances. Fix"):
        read_example(sample, CLASSES, 'pred_instances')
    with pytest.raises(ValueError, match=r"found a prediction with \[\], expected one of \['pred_panoptic_seg'"):
        read_example(make_sample(image_path), CLASSES)


def test_unknown_field():
    require_field(None)
    require_field('pred_instances')
    with pytest.raises(ValueError, match="field: found 'pred_pan', expected None or one of .'pred_panoptic_seg'"):
        require_field('pred_pan')


@pytest.mark.parametrize(
    ('field', 'expected', 'void'),
    [
        ('pred_panoptic_seg', [[2, 1, -1], [3, 1, -1]], 'void'),
        ('pred_sem_seg', [[2, 1, -1], [3, 1, -1]], 'ignored'),
        ('pred_instances', [[-1, 1, -1], [3, 1, -1]], None),
    ],
)
def test_ground_truth_of_a_panoptic_file(image_path, tmp_path, field, expected, void):
    prediction = map_field(PANOPTIC if field == 'pred_panoptic_seg' else [[0] * 3] * 2)
    # The file takes precedence over the sample, whose map may have been resized.
    truth = PixelData(metainfo=dict(labels=(0,)), segment_map=torch.zeros(1, 5, 5, dtype=torch.int16))
    sample = make_sample(image_path, gt_panoptic_seg=truth)
    if field == 'pred_instances':
        sample = instance_sample(image_path, gt_panoptic_seg=truth)
    else:
        sample.set_field(prediction, field)
    _, example = read_example(sample, CLASSES, info=panoptic_file(tmp_path))
    assert pixels(example.ground_truth) == expected
    assert example.ground_truth.void == void
    sample.set_metainfo(panoptic_file(tmp_path))
    assert pixels(read_example(sample, CLASSES)[1].ground_truth) == expected, 'the same from its metainfo'


def test_ground_truth_of_a_panoptic_sample(image_path):
    segment_map = torch.tensor([[[0, 1, -1], [2, 1, -1]]], dtype=torch.int16)
    truth = PixelData(metainfo=dict(labels=(2, 1, 1)), segment_map=segment_map)
    sample = make_sample(image_path, pred_panoptic_seg=map_field(PANOPTIC), gt_panoptic_seg=truth)
    truth = read_example(sample, CLASSES)[1].ground_truth
    assert pixels(truth) == [[2, 1, -1], [1, 1, -1]]
    assert truth.ids[1, 0] != truth.ids[1, 1], 'two persons'


def instance_sample(image_path, **fields):
    found = InstanceData(masks=torch.zeros(0, 2, 3, dtype=bool), labels=torch.zeros(0), scores=torch.zeros(0))
    return make_sample(image_path, pred_instances=found, **fields)


# A person of columns 0 and 1, as a polygon; dogs of one pixel each as run lengths, column by column: plain and packed.
INSTANCES = [
    dict(bbox_label=3, mask=dict(size=[2, 3], counts=[0, 1, 5]), ignore_flag=0),
    dict(bbox_label=1, mask=[[0, 0, 2, 0, 2, 2, 0, 2]], ignore_flag=0),
    dict(bbox_label=3, mask=encode(np.asfortranarray([[0, 0, 0], [0, 0, 1]], np.uint8)), ignore_flag=0),
    dict(bbox_label=1, mask=dict(size=[2, 3], counts=[4, 2]), ignore_flag=1),
    dict(bbox_label=1, ignore_flag=0),
]


def test_ground_truth_of_the_entries_of_an_instance_dataset(image_path):
    info = dict(height=2, width=3, instances=INSTANCES)
    truth = read_example(instance_sample(image_path), CLASSES, info=info)[1].ground_truth
    assert pixels(truth) == [[3, 1, -1], [1, 1, 3]]
    assert truth.ids[0, 0] != truth.ids[1, 2], 'two dogs'
    assert truth.void is None
    assert read_example(instance_sample(image_path), CLASSES, info=info | dict(instances=[]))[1].ground_truth is None


def test_ground_truth_of_the_masks_of_a_sample(image_path):
    masks = BitmapMasks(np.array([[[0, 1, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]]], np.uint8), 2, 3)
    given = InstanceData(masks=masks, labels=torch.tensor([3, 1]))
    truth = read_example(instance_sample(image_path, gt_instances=given), CLASSES)[1].ground_truth
    assert pixels(truth) == [[1, 3, 1], [-1, -1, -1]], 'the smaller one lies on top'


def test_panoptic_file_that_is_not_there(image_path):
    info = dict(seg_map_path='nowhere.png', segments_info=SEGMENTS_INFO)
    sample = make_sample(image_path, pred_panoptic_seg=map_field(PANOPTIC))
    assert read_example(sample, CLASSES, info=info)[1].ground_truth is None


@pytest.mark.parametrize('key', ['sem_seg', 'data'])
def test_semantic_ground_truth_of_either_host(image_path, key):
    fields = dict(pred_sem_seg=map_field([[0] * 3] * 2), gt_sem_seg=map_field([[0, 255, 2], [3, 3, 255]], key))
    _, example = read_example(make_sample(image_path, **fields), CLASSES)
    assert pixels(example.ground_truth) == [[0, -1, 2], [3, 3, -1]]


def test_sizes_must_agree(image_path):
    small = make_sample(image_path, pred_panoptic_seg=map_field(PANOPTIC[:1]))
    with pytest.raises(ValueError, match=r'pred_panoptic_seg: found size \(1, 3\), .*picture.png, \(2, 3\). Fix: in'):
        read_example(small, CLASSES)
    sample = make_sample(image_path, pred_sem_seg=map_field([[0] * 3] * 2), gt_sem_seg=map_field([[0] * 3]))
    with pytest.raises(ValueError, match=r'ground truth: found size \(1, 3\), expected that of .*picture.png'):
        read_example(sample, CLASSES)


class Streets:
    ignore_index = 65535

    def __init__(self, **metainfo):
        self.metainfo = metainfo


def test_class_lists_of_datasets():
    classes = class_list_of(Streets(classes=('road', 'car'), palette=[[1, 2, 3], [4, 5, 6]], thing_classes=('car',)))
    assert classes == (('road', 'car'), [[1, 2, 3], [4, 5, 6]], [False, True], 65535)
    bare = class_list_of(Streets(classes=('road', 'car')))
    assert len(bare.palette) == 2 and bare.is_thing == [True, True]
    with pytest.raises(ValueError, match='the metainfo of Streets has classes None, expected a name for every class'):
        class_list_of(Streets())


@pytest.mark.parametrize('palette', [None, [], 'random'])
def test_classes_without_a_palette_get_colours_of_their_own(palette):
    classes = class_list_of(Streets(classes=('road', 'car'), palette=palette))
    assert classes.palette[0] != classes.palette[1] and np.shape(classes.palette) == (2, 3)


def test_a_palette_may_be_an_array_and_must_have_a_colour_for_each_class():
    palette = np.array([[1, 2, 3], [4, 5, 6]])
    assert class_list_of(Streets(classes=('road', 'car'), palette=palette)).palette is palette
    with pytest.raises(ValueError, match='2 colours for 3 classes'):
        class_list_of(Streets(classes=('road', 'car', 'sky'), palette=palette))


def test_spread_indices():
    assert spread_indices(10, 4) == [0, 3, 6, 9]
    assert spread_indices(3, 8) == [0, 1, 2]
    assert spread_indices(5, 1) == [0]
    with pytest.raises(ValueError, match='dataset: found no image, expected at least one'):
        spread_indices(0, 4)


def test_pictures_of_equal_names_do_not_overwrite_each_other(image_path, tmp_path):
    _, example = read_example(make_sample(image_path, pred_panoptic_seg=map_field(PANOPTIC)), CLASSES)
    names = ['a', 'overview', 'a', 'b', 'c']
    files = write_pictures(((name, example) for name in names), CLASSES, tmp_path / 'out' / 'deep')
    assert [file.name for file in files] == ['a.png', 'overview_1.png', 'a_2.png', 'b.png', 'c.png', 'overview.png']
    assert sorted(files) == sorted((tmp_path / 'out' / 'deep').iterdir()), 'no unfinished file is left'
    taken = write_pictures(((name, example) for name in ('a_2', 'a', 'a')), CLASSES, tmp_path / 'taken')
    assert [file.name for file in taken] == ['a_2.png', 'a.png', 'a_3.png', 'overview.png']
    heights = [Image.open(file).height for file in files]
    assert heights[-1] > 3 * heights[0]


def test_a_picture_that_fails_leaves_no_file(image_path, tmp_path):
    _, example = read_example(make_sample(image_path, pred_panoptic_seg=map_field(PANOPTIC)), CLASSES)
    bad = example._replace(prediction=replace(example.prediction, labels=np.array([9, 9, 9])))
    with pytest.raises(ValueError, match='labels: found class 9'):
        write_pictures([('good', example), ('bad', bad)], CLASSES, tmp_path / 'out')
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['good.png']
