"""The model settings of a resolved config under the keys of `published.json`."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config

from mmmaskformer.core.training.parts import LOSS_WEIGHTS
from mmmaskformer.registry import MODELS

LOSSES = {'cls': 'class', 'mask': 'mask', 'dice': 'dice'}
SEEN_IN_PARAMETERS = ('depth', 'embed_dims', 'depths', 'num_heads', 'window_size', 'stem_channels')
"""Settings of a backbone that change its number of parameters, which is compared itself."""
WITHOUT_EFFECT = ('type', 'init_cfg', 'with_cp', 'convert_weights')
"""Settings that change neither outputs nor training, and the weights, which have a row of their own."""


def model_settings(config: Config) -> dict[str, Any]:
    """Settings of the model that the paper or its official configs state, under the keys of `published.json`.

    Args:
        config: config of a training run.

    Raises:
        ValueError: if the model has no head of this package.
    """
    model, preprocessor = config.model, config.model.data_preprocessor
    semantic = 'decode_head' in model
    head = model.decode_head if semantic else model.get('panoptic_head')
    if head is None or 'pixel_decoder' not in head:
        key = next((key for key in ('decode_head', 'panoptic_head', 'bbox_head') if key in model), 'none')
        found_head = f'{key} of type {model[key].get("type")}' if key in model else 'no head'
        raise ValueError(
            f'{config.filename}: found {found_head}, expected model.decode_head or model.panoptic_head of '
            'mmmaskformer. Fix: use a config of a MaskFormer model.'
        )
    found: dict[str, Any] = {
        'classes': head.num_classes,
        'normalisation': _normalisation(preprocessor),
        'backbone': _backbone(model.backbone),
        'drop path': model.backbone.get('drop_path_rate', 'none'),
        'channels': _value(head, 'channels'),
        'encoder layers': _value(head.pixel_decoder, 'num_layers', 0),
        'pixel decoder': _part(head.pixel_decoder, ('num_layers',)),
        'losses': _part(head.criterion, ('loss_weights', 'loss_weight', 'no_object_weight')),
        'loss weights': _loss_weights(head.criterion),
        'other settings of the head': _other_settings(head),
    }
    if 'matcher' in head:
        found['matching'] = _part(head.matcher)
    if 'transformer_decoder' in head:
        decoder = head.transformer_decoder
        found |= {
            'queries': _value(head, 'num_queries', head.num_classes),  # a per-pixel model has one for each class
            'decoder layers': _value(decoder, 'num_layers'),
            'heads': _value(decoder, 'num_heads'),
            'feed-forward channels': _value(decoder, 'ffn_channels'),
            'dropout': _value(decoder, 'dropout'),
            'decoder': _part(decoder, ('num_layers', 'num_heads', 'ffn_channels', 'dropout')),
        }
    return found | (_semantic_host(model) if semantic else _panoptic_host(model))


def _semantic_host(model: Mapping) -> dict[str, Any]:
    """The settings of a model of MMSegmentation that belong to no part of the network."""
    return {
        'ignored label': model['decode_head'].get('ignore_index', 255),
        'size divisor': (model['data_preprocessor'].get('test_cfg') or {}).get('size_divisor', 'none'),
        'inference': words(model.get('test_cfg') or {'mode': 'whole'}),
    }


def _panoptic_host(model: Mapping) -> dict[str, Any]:
    """The settings of a model of MMDetection that belong to no part of the network."""
    divisor = model['data_preprocessor'].get('pad_size_divisor', 1)
    return {'size divisor': divisor} | _panoptic_inference(model.get('test_cfg') or {'panoptic': {}})


def _panoptic_inference(results: Mapping) -> dict[str, Any]:
    """The results that a panoptic model computes, and the thresholds of its segments."""
    requested = {key: settings for key, settings in results.items() if settings is not None}
    thresholds = ('object_threshold', 'overlap_threshold')
    texts = {key: further(settings, thresholds if key == 'panoptic' else ()) for key, settings in requested.items()}
    found: dict[str, Any] = {'inference': ', '.join(' '.join([key, *text]) for key, text in texts.items())}
    if 'panoptic' in requested:
        values = (requested['panoptic'].get(key, 0.8) for key in thresholds)
        found |= dict(zip(('object threshold', 'overlap threshold'), values, strict=True))
    return found


def _normalisation(preprocessor: Mapping) -> str:
    mean, std = (words(preprocessor.get(key) or 'none') for key in ('mean', 'std'))
    order = 'RGB' if preprocessor.get('bgr_to_rgb') else 'BGR'
    return f'mean {mean}, std {std}, {order}, padded with {preprocessor.get("pad_val", 0):g}'


def _backbone(backbone: Mapping) -> list[str]:
    return [short_type(backbone), *further(backbone, (*SEEN_IN_PARAMETERS, *WITHOUT_EFFECT, 'drop_path_rate'))]


def _part(part: Mapping, described: Iterable[str] = ()) -> list[str]:
    """Type of a part of the head, and its settings without a row of their own."""
    return [short_type(part), *further(part, ('type', *described))]


def _other_settings(head: Mapping) -> str:
    parts = ('pixel_decoder', 'transformer_decoder', 'matcher', 'criterion')
    described = ('type', 'num_classes', 'num_queries', 'channels', 'things', 'ignore_index', *parts)
    return ', '.join(further(head, described)) or 'none'


def _loss_weights(criterion: Mapping) -> str:
    """Describe the loss weights."""
    kind, given = short_type(criterion), dict(criterion.get('loss_weights') or {})
    if kind == 'PixelCrossEntropy':
        return f'cross-entropy {_value(criterion, "loss_weight"):g}'
    weights = LOSS_WEIGHTS | given
    names = [name for name in LOSSES if name != 'cls' or kind != 'PixelMaskLosses']
    texts = [f'{LOSSES.get(name, name)} {weights[name]:g}' for name in dict.fromkeys([*names, *given])]
    no_object = _value(criterion, 'no_object_weight')
    if no_object is not None:
        texts.append(f'no object {no_object:g}')
    return ', '.join(texts)


def _value(part: Mapping, key: str, otherwise: Any = None) -> Any:
    """A setting of a part: from the config, else the default of its class, else ``otherwise``."""
    if key in part:
        return part[key]
    cls = MODELS.get(part['type'])
    for base in getattr(cls, '__mro__', ()):
        parameter = inspect.signature(base).parameters.get(key)
        if parameter is not None and parameter.default is not parameter.empty:
            return parameter.default
    return otherwise


def short_type(part: Mapping) -> str:
    """The type of a part, without the package."""
    return str(part.get('type', 'none')).rpartition('.')[2]


def further(part: Mapping, described: Iterable[str]) -> list[str]:
    """The settings of a part that are not described elsewhere, one text each, sorted by name."""
    return [f'{key} {words(part[key])}' for key in sorted(set(part) - set(described))]


def words(value: Any) -> str:
    """A value of a config in one line."""
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {words(value[key])}' for key in sorted(value)) or 'defaults'
    if isinstance(value, list | tuple):
        return ' '.join(map(words, value))
    return f'{value:g}' if isinstance(value, float) else str(value)
