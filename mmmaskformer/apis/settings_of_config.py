"""The settings of a resolved config under the keys of `published.json`: data, schedule, augmentation, test."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmaskformer.apis.settings_of_model import further, model_settings, short_type, words

NAME = re.compile(r'_(?P<gpus>\d+)xb(?P<batch>\d+)')
"""The batch in the name of a config, as in OpenMMLab: 8xb2 is 8 GPUs with 2 images each."""
IDLE = (
    'LoadImageFromFile',
    'LoadAnnotations',
    'LoadSegAnnotations',
    'LoadPanopticAnnotations',
    'PackSegInputs',
    'PackDetInputs',
    'PackPanopticInputs',
)
"""Transforms that change no pixel."""
DESCRIBED = {
    'ResizeShortestEdge': ('short_edge', 'max_size'),
    'RandomCrop': ('crop_size', 'crop_type', 'cat_max_ratio', 'allow_negative_crop'),
    'RandomCropRange': ('min_size', 'max_size'),
    'RandomFlip': ('prob',),
    'PadToSize': ('size', 'image_value'),
}
"""Settings that the description of a transform contains; others are appended to it as in the config."""
OF_A_FILE = re.compile(r'(_\d{8}-[0-9a-f]{8})?(\.pth|\.pkl)?$')
"""Date, checksum and suffix in the name of a weights file."""
OPTIMIZER = ('type', 'lr', 'betas', 'eps', 'weight_decay')


def settings_of(config: Config) -> dict[str, Any]:
    """All settings of a config that the paper or its official configs state, under the keys of `published.json`.

    Iterations are optimiser steps: with gradient accumulation, forward passes divided by the accumulated number.
    Settings without a description of their own are listed as in the config, so that every setting is compared.

    Args:
        config: config of a training run.
    """
    return (
        _run_settings(config)
        | _data_settings(config)
        | _schedule_settings(config)
        | _test_settings(config)
        | model_settings(config)
    )


def _run_settings(config: Config) -> dict[str, Any]:
    backbone = config.model.backbone
    weights = (backbone.get('init_cfg') or {}).get('checkpoint') or backbone.get('pretrained')
    weights = config.get('load_from') or weights or 'random weights'
    hooks = [hook for hook in config.get('custom_hooks') or [] if not hook.type.startswith('mmmaskformer.')]
    return {
        'starts from': OF_A_FILE.sub('', Path(str(weights)).name),
        'other hooks': ', '.join(map(short_type, hooks)) or 'none',
    }


def _data_settings(config: Config) -> dict[str, Any]:
    loader = config.train_dataloader
    dataset = _innermost(loader.dataset)
    # The host's packing transform, used for instance segmentation, has no such setting.
    kept = any(step.get('keep_vanished', False) for step in dataset.pipeline)
    filters = dataset.get('filter_cfg') or {}
    return {
        'trained on': _files(loader.dataset),
        'augmentation': list(steps_of(dataset.pipeline)),
        'order of images': 'random' if loader.get('sampler', {}).get('shuffle', True) else 'as listed',
        'images left out': ', '.join(f'{key} {value}' for key, value in filters.items()) or 'none',
        'empty segments': 'kept' if kept else 'dropped',
    }


def _innermost(dataset: Mapping) -> Any:
    """The first dataset inside wrappers."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def _files(dataset: Mapping) -> str:
    """Kind of a dataset, and what it reads below its root."""
    inner = _innermost(dataset)
    wrapper = '' if inner is dataset else f'{short_type(dataset)} of '
    files = [inner.get('ann_file'), *(inner.get('data_prefix') or {}).values()]
    return f'{wrapper}{short_type(inner)}, {", ".join(str(file) for file in files if file)}'


def _schedule_settings(config: Config) -> dict[str, Any]:
    wrapper, passes = config.optim_wrapper, config.optim_wrapper.get('accumulative_counts', 1)
    optimizer, loop = wrapper.optimizer, config.train_cfg
    betas, eps = tuple(optimizer.get('betas', (0.9, 0.999))), optimizer.get('eps', 1e-8)
    kind = '' if short_type(wrapper) == 'OptimWrapper' else f'{short_type(wrapper)} of '
    schedule, warmup = _describe_schedulers(config.get('param_scheduler') or [], passes, loop.get('max_iters'))
    by_epoch = 'max_iters' not in loop
    scaled = config.get('auto_scale_lr', {}).get('base_batch_size')
    return {
        'iterations': f'{loop.max_epochs} epochs' if by_epoch else loop.max_iters // passes,
        'validation every': loop.get('val_interval', 1) // (1 if by_epoch else passes),
        'schedule': schedule,
        'warm-up': warmup,
        'batch': gpus_of(config) * config.train_dataloader.batch_size * passes,
        'batch of the learning rate': 'not stated' if scaled is None else scaled * passes,
        'optimiser': ', '.join([f'{kind}{optimizer.type}, betas {betas}, eps {eps:g}', *further(optimizer, OPTIMIZER)]),
        'clipping': _describe_clipping(wrapper.get('clip_grad')),
    }


def _describe_clipping(clipping: Mapping | None) -> str:
    if not clipping:
        return 'none'
    if 'max_norm' not in clipping:
        return words(clipping)
    return f'L{clipping.get("norm_type", 2):g} norm {clipping["max_norm"]:g}'


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


