"""mmengine hooks that configs/_base_/default_runtime.py enables."""

import logging
import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmmaskformer.checkpoints.classes import find_permutation
from mmmaskformer.core.checks import checked
from mmmaskformer.core.training.points import RandomPoints
from mmmaskformer.datasets.pipelines import SEGMENTS, check_pipelines, leaves_of, loaded_by
from mmmaskformer.formats.mmdet_codes import MOST_CLASSES
from mmmaskformer.heads.panoptic_head import thing_flags
from mmmaskformer.heads.settings import check_segmentor_test_cfg
from mmmaskformer.hosts.checkpoint_files import origin_of_weights
from mmmaskformer.hosts.metrics import all_metrics
from mmmaskformer.registry import HOOKS

HEADS = ('decode_head', 'panoptic_head', 'panoptic_fusion_head')
"""Attributes of the hosts' models with the heads that depend on the classes."""


@HOOKS.register_module()
@checked()
class RepeatableRunHook(Hook):
    """Makes a run resumed from a checkpoint produce the losses of an uninterrupted run.

    Before training it seeds numpy and Python: without data-loading workers the augmentation draws from the generators
    of this process, whose state after start-up differs between a resumed and a fresh run. Before each iteration it
    seeds torch from the run's seed, the rank and the iteration, so that dropout and drop-path do not depend on earlier
    iterations; this takes about ten microseconds. It also passes the iteration to losses that sample points with their
    own seed. The order of the data is restored by mmengine, which advances the data loader on resume.
    """

    priority = 'VERY_HIGH'
    _points: Sequence[RandomPoints] = ()

    def before_train(self, runner: Runner) -> None:
        """Seed the generators of the augmentation, and find the losses that sample points."""
        self._points = [module for module in runner.model.modules() if isinstance(module, RandomPoints)]
        seed = (runner.seed + get_rank()) % 2**32
        random.seed(seed)
        np.random.seed(seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed torch on all devices, and losses with their own generator."""
        for points in self._points:
            points.start(runner.iter)
        torch.manual_seed(hash((runner.seed, get_rank(), runner.iter)) % 2**63)


@HOOKS.register_module()
@checked()
class CheckClassesHook(Hook):
    """Compares class list, things and ignored label of data, model, metrics and checkpoint before the first step.

    It looks inside wrappers such as ConcatDataset, and refuses pipelines that separate images from annotations. Before
    training it also passes the class names to our heads, for class weights that are given by name.
    """

    _trained_classes: Sequence[str] = ()
    _checkpoint: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        self._check(runner, 'train_dataloader', [])
        _check_batch_augments(runner)
        first, _ = next(iter(leaves_of(runner.train_dataloader.dataset)))
        classes = getattr(first, 'metainfo', {}).get('classes')
        for key in HEADS:
            head = getattr(bare_model(runner.model), key, None)
            if classes is not None and hasattr(head, 'name_classes'):
                head.name_classes(classes)

    def before_val(self, runner: Runner) -> None:
        """Check the validation data and metrics."""
        self._check(runner, 'val_dataloader', list(all_metrics(runner.val_evaluator.metrics)))

    def before_test(self, runner: Runner) -> None:
        """Check the test data and metrics."""
        self._check(runner, 'test_dataloader', list(all_metrics(runner.test_evaluator.metrics)))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the class list of the checkpoint."""
        self._trained_classes = classes_of_checkpoint(checkpoint)
        self._checkpoint = origin_of_weights(runner)

    def _check(self, runner: Runner, where: str, metrics: Sequence) -> None:
        dataset, model = getattr(runner, where).dataset, bare_model(runner.model)
        check_pipelines(dataset, f'{where}: ')
        if hasattr(getattr(model, 'decode_head', None), 'predict_masks'):
            check_segmentor_test_cfg(getattr(model, 'test_cfg', None))
        _check_panoptic_codes(where, runner, model, metrics)
        require_same_classes(where, dataset, model, metrics, self._trained_classes, self._checkpoint)


def require_same_classes(
    where: str,
    dataset,
    model,
    metrics: Sequence = (),
    trained_classes: Sequence[str] = (),
    checkpoint: str | None = None,
) -> None:
    """Compare class list, things and ignored label of a dataset with those of a model, metrics and a checkpoint.

    Classes of the checkpoint with other names are reported, since a model may be fine-tuned.

    Args:
        where: key of the data loader, for messages.
        dataset: dataset with or without wrappers.
        model: model of either host, without wrappers.
        metrics: metrics that evaluate the model on the dataset.
        trained_classes: the class list that the checkpoint was trained with, see `classes_of_checkpoint`.
        checkpoint: its name, for messages.

    Raises:
        ValueError: naming what differs.
    """
    leaves = [leaf for leaf, _ in leaves_of(dataset)]
    for leaf in leaves:
        _check_same_classes(where, leaves[0], leaf)
        name = f'{where}: {type(leaf).__name__}'
        _check_dataset(name, leaf, model, metrics)
        _check_order(name, getattr(leaf, 'metainfo', {}).get('classes'), trained_classes, checkpoint)


def classes_of_checkpoint(checkpoint: dict) -> Sequence[str]:
    """The class list that a checkpoint of a training run was trained with; empty if it does not say."""
    meta = checkpoint.get('meta')
    meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    return meta.get('classes') or () if isinstance(meta, dict) else ()


@HOOKS.register_module()
@checked()
class ShareWeightsHook(Hook):
    """Renames the weights of the head, so that a panoptic model can start from a semantic checkpoint and vice versa.

    Both hosts' models hold the same classifier, under ``decode_head`` or ``panoptic_head``. Backbones of one type have
    the same names in both hosts.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rename the weights before they are copied, if the checkpoint has the head of the other host.

        Raises:
            ValueError: if the checkpoint is not a dict.
        """
        if not isinstance(checkpoint, Mapping):
            raise ValueError(
                f'checkpoint {origin_of_weights(runner)}: found a {type(checkpoint).__name__}, expected a dict of '
                'weights, or one with state_dict. Fix: use a checkpoint of a training run'
            )
        weights = checkpoint.get('state_dict', checkpoint)
        model = bare_model(runner.model)
        for theirs, ours in (HEADS[:2], HEADS[1::-1]):
            keys = [key for key in weights if key.startswith(f'{theirs}.classifier.')]
            if keys and hasattr(model, ours) and not hasattr(model, theirs):
                for key in keys:
                    weights[ours + key.removeprefix(theirs)] = weights.pop(key)
                print_log(f'The checkpoint has a {theirs}: its weights are loaded into the {ours}.', logger='current')


def bare_model(model):
    """The model inside the wrappers of distributed training and test-time augmentation."""
    if is_model_wrapper(model):
        model = model.module
    return model.module if isinstance(model, BaseTTAModel) else model


def is_sharded(model) -> bool:
    """Whether FSDP holds the parameters, whose names or shapes then differ from those of the checkpoint."""
    is_wrapped = any(type(module).__name__.endswith('FullyShardedDataParallel') for module in model.modules())
    return is_wrapped or any('_flat_param' in name for name, _ in model.named_parameters())


def _check_batch_augments(runner: Runner) -> None:
    """Raise a `ValueError` if MMDetection's own preprocessor has batch augmentations, which do not support segments."""
    preprocessor = getattr(bare_model(runner.model), 'data_preprocessor', None)
    is_stock = type(preprocessor).__module__.startswith('mmdet.') and getattr(preprocessor, 'batch_augments', None)
    leaves = leaves_of(runner.train_dataloader.dataset) if is_stock else ()
    if any(SEGMENTS in loaded_by(transform) for _, transforms in leaves for transform in transforms):
        raise ValueError(
            'model.data_preprocessor.batch_augments: those of mmdet.DetDataPreprocessor need masks or label maps, '
            "which panoptic samples do not have. Fix: use type='mmmaskformer.DetDataPreprocessor', which pads their "
            'segments, or remove batch_augments'
        )


def _check_panoptic_codes(where: str, runner: Runner, model, metrics: Sequence) -> None:
    """Raise a `ValueError` if a part of MMDetection would read panoptic maps with more classes than its codes allow."""
    head = getattr(model, 'panoptic_fusion_head', None)
    if getattr(head, 'num_classes', 0) <= MOST_CLASSES or not {'panoptic', 'detr'} & set(getattr(head, 'outputs', ())):
        return
    drawing = [hook for hook in getattr(runner, 'hooks', ()) if getattr(hook, 'draw', False)]
    for part in (*metrics, *drawing):
        names = {cls.__name__ for cls in type(part).__mro__ if cls.__module__.startswith('mmdet.')}
        if names & {'CocoPanopticMetric', 'DetVisualizationHook'}:
            raise ValueError(
                f'{where}: {type(part).__name__} reads label + 1000 * instance, which allows {MOST_CLASSES} classes, '
                f'but the model has model.panoptic_fusion_head.num_classes={head.num_classes}. Fix: use '
                "type='mmmaskformer.PanopticMetric' as metric and 'mmmaskformer.DrawPredictionsHook' to draw"
            )


def _check_dataset(name: str, dataset, model, metrics: Sequence) -> None:
    """Compare one unwrapped dataset with the model and the metrics."""
    meta = getattr(dataset, 'metainfo', {})
    if meta.get('classes') is None:
        return
    for key in HEADS:
        head = getattr(model, key, None)
        if getattr(head, 'num_classes', None) is not None:
            _check_num_classes(name, meta['classes'], key, head.num_classes)
            _check_things(name, meta, key, head)
    if hasattr(model, 'decode_head'):
        _check_ignored_label(name, dataset, model, metrics)


def _check_order(name: str, classes: Sequence[str] | None, trained: Sequence[str], checkpoint: str | None) -> None:
    """Compare with the classes of the checkpoint: another order is an error, other classes are a warning."""
    classes = classes or ()
    pairs = enumerate(zip(trained, classes, strict=False))
    index = next((index for index, (theirs, ours) in pairs if theirs != ours), None)
    if index is None or len(trained) != len(classes):
        return
    found = f"{name}: class {index} is '{classes[index]}', but '{trained[index]}' in checkpoint {checkpoint}"
    order = find_permutation(trained, classes)
    if order == list(range(len(classes))):
        return  # the same names, spelt differently
    if order is not None:
        raise ValueError(
            f'{found}, which has the same classes in another order. Fix: list the classes of the dataset in the '
            f"checkpoint's order: metainfo=dict(classes={tuple(trained)})"
        )
    print_log(
        f"{found}. Unless this is fine-tuning, put the classes in the checkpoint's order.",
        logger='current',
        level=logging.WARNING,
    )


def _check_same_classes(where: str, first, other) -> None:
    """Raise a `ValueError` if two concatenated datasets disagree on the classes or on which are things."""
    for key in ('classes', 'isthing'):
        expected, found = (getattr(dataset, 'metainfo', {}).get(key) for dataset in (first, other))
        if (None if expected is None else list(expected)) != (None if found is None else list(found)):
            raise ValueError(
                f"{where}: the concatenated datasets disagree on '{key}': {type(first).__name__} has {expected}, "
                f'{type(other).__name__} has {found}. Fix: set the same class list, in the same order, in all of them: '
                'metainfo=dict(classes=...).'
            )


def _check_num_classes(name: str, classes: Sequence[str], key: str, num_classes: int) -> None:
    if len(classes) != num_classes:
        raise ValueError(
            f'{name} has {len(classes)} classes, but the model has {key}.num_classes={num_classes}. '
            f'Fix: set model.{key}.num_classes={len(classes)}.'
        )


def _check_things(name: str, meta: dict, key: str, head) -> None:
    """Raise a `ValueError` if data and head disagree on which classes are things."""
    is_thing, true = thing_flags(head), meta.get('isthing')
    if is_thing is None or true is None:
        return
    for label, (expected, found) in enumerate(zip(true, is_thing.tolist(), strict=True)):
        if bool(expected) != found:
            kinds = ('stuff', 'a thing')
            things = [label for label, isthing in enumerate(true) if isthing]
            where, fix = f'model.{key}.things', f'set model.{key}.things={things}'
            if not hasattr(head, 'is_thing'):
                where = f'model.{key}, whose {type(head).__name__} assumes that things come first'
                fix = f"use mmmaskformer's {key}, or put the things first in the class list"
            raise ValueError(
                f"{name}: class {label} '{meta['classes'][label]}' is {kinds[bool(expected)]}, but {kinds[found]} in "
                f'{where}. Fix: {fix}.'
            )


def _check_ignored_label(name: str, dataset, model, metrics: Sequence) -> None:
    """Raise a `ValueError` if the parts do not agree on the label of pixels without a class."""
    preprocessor, head = getattr(model, 'data_preprocessor', None), getattr(model, 'decode_head', None)
    expected = getattr(head, 'ignore_index', None)
    found = {
        f'{name}.ignore_index': getattr(dataset, 'ignore_index', None),
        'model.data_preprocessor.seg_pad_val': getattr(preprocessor, 'seg_pad_val', None),
    }
    found |= {f'{type(metric).__name__}.ignore_index': getattr(metric, 'ignore_index', None) for metric in metrics}
    for key, value in found.items():
        if expected is not None and value is not None and value != expected:
            raise ValueError(
                f'{key} is {value}, but model.decode_head.ignore_index is {expected}. Fix: set both to the same value, '
                'which must not be a class.'
            )
