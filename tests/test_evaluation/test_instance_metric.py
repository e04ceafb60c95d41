"""The COCO metric with defective instance files; the predictions are the true masks."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, DefaultScope
from pycocotools import mask as coco_mask

import mmmaskformer.registry  # noqa: F401  makes our names known

SIZE = (64, 96)
SQUARES = [[10, 10, 40, 10, 40, 40, 10, 40], [50, 20, 90, 20, 90, 50, 50, 50]]


def write(folder, *changes: dict) -> str:
    """A file with one image per changed annotation; '-' removes a key."""
    images = [dict(id=n, file_name=f'{n}.png', height=SIZE[0], width=SIZE[1]) for n in range(len(changes))]
    rows = []
    for number, change in enumerate(changes):
        row = dict(id=number + 3, image_id=number, category_id=1, bbox=[10, 10, 30, 30], area=900, iscrowd=0,
                   segmentation=[SQUARES[number % 2]])  # fmt: skip
        rows.append({key: value for key, value in (row | change).items() if value != '-'})
    content = dict(images=images, annotations=rows, categories=[dict(id=1, name='person')])
    (folder / 'instances.json').write_text(json.dumps(content))
    return str(folder / 'instances.json')


def perfect(file: str, kind: str, num: int) -> float:
    """mAP of the true masks of the first ``num`` images."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build(dict(type=kind, ann_file=file, metric=['segm']))
    metric.dataset_meta = dict(classes=('person',))
    for number in range(num):
        packed = coco_mask.frPyObjects([SQUARES[number % 2]], *SIZE)
        masks = torch.from_numpy(coco_mask.decode(packed).transpose(2, 0, 1).astype(bool))
        found = dict(bboxes=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.int64), scores=torch.ones(1))
        metric.process({}, [dict(img_id=number, ori_shape=SIZE, pred_instances=found | dict(masks=masks))])
    return metric.evaluate(num)['coco/segm_mAP']


@pytest.mark.parametrize(
    'change',
    [{}, dict(id=0), dict(id='-'), dict(id=3), dict(area='-'), dict(iscrowd='-'), dict(area=None), dict(bbox='-')],
)
def test_true_masks_are_right(tmp_path, change):
    assert perfect(write(tmp_path, {}, change), 'mmmaskformer.CocoInstanceMetric', 2) == pytest.approx(1)


@pytest.mark.parametrize('outline', ['-', None, [], [[10, 10, 20, 20]], dict(size=list(SIZE), counts=[5, 5])])
def test_annotations_without_a_usable_outline_are_left_out(tmp_path, outline):
    file = write(tmp_path, {}, {}, dict(segmentation=outline))
    assert perfect(file, 'mmmaskformer.CocoInstanceMetric', 2) == pytest.approx(1)


def test_the_hosts_metric_counts_an_annotation_of_id_0_as_a_false_negative(tmp_path):
    assert perfect(write(tmp_path, {}, dict(id=0)), 'mmdet.CocoMetric', 2) < 0.8


def test_a_complete_file_gives_the_results_of_the_hosts_metric(tmp_path):
    file = write(tmp_path, {}, {}, {}, dict(iscrowd=1))
    ours, theirs = (perfect(file, kind, 2) for kind in ('mmmaskformer.CocoInstanceMetric', 'mmdet.CocoMetric'))
    assert ours == theirs and 0 < ours < 1
    np.testing.assert_equal(perfect(file, 'mmmaskformer.CocoInstanceMetric', 3), 1)


def test_a_misspelt_argument_is_refused(tmp_path):
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        pytest.raises(TypeError, match="CocoInstanceMetric does not take the key 'metrics'. Did you mean 'metric'"),
    ):
        METRICS.build(dict(type='mmmaskformer.CocoInstanceMetric', metrics=['segm']))


def test_a_model_without_instances_is_named():
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build(dict(type='mmmaskformer.CocoInstanceMetric', metric='segm'))
    with pytest.raises(KeyError, match=r"no 'pred_instances'. Fix: .*test_cfg=dict\(instance=dict"):
        metric.process({}, [dict(img_id=1, pred_panoptic_seg=dict())])