def _describe_schedulers(schedulers: Sequence[Mapping], passes: int, iterations: int | None) -> tuple[str, str]:
    """Describe decay and warm-up.

    Args:
        schedulers: schedulers of the config.
        passes: forward passes for each step of the optimiser.
        iterations: forward passes of the run; None for a run by epoch.
    """
    decay, warmup = [], []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    for scheduler in schedulers:
        kind = scheduler['type']
        odd = ', by epoch' if scheduler.get('by_epoch', True) else ''
        if kind == 'PolyLR':
            least = f', at least {scheduler["eta_min"]:g}' if scheduler.get('eta_min') else ''
            # mmengine reaches the end of a schedule one iteration before `end`.
            length = scheduler['end'] - 1 - scheduler.get('begin', 0)
            odd += '' if length == iterations else f', over {length / passes:g} iterations'
            decay.append(f'poly, power {scheduler["power"]:g}{least}{odd}')
        elif kind == 'MultiStepLR':
            at = ' '.join(f'{milestone / passes:g}' for milestone in scheduler['milestones'])
            decay.append(f'x {scheduler["gamma"]:g} at {at}{odd}')
        elif kind == 'LinearLR':
            length = (scheduler['end'] - scheduler.get('begin', 0) - 1) / passes
            odd += f', begun at {scheduler["begin"]}' if scheduler.get('begin') else ''
            odd += f', to {scheduler["end_factor"]:g}' if scheduler.get('end_factor', 1) != 1 else ''
            warmup.append(f'{length:g} iterations from {scheduler["start_factor"]:g}{odd}')
        else:
            decay.append(words(scheduler))
    return ' and '.join(decay) or 'constant', ' and '.join(warmup) or 'none'


def _test_settings(config: Config) -> dict[str, Any]:
    dataset = _innermost(config.test_dataloader.dataset)
    size = _sizes(dataset.pipeline)
    validated = _sizes(_innermost(config.val_dataloader.dataset).pipeline)
    found: dict[str, Any] = {
        'tested on': _files(dataset),
        'test size': size,
        'validation size': 'that of the test' if validated == size else validated,
    }
    if 'listed_areas' in config.test_evaluator:
        listed = config.test_evaluator.listed_areas
        found['true areas in PQ'] = 'those of the JSON file' if listed else 'pixels'
    if 'tta_pipeline' in config:
        found['test views'] = _views(config.tta_pipeline[-1])
        before = _sizes(config.tta_pipeline[:-1])
        found['views start from'] = 'the image resized for the test' if before == size else 'the image file'
    return found


def _views(step: Mapping) -> str:
    """Scales and flips of a TestTimeAug step."""
    scales, flips, *_ = step['transforms']
    if not all(short_type(scale) == 'ResizeShortestEdge' for scale in scales):
        return '; '.join(' or '.join(steps_of(choices)) for choices in (scales, flips))
    flipped = [flip.get('prob') for flip in flips]
    views = {(0.0, 1.0): 'plain and flipped', (0.0,): 'plain'}.get(tuple(flipped), str(flipped))
    views = ', '.join([views, *(text for flip in flips for text in _further(flip))])
    long_sides = {scale.max_size for scale in scales}
    equal = all(scale.short_edge == scale.max_size for scale in scales)
    edges = ' '.join(str(scale.short_edge) for scale in scales)
    limit = 'as long sides' if equal else f'long side at most {" ".join(map(str, sorted(long_sides)))}'
    return f'{edges}, {limit}, {views}'


def _sizes(pipeline: Sequence[Mapping]) -> str:
    """Describe a test pipeline."""
    return ' then '.join(step.removeprefix('resize ') for step in steps_of(pipeline)) or 'the size of the file'


def steps_of(pipeline: Sequence[Mapping]) -> Iterator[str]:
    """Describe a training pipeline, one line for each transform; a random choice has one line for each branch."""
    for step in pipeline:
        name = short_type(step)
        if name == 'RandomChoice':
            branches = zip(step['prob'], step['transforms'], strict=True)
            yield from (f'{prob:g}: {", ".join(steps_of(branch))}' for prob, branch in branches)
        elif name not in IDLE:
            yield ', '.join([_step(name, step), *_further(step)])


def _further(step: Mapping) -> list[str]:
    """Settings of a step that `_step` leaves out; of a step that it only names, all."""
    usual = ('direction',) if step.get('direction') == 'horizontal' else ()
    return further(step, ('type', *usual, *DESCRIBED.get(short_type(step), ())))


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
        return f'flip {words(step.get("prob", 0.0))}'
    if name == 'PadToSize':
        return f'pad to {_pixels(step["size"])} with {step.get("image_value", 128)}'
    return name


def _size(step: Mapping) -> str:
    """Describe short edges and limit of a ResizeShortestEdge."""
    edges = step['short_edge'] if isinstance(step['short_edge'], Sequence) else [step['short_edge']]
    limit = '' if step['max_size'] is None else f', long side at most {step["max_size"]}'
    return ' '.join(map(str, edges)) + limit


def _pixels(size: Sequence[int]) -> str:
    return f'{size[0]} x {size[1]}'
