"""Settings and task of the model of a checkpoint, from everything in the file besides the weights."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskformer.checkpoints.classes import class_lists, facts_of, find_permutation
from mmmaskformer.checkpoints.config_text import UNKNOWN, lookup, read_config_text
from mmmaskformer.checkpoints.settings import Settings

HEADS = ('decode_head', 'panoptic_head')
PANOPTIC_ONLY = 'coco_panoptic'
"""The class list whose published models are all panoptic; ADE20K and Cityscapes have semantic ones as well."""

USUAL_RESNET = {
    'style': 'pytorch',
    'strides': (1, 2, 2, 2),
    'dilations': (1, 1, 1, 1),
    'contract_dilation': False,
    'avg_down': False,
}
USUAL_SWIN = {'qk_scale': None, 'act_cfg': {'type': 'GELU'}, 'norm_cfg': {'type': 'LN'}}
CLASS_WEIGHTS = 'criterion.empty_weight'
"""Weights of the classes in the loss, "no object" last, as the published code and transformers store them."""


def settings_of(
    meta: Mapping, package: str, weights: Mapping[str, Tensor], num_heads: int | None
) -> tuple[Settings, list[str]]:
    """Find the settings of the model of a checkpoint.

    Args:
        meta: meta information of the checkpoint.
        package: the package that wrote it.
        weights: its weights.
        num_heads: number of attention heads from the command line; None if it was not set.

    Returns:
        The settings, with published values for unknown ones, and notes that name these.
    """
    known = known_settings(meta, package)
    dataset_meta = meta.get('dataset_meta') or {key: meta[key] for key in ('CLASSES', 'PALETTE') if key in meta}
    facts = facts_of(dataset_meta)
    known['classes'] = tuple(facts.pop('classes', known.get('classes', ())))
    known['dataset_meta'] = facts
    if CLASS_WEIGHTS in weights and weights[CLASS_WEIGHTS].numel():
        last = float(weights[CLASS_WEIGHTS].flatten()[-1])
        if math.isfinite(last):
            known['no_object_weight'] = round(last, 6)  # 0.1 is stored in float32
    if any(name.startswith(('backbone.stem.conv2.', 'backbone.stem.3.')) for name in weights):
        known.setdefault('dilations', (1, 2, 4))  # those of every published model with this stem
    if package == 'mmdet' and known['classes'] and 'isthing' not in facts:
        things = _things_of_mmdet(meta, len(known['classes']))
        facts |= {} if things is None else {'isthing': things}
    notes = list(known.get('notes', ()))
    if num_heads is not None:
        known['num_heads'] = num_heads
    elif 'num_heads' not in known:
        notes.append(f'the source does not store num_heads: the published {Settings.num_heads} heads are assumed')
    return Settings(**known), notes


def known_settings(meta: Mapping, package: str) -> dict[str, Any]:
    """Settings that the checkpoint itself stores, as arguments of `Settings`.

    Args:
        meta: meta information of the checkpoint.
        package: the package that wrote it.
    """
    known: dict[str, Any] = dict(meta['settings']) if package == 'transformers' and 'settings' in meta else {}
    for key in ('num_heads', 'no_object_weight'):
        if isinstance(meta.get(key), int | float) and math.isfinite(meta[key]):
            known[key] = meta[key]
    if isinstance(meta.get('cfg'), str):
        known |= _settings_of_config(meta['cfg'])
    return known


def guess_task(package: str, meta: Mapping, weights: Mapping[str, Tensor]) -> str:
    """Guess 'semantic' or 'panoptic' from the package, the class list or the published models."""
    if package in ('mmmaskformer', 'mmseg'):
        return 'semantic'
    if package in ('mmmaskformer-panoptic', 'mmdet'):
        return 'panoptic'
    facts = facts_of(meta.get('dataset_meta') or {})
    if facts.get('isthing'):
        return 'panoptic'
    coco = class_lists()[PANOPTIC_ONLY]['classes']
    if 'classes' in facts:
        if find_permutation(facts['classes'], coco) is not None:
            return 'panoptic'
    elif any(name.endswith('predictor.class_embed.weight') and len(weights[name]) == len(coco) + 1 for name in weights):
        return 'panoptic'
    return 'panoptic' if any('encoder.layers' in name and 'sem_seg_head' in name for name in weights) else 'semantic'


def _settings_of_config(text: str) -> dict:
    """Settings from the config in a checkpoint."""
    cfg = read_config_text(text)
    model = lookup(cfg, 'model')
    head: dict = next((found for key in HEADS if (found := lookup(model, key))), {})
    preprocessor = lookup(model, 'data_preprocessor') or lookup(cfg, 'data_preprocessor')
    found = {
        'num_heads': lookup(head, 'transformer_decoder', 'num_heads')
        or lookup(head, 'transformer_decoder', 'layer_cfg', 'self_attn_cfg', 'num_heads'),
        'norm_groups': lookup(head, 'pixel_decoder', 'norm_groups')
        or lookup(head, 'pixel_decoder', 'norm_cfg', 'num_groups'),
        'dilations': _dilations(lookup(model, 'backbone')),
        'backbone': unusual_settings(lookup(model, 'backbone')),
        'red_first': lookup(preprocessor, 'bgr_to_rgb') is True if lookup(preprocessor, 'mean') else UNKNOWN,
        'mean': _numbers(lookup(preprocessor, 'mean')),
        'std': _numbers(lookup(preprocessor, 'std')),
        'size_divisor': lookup(preprocessor, 'size_divisor') or lookup(preprocessor, 'pad_size_divisor'),
        'no_object_weight': lookup(head, 'criterion', 'no_object_weight'),
    }
    pipeline = lookup(cfg, 'test_dataloader', 'dataset', 'pipeline') or lookup(cfg, 'test_pipeline')
    if isinstance(pipeline, list):
        found |= _sizes_of_pipeline(pipeline)
    return {key: value for key, value in found.items() if value is not None}


def _sizes_of_pipeline(pipeline: list) -> dict:
    """Image size to which the transforms of this package or of a host resize."""
    found: dict = {} if 'Resiz' in str(pipeline) else {'resize': False}
    for transform in pipeline:
        kind = str(lookup(transform, 'type')).rpartition('.')[2]
        scale = lookup(transform, 'scale')
        if kind == 'ResizeShortestEdge':
            short = lookup(transform, 'short_edge') or (min(pair) if (pair := _pair(scale)) else scale)
            longest = lookup(transform, 'max_size')
            if _is_size(short) and _is_size(longest):
                found = {'short_edge': short, 'max_size': longest}
        elif kind == 'Resize' and (pair := _pair(scale)):
            if lookup(transform, 'keep_ratio'):
                found = {'short_edge': min(pair), 'max_size': max(pair)}
            else:
                found = {'image_size': pair[::-1]}  # the hosts name the width first
    return found


def _pair(value: Any) -> tuple[int, int] | None:
    """Two sizes in pixels; None for anything else."""
    return tuple(value) if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_size, value)) else None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _dilations(backbone: Any) -> tuple | None:
    """Dilations of the last stage of a ResNet of the hosts; None for another backbone."""
    if not isinstance(backbone, dict) or not str(backbone.get('type')).rpartition('.')[2].startswith('ResNet'):
        return None
    return _numbers(backbone.get('multi_grid')) or (1, 1, 1)


def unusual_settings(backbone: Any) -> dict | None:
    """Settings of a host's backbone that differ from the published models and do not show in its weights.

    Args:
        backbone: its config.

    Returns:
        The settings; None if ``backbone`` is not a dict.
    """
    if not isinstance(backbone, dict):
        return None
    kind = str(backbone.get('type')).rpartition('.')[2]
    usual = USUAL_RESNET if kind.startswith('ResNet') else USUAL_SWIN if kind.startswith('Swin') else {}
    found = {key: backbone[key] for key, value in usual.items() if backbone.get(key, value) not in (value, UNKNOWN)}
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return {key: value for key, value in found.items() if value != usual[key]}


def _numbers(value: Any) -> tuple | None:
    """A list of numbers as a tuple; None for anything else."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, int | float) for item in value):
        return tuple(value)
    return None


def _things_of_mmdet(meta: Mapping, num_classes: int) -> list[bool] | None:
    """In MMDetection things come first; their number is in the config."""
    cfg = read_config_text(meta.get('cfg', ''))
    things = lookup(cfg, 'model', 'panoptic_head', 'num_things_classes')
    return [label < things for label in range(num_classes)] if isinstance(things, int) else None
