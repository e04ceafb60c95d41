"""Settings of a model to and from config.json of transformers."""

import math
from collections.abc import Mapping

from mmmaskformer.checkpoints.preprocessors import settings_of_preprocessor
from mmmaskformer.checkpoints.settings import Settings, require_published_settings
from mmmaskformer.checkpoints.sizes import Architecture, ResNet, Swin

MODEL_TYPE = 'maskformer'
STAGES = ['stage1', 'stage2', 'stage3', 'stage4']
USUAL = {
    'resnet': {'hidden_act': 'relu', 'downsample_in_first_stage': False, 'downsample_in_bottleneck': False},
    'swin': {'hidden_act': 'gelu', 'layer_norm_eps': 1e-5, 'use_absolute_embeddings': False},
}
"""Settings of transformers' backbones that do not show in the weights, with the values of the published models."""

HUB_GROUPS = 32
"""Groups of every GroupNorm in transformers; not configurable there."""


def hub_config(architecture: Architecture, settings: Settings) -> dict:
    """The content of config.json.

    Args:
        architecture: architecture of the model.
        settings: settings that do not show in the weights.

    Raises:
        ValueError: if transformers cannot represent the model.
    """
    head = architecture.head
    require_published_settings(settings, 'transformers')
    if settings.norm_groups != HUB_GROUPS:
        raise ValueError(
            f'transformers has {HUB_GROUPS} groups in every GroupNorm of the pixel decoder, but the model has '
            f'norm_groups={settings.norm_groups}. Fix: convert to another package'
        )
    names = settings.classes or tuple(f'class {label}' for label in range(head.num_classes))
    return {
        'architectures': ['MaskFormerForInstanceSegmentation'],
        'model_type': MODEL_TYPE,
        'backbone_config': _backbone_config(architecture),
        'decoder_config': {
            'model_type': 'detr',
            'd_model': head.channels,
            'num_queries': head.num_queries,
            'decoder_layers': head.decoder_layers,
            'decoder_attention_heads': settings.num_heads,
            'decoder_ffn_dim': head.ffn_channels,
            'encoder_layers': 0,
            'encoder_attention_heads': settings.num_heads,
            'encoder_ffn_dim': head.ffn_channels,
            'activation_function': 'relu',
            'dropout': 0.1,
            'attention_dropout': 0.1,
            'activation_dropout': 0.1,
        },
        'fpn_feature_size': head.channels,
        'mask_feature_size': head.channels,
        'no_object_weight': settings.no_object_weight,
        'cross_entropy_weight': 1.0,
        'mask_weight': 20.0,
        'dice_weight': 1.0,
        'id2label': {str(label): name for label, name in enumerate(names)},
        'label2id': {name: label for label, name in enumerate(names)},
        'torch_dtype': 'float32',
    }


def settings_of_hub(config: Mapping, preprocessor: Mapping) -> dict:
    """Read settings from the files of a folder, as arguments of `Settings`.

    Args:
        config: content of config.json.
        preprocessor: content of preprocessor_config.json; empty if there is none.

    Raises:
        ValueError: if the folder holds another kind of model.
    """
    if config.get('model_type') != MODEL_TYPE:
        raise ValueError(
            f'config.json has model_type={config.get("model_type")!r}, expected {MODEL_TYPE!r}. Fix: use the folder '
            'of a MaskFormerForInstanceSegmentation; other architectures cannot be converted'
        )
    decoder = _section(config, 'decoder_config')
    _require_usual('decoder_config', decoder, {'activation_function': 'relu'})
    backbone = _section(config, 'backbone_config')
    _require_usual('backbone_config', backbone, USUAL.get(str(backbone.get('model_type')), {}))
    num_heads = decoder.get('decoder_attention_heads', 8)
    if not isinstance(num_heads, int) or num_heads < 1:
        raise ValueError(
            f'config.json: decoder_attention_heads is {num_heads!r}, expected a whole number of at least 1. Fix: '
            'correct it'
        )
    weight = 0.1 if config.get('no_object_weight') is None else config['no_object_weight']
    if not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f'config.json: no_object_weight is {weight!r}, expected a number above 0. Fix: correct it')
    found: dict = {
        'classes': _classes(config),
        'num_heads': num_heads,
        'norm_groups': HUB_GROUPS,
        'no_object_weight': weight,
    }
    return found | settings_of_preprocessor(preprocessor)


def _section(config: Mapping, key: str) -> Mapping:
    found = config.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f'config.json: {key} is a {type(found).__name__}, expected an object with settings')
    return found


def _require_usual(key: str, found: Mapping, usual: Mapping) -> None:
    for name, value in usual.items():
        if found.get(name, value) != value:
            raise ValueError(
                f'config.json: {key}.{name} is {found[name]!r}, expected {value!r}: no other package supports another '
                'value. Fix: none; use the model with transformers'
            )


def _classes(config: Mapping) -> tuple[str, ...]:
    labels = config.get('id2label') or {}
    try:
        return tuple(str(labels[key]) for key in sorted(labels, key=int))
    except (TypeError, ValueError, IndexError, KeyError):
        raise ValueError(
            "config.json: id2label must hold the name of each label, {'0': 'wall', ...}. Fix: correct it, or remove it"
        ) from None


def _backbone_config(architecture: Architecture) -> dict:
    net = architecture.backbone
    if isinstance(net, Swin):
        return {
            'model_type': 'swin',
            'image_size': 384 if net.window == 12 else 224,
            'patch_size': net.patch,
            'num_channels': 3,
            'embed_dim': net.channels,
            'depths': list(net.blocks),
            'num_heads': list(net.heads),
            'window_size': net.window,
            'mlp_ratio': net.mlp_ratio,
            'qkv_bias': True,
            'drop_path_rate': 0.3,
            'hidden_act': 'gelu',
            'layer_norm_eps': 1e-5,
            'use_absolute_embeddings': False,
            'out_features': STAGES[: len(net.blocks)],
        }
    if isinstance(net, ResNet) and len(net.stem) == 1 and net.groups == 1 and not net.inner:
        return {
            'model_type': 'resnet',
            'num_channels': 3,
            'embedding_size': net.stem[0],
            'hidden_sizes': list(net.widths),
            'depths': list(net.blocks),
            'layer_type': 'bottleneck' if net.bottleneck else 'basic',
            'hidden_act': 'relu',
            'downsample_in_first_stage': False,
            'out_features': STAGES[: len(net.blocks)],
        }
    what = 'no backbone' if net is None else net.describe()
    raise ValueError(
        f'transformers supports Swin and ResNet with a plain stem, but the model has {what}. Fix: convert to another '
        'package'
    )
