"""The settings of a resolved config under the keys of `published.json`: schedule, augmentation, test, model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

NAME = re.compile(r'_(?P<gpus>\d+)xb(?P<batch>\d+)')
"""The batch in the name of a config, as in OpenMMLab: 8xb2 is 8 GPUs with 2 images each."""
LOSSES = {'cls': 'class', 'mask': 'mask', 'dice': 'dice'}
IDLE = ('LoadImageFromFile', 'LoadSegAnnotations', 'LoadPanopticAnnotations', 'PackSegInputs', 'PackPanopticInputs')
"""Transforms that change no pixel."""


def settings_of(config: Config) -> dict[str, Any]:
    """All settings of a config that the paper or its official configs state, under the keys of `published.json`.

    Iterations are optimiser steps: with gradient accumulation, forward passes divided by the accumulated number.

    Args:
        config: config of a training run.
    """
    return _data_settings(config) | _schedule_settings(config) | _test_settings(config) | _model_settings(config)


def _data_settings(config: Config) -> dict[str, Any]:
    pipeline = config.train_dataloader.dataset.pipeline
    # The host's packing transform, used for instance segmentation, has no such setting.
    kept = any(step.get('keep_vanished', False) for step in pipeline)
    filters = config.train_dataloader.dataset.get('filter_cfg') or {}
    return {
        'augmentation': list(steps_of(pipeline)),
        'images left out': ', '.join(f'{key} {value}' for key, value in filters.items()) or 'none',
        'empty segments': 'kept' if kept else 'dropped',
    }


def _schedule_settings(config: Config) -> dict[str, Any]:
    wrapper, passes = config.optim_wrapper, config.optim_wrapper.get('accumulative_counts', 1)
    optimizer = wrapper.optimizer
    betas, eps = tuple(optimizer.get('betas', (0.9, 0.999))), optimizer.get('eps', 1e-8)
    schedule, warmup = _describe_schedulers(config.get('param_scheduler', []), passes)
    return {
        'iterations': config.train_cfg.max_iters // passes,
        'validation every': config.train_cfg.val_interval // passes,
        'schedule': schedule,
        'warm-up': warmup,
        'batch': gpus_of(config) * config.train_dataloader.batch_size * passes,
        'optimiser': f'{optimizer.type}, betas {betas}, eps {eps:g}',
        'clipping': f'L{wrapper.clip_grad.get("norm_type", 2):g} norm {wrapper.clip_grad.max_norm:g}',
    }


def gpus_of(config: Config) -> int:
    """Number of GPUs of a config, from its name, else from its ``auto_scale_lr``, else 1.

    Raises:
        ValueError: if the batch size per GPU in the name differs from the config.
    """
    stem = Path(config.filename).stem
    found = NAME.search(stem)
    if found is None:
        batch = config.train_dataloader.batch_size
        return config.get('auto_scale_lr', {}).get('base_batch_size', batch) // batch
    if int(found['batch']) != config.train_dataloader.batch_size:
        raise ValueError(
            f'{stem}: the name means {found["batch"]} images per GPU, but train_dataloader.batch_size is '
            f'{config.train_dataloader.batch_size}. Fix: rename the file, or set the batch size.'
        )
    return int(found['gpus'])


def _describe_schedulers(schedulers: Sequence[Mapping], passes: int) -> tuple[str, str]:
    """Describe decay and warm-up."""
    decay, warmup = [], []
    for scheduler in schedulers:
        kind = scheduler['type']
        if kind == 'PolyLR':
            least = f', at least {scheduler["eta_min"]:g}' if scheduler.get('eta_min') else ''
            decay.append(f'poly, power {scheduler["power"]:g}{least}')
        elif kind == 'MultiStepLR':
            at = ' '.join(f'{milestone / passes:g}' for milestone in scheduler['milestones'])
            decay.append(f'x {scheduler["gamma"]:g} at {at}')
        elif kind == 'LinearLR':
            # mmengine reaches the full rate one iteration before `end`.
            length = (scheduler['end'] - scheduler.get('begin', 0) - 1) / passes
            warmup.append(f'{length:g} iterations from {scheduler["start_factor"]:g}')
        else:
            decay.append(kind)
    return ' and '.join(decay) or 'constant', ' and '.join(warmup) or 'none'


def _test_settings(config: Config) -> dict[str, Any]:
    evaluated = config.test_dataloader.dataset.pipeline
    sizes = [_size(step) for step in evaluated if _short(step) == 'ResizeShortestEdge']
    found: dict[str, Any] = {'test size': ' then '.join(sizes) or 'another transform'}
    if 'listed_areas' in config.test_evaluator:
        listed = config.test_evaluator.listed_areas
        found['true areas in PQ'] = 'those of the JSON file' if listed else 'pixels'
    if 'tta_pipeline' in config:
        scales, flips = config.tta_pipeline[-1].transforms[:2]
        flipped = [step.prob for step in flips]
        words = {(0.0, 1.0): 'plain and flipped', (0.0,): 'plain'}.get(tuple(flipped), str(flipped))
        long_sides = {step.max_size for step in scales}
        equal = all(step.short_edge == step.max_size for step in scales)
        edges = ' '.join(str(step.short_edge) for step in scales)
        limit = 'as long sides' if equal else f'long side at most {" ".join(map(str, sorted(long_sides)))}'
        found['test views'] = f'{edges}, {limit}, {words}'
        before = [_size(step) for step in config.tta_pipeline if _short(step) == 'ResizeShortestEdge']
        found['views start from'] = 'the image resized for the test' if before == sizes else 'the image file'
    return found


def _model_settings(config: Config) -> dict[str, Any]:
    model, preprocessor = config.model, config.model.data_preprocessor
    semantic = 'decode_head' in model
    head = model.decode_head if semantic else model.panoptic_head
    found = {
        'classes': head.num_classes,
        'channels': head.channels,
        'encoder layers': head.pixel_decoder.get('num_layers', 0),
        'drop path': model.backbone.get('drop_path_rate', 'none'),
        'loss weights': _loss_weights(head.criterion),
    }
    if 'transformer_decoder' in head:
        decoder = head.transformer_decoder
        found |= {
            'queries': head.get('num_queries', head.num_classes),  # a per-pixel model has one for each class
            'decoder layers': decoder.num_layers,
            'heads': decoder.num_heads,
            'feed-forward channels': decoder.ffn_channels,
            'dropout': decoder.dropout,
        }
    if semantic:
        ignored = head.get('ignore_index', 255)
        return found | {'ignored label': ignored, 'size divisor': preprocessor.test_cfg.size_divisor}
    panoptic = model.test_cfg.get('panoptic') or {}
    thresholds = {f'{key} threshold': panoptic.get(f'{key}_threshold', 0.8) for key in ('object', 'overlap')}
    return found | {'size divisor': preprocessor.pad_size_divisor} | (thresholds if panoptic else {})


def _loss_weights(criterion: Mapping) -> str:
    """Describe the loss weights."""
    if _short(criterion) == 'PixelCrossEntropy':
        return f'cross-entropy {criterion["loss_weight"]:g}'
    weights = criterion['loss_weights']
    words = [f'{word} {weights[name]:g}' for name, word in LOSSES.items() if name in weights]
    if 'no_object_weight' in criterion:
        words.append(f'no object {criterion["no_object_weight"]:g}')
    return ', '.join(words)


def steps_of(pipeline: Sequence[Mapping]) -> Iterator[str]:
    """Describe a training pipeline, one line for each transform; a random choice has one line for each branch."""
    for step in pipeline:
        name = _short(step)
        if name == 'RandomChoice':
            branches = zip(step['prob'], step['transforms'], strict=True)
            yield from (f'{prob:g}: {", ".join(steps_of(branch))}' for prob, branch in branches)
        elif name not in IDLE:
            yield _step(name, step)


def _step(name: str, step: Mapping) -> str:
    if name == 'ResizeShortestEdge':
        return f'resize {_size(step)}'
    if name == 'RandomCrop' and step.get('crop_type') == 'absolute_range':
        side = f'{step["crop_size"][0]} to {step["crop_size"][1]}'
        return f'crop {side} x {side}'
    if name == 'RandomCrop':
        limit = step.get('cat_max_ratio', 1.0)
        return f'crop {_pixels(step["crop_size"])}' + ('' if limit == 1.0 else f', one class at most {limit:g}')
    if name == 'RandomCropRange':
        side = f'{step["min_size"]} to {step["max_size"]}'
        return f'crop {side} x {side}'
    if name == 'ColorJitterSSD':
        return 'colour'
    if name == 'RandomFlip':
        return f'flip {step["prob"]:g}'
    if name == 'PadToSize':
        return f'pad to {_pixels(step["size"])} with {step.get("image_value", 128)}'
    return name


def _short(step: Mapping) -> str:
    return step['type'].rpartition('.')[2]


def _size(step: Mapping) -> str:
    """Describe short edges and limit of a ResizeShortestEdge."""
    edges = step['short_edge'] if isinstance(step['short_edge'], Sequence) else [step['short_edge']]
    limit = '' if step['max_size'] is None else f', long side at most {step["max_size"]}'
    return ' '.join(map(str, edges)) + limit


def _pixels(size: Sequence[int]) -> str:
    return f'{size[0]} x {size[1]}'
