"""The hook that checks `save_best`, with the hosts' metrics and a minimal runner."""

from types import SimpleNamespace

import pytest
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import init_default_scope

import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed
from mmmaskformer.hosts.best_key import CheckBestKeyHook

PANOPTIC = dict(type='mmmaskformer.PanopticMetric')
SEMANTIC = dict(type='mmmaskformer.SemanticMetric')
IOU = dict(type='mmseg.IoUMetric')
COCO_PANOPTIC = dict(type='mmdet.CocoPanopticMetric')


def runner(metrics, save_best, hook=None):
    init_default_scope('mmdet')
    evaluator = Evaluator(metrics)
    hooks = [hook or CheckpointHook(save_best=save_best, rule='greater')]
    return SimpleNamespace(val_loop=SimpleNamespace(evaluator=evaluator), val_evaluator=evaluator, hooks=hooks)


@pytest.mark.parametrize(
    ('metrics', 'save_best'),
    [
        (PANOPTIC, 'panoptic/PQ'),
        (SEMANTIC, 'mIoU'),
        (IOU, 'mIoU'),
        (COCO_PANOPTIC, 'coco_panoptic/PQ'),
        (COCO_PANOPTIC, 'auto'),
        (dict(PANOPTIC, also=[SEMANTIC]), 'mIoU'),
        ([IOU, PANOPTIC], ['mIoU', 'panoptic/PQ']),
        (dict(PANOPTIC, prefix='second'), 'second/PQ'),
        (PANOPTIC, None),
    ],
)
def test_keys_of_the_metrics_pass(metrics, save_best):
    CheckBestKeyHook().before_train(runner(metrics, save_best))


@pytest.mark.parametrize(
    ('metrics', 'save_best', 'found'),
    [
        (COCO_PANOPTIC, 'panoptic/PQ', "CocoPanopticMetric (prefix 'coco_panoptic')"),
        (IOU, 'panoptic/PQ', 'IoUMetric (prefix None)'),
        (PANOPTIC, 'mIoU', "PanopticMetric (prefix 'panoptic')"),
        ([COCO_PANOPTIC, PANOPTIC], ['panoptic/PQ', 'mIoU'], "(prefix 'coco_panoptic'), PanopticMetric"),
    ],
)
def test_a_key_of_no_metric_ends_the_run_before_it_starts(metrics, save_best, found):
    with pytest.raises(ValueError) as error:
        CheckBestKeyHook().before_train(runner(metrics, save_best))
    message = str(error.value)
    assert 'default_hooks.checkpoint.save_best=' in message and found in message and "'auto'" in message


def test_the_monitor_of_early_stopping_is_checked_too():
    hook = EarlyStoppingHook(monitor='panoptic/PQ', rule='greater')
    with pytest.raises(ValueError, match=r"EarlyStoppingHook.monitor='panoptic/PQ' is not a result of any metric"):
        CheckBestKeyHook().before_train(runner(SEMANTIC, None, hook))


def test_an_absent_key_is_named_at_the_first_validation():
    ours = runner(dict(IOU, iou_metrics=['mDice']), 'mIoU')
    CheckBestKeyHook().before_train(ours)
    CheckBestKeyHook().after_val_epoch(ours, dict(mIoU=1.0))
    with pytest.raises(
        KeyError, match=r"save_best='mIoU' is not a result of the validation; found \['aAcc', 'mDice'\]"
    ):
        CheckBestKeyHook().after_val_epoch(ours, dict(mDice=1.0, aAcc=2.0))


def test_training_without_validation_passes():
    hooks = [CheckpointHook(save_best='mIoU', rule='greater')]
    CheckBestKeyHook().before_train(SimpleNamespace(val_loop=None, hooks=hooks))
