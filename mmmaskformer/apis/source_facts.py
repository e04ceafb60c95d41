"""What a checkpoint tells of its model beside the weights."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from torch import Tensor

from mmmaskformer.checkpoints.classes import facts_of
from mmmaskformer.checkpoints.transformers_files import Settings

HEADS = ('decode_head', 'panoptic_head')


def settings_of(
    meta: Mapping, package: str, weights: Mapping[str, Tensor], num_heads: int | None
) -> tuple[Settings, list[str]]:
    """Settings of the model of a checkpoint.

    Args:
        meta: of the checkpoint.
        package: that wrote it.
        weights: its weights.
        num_heads: attention heads, if the user gives them.

    Returns:
        The settings, published values for what is not known; and notes on these.
    """
    known: dict[str, Any] = dict(meta.get('settings') or {})
    for key in ('num_heads', 'no_object_weight'):
        if meta.get(key) is not None:
            known[key] = meta[key]
    dataset_meta = meta.get('dataset_meta') or {key: meta[key] for key in ('CLASSES', 'PALETTE') if key in meta}
    facts = facts_of(dataset_meta)
    known['classes'] = tuple(facts.pop('classes', known.get('classes', ())))
    known['dataset_meta'] = facts
    if isinstance(meta.get('cfg'), str):
        known |= _settings_of_config(meta['cfg'])
    if package == 'official' and any(name.startswith('backbone.stem.conv2.') for name in weights):
        known['dilations'] = (1, 2, 4)  # as every published model with this stem has them
    if package == 'mmdet' and known['classes'] and 'isthing' not in facts:
        facts['isthing'] = _things_of_mmdet(meta, len(known['classes']))
        if facts['isthing'] is None:
            del facts['isthing']
    notes = []
    if num_heads is not None:
        known['num_heads'] = num_heads
    elif 'num_heads' not in known:
        notes.append(f'the source does not tell its attention heads: {Settings.num_heads} are assumed, as published')
    return Settings(**known), notes


def guess_task(package: str, meta: Mapping, weights: Mapping[str, Tensor]) -> str:
    """'semantic' or 'panoptic', from the package, the class list or the published models."""
    if package in ('mmmaskformer', 'mmseg'):
        return 'semantic'
    if package in ('mmmaskformer-panoptic', 'mmdet'):
        return 'panoptic'
    if facts_of(meta.get('dataset_meta') or {}).get('isthing'):
        return 'panoptic'
    return 'panoptic' if any('encoder.layers' in name and 'sem_seg_head' in name for name in weights) else 'semantic'


def _settings_of_config(text: str) -> dict:
    """What a config in a checkpoint tells; nothing if it cannot be read."""
    try:
        cfg = Config.fromstring(text, '.py', import_custom_modules=False)
    except Exception:  # the config of another release may hold anything
        return {}
    model = cfg.get('model') or {}
    head: Any = next((model[key] for key in HEADS if model.get(key)), {})
    decoder = head.get('transformer_decoder') or {}
    attention = (decoder.get('layer_cfg') or {}).get('self_attn_cfg') or {}
    pixel_decoder = head.get('pixel_decoder') or {}
    norm = pixel_decoder.get('norm_cfg') or {}
    preprocessor = model.get('data_preprocessor') or {}
    backbone = model.get('backbone') or {}
    found = {
        'num_heads': decoder.get('num_heads') or attention.get('num_heads'),
        'norm_groups': pixel_decoder.get('norm_groups') or norm.get('num_groups'),
        'dilations': backbone.get('multi_grid') and tuple(backbone['multi_grid']),
        'mean': preprocessor.get('mean') and tuple(preprocessor['mean']),
        'std': preprocessor.get('std') and tuple(preprocessor['std']),
        'size_divisor': preprocessor.get('size_divisor') or preprocessor.get('pad_size_divisor'),
        'no_object_weight': (head.get('criterion') or {}).get('no_object_weight'),
    }
    pipeline = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline') or cfg.get('test_pipeline')
    for transform in pipeline or ():
        if str(transform.get('type', '')).endswith('ResizeShortestEdge'):
            found |= {'short_edge': transform.get('short_edge'), 'max_size': transform.get('max_size')}
    return {key: value for key, value in found.items() if value is not None}


def _things_of_mmdet(meta: Mapping, num_classes: int) -> list[bool] | None:
    """Things come first in MMDetection; their number stands in the config."""
    try:
        cfg = Config.fromstring(meta['cfg'], '.py', import_custom_modules=False)
        things = cfg.model.panoptic_head.num_things_classes
    except Exception:  # no config, or that of another release
        return None
    return [label < things for label in range(num_classes)]
