"""The layout of a checkpoint: which package wrote it, where its weights are and what else it holds."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from mmmaskformer.checkpoints.readers import tensors_of
from mmmaskformer.formats.messages import some


class Layout(NamedTuple):
    """A kind of checkpoint.

    Attributes:
        key: pattern of a weight name that identifies the kind; the first match in the list applies.
        name: the kind in words.
        fix: what to do with such a checkpoint where another kind is expected.
        package: key of `key_maps.NAMES` if it can be converted.
    """

    key: str
    name: str
    fix: str
    package: str | None = None


OTHER_MODEL = 'use a MaskFormer checkpoint; this one has another architecture and cannot be converted'
CONVERT = "use the config of that model, or inspect the file with 'mmmaskformer convert'"
SHARE = "add dict(type='mmmaskformer.ShareWeightsHook') to custom_hooks, which renames its head"
BACKBONE = (
    "load it as the backbone's weights, model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...), "
    "for a whole model's checkpoint with prefix='backbone.', and do not set load_from"
)
LAYOUTS = (
    Layout(r'decode_head\.classifier\.', 'a MaskFormer of mmmaskformer for the other host', SHARE, 'mmmaskformer'),
    Layout(r'panoptic_head\.classifier\.', 'a MaskFormer of mmmaskformer for the other host', SHARE,
           'mmmaskformer-panoptic'),
    Layout(r'sem_seg_head\.predictor\.(level_embed|query_feat|static_query)', "detectron2's Mask2Former", OTHER_MODEL),
    Layout(r'sem_seg_head\.pixel_decoder\.(transformer\.level_embed|input_proj\.\d)', "detectron2's Mask2Former",
           OTHER_MODEL),
    Layout(r'sem_seg_head\.predictor\.', "detectron2's MaskFormer, the published one", CONVERT, 'official'),
    Layout(r'sem_seg_head\.', 'a semantic model of detectron2', OTHER_MODEL),
    Layout(r'model\.(transformer_module\.level_embed|transformer_module\.queries_features)',
           "transformers' Mask2Former", OTHER_MODEL),
    Layout(r'(class_predictor|mask_embedder)\.', "transformers' MaskFormer", CONVERT, 'transformers'),
    Layout(r'(model\.)?(pixel_level_module|transformer_module)\.',
           "transformers' MaskFormerModel or Mask2Former, without the classes of a MaskFormerForInstanceSegmentation",
           OTHER_MODEL),
    Layout(r'panoptic_head\.(query_feat|level_embed)\.', "MMDetection's Mask2Former", OTHER_MODEL),
    Layout(r'panoptic_head\.(query_embed|cls_embed|pixel_decoder)\.', "MMDetection's MaskFormer", CONVERT, 'mmdet'),
    Layout(r'decode_head\.(query_feat|level_embed)\.', "MMSegmentation's Mask2Former", OTHER_MODEL),
    Layout(r'decode_head\.(query_embed|cls_embed|pixel_decoder)\.', "MMSegmentation's MaskFormer", CONVERT, 'mmseg'),
    Layout(r'decode_head\.', 'a model of MMSegmentation with another decode head', BACKBONE),
    Layout(r'(bbox_head|rpn_head|roi_head|mask_head)\.', 'another detector of MMDetection', BACKBONE),
    Layout(r'(class_embed|bbox_embed)\.', 'DETR', OTHER_MODEL),
    Layout(r'network\.|attn_mask_probs', 'EoMT or another Lightning module', OTHER_MODEL),
    Layout(r'backbone\.', 'a backbone, with the names that it has in a whole model', BACKBONE),
    Layout(r'(conv1|layer1\.0|stem|patch_embed|stages?|layers|blocks|features|norm1?|cls_token|head|fc)\b',
           'a bare backbone', BACKBONE),
)  # fmt: skip
NESTED = ('state_dict', 'model', 'model_state_dict', 'module', 'teacher', 'student')
"""Keys under which programs store the weights, in the order of the search."""

AVERAGES = ('model_ema', 'ema_state', 'state_dict_ema', 'ema')
"""Keys under which programs store an average of the weights in addition."""

SWAPPED = 'ema_state_dict'
"""Key under which mmengine's EMA hook stores the current weights; ``state_dict`` then holds their average."""


class Content(NamedTuple):
    """The parts of a checkpoint file.

    Attributes:
        weights: weights by name, those that the package that wrote the file would use for inference.
        meta: meta information, such as ``dataset_meta``.
        rest: description of everything else in the file, by key.
    """

    weights: dict[str, Tensor]
    meta: dict
    rest: dict[str, str]


def bare_name(name: str) -> str:
    """A name without the prefixes of distributed and compiled models."""
    return re.sub(r'^((module|_orig_mod)\.)+', '', str(name))


def find_layout(names: Iterable[str]) -> Layout | None:
    """Identify the kind of a checkpoint.

    Args:
        names: names of its weights.

    Returns:
        The kind; None if it is unknown.
    """
    names = [bare_name(name) for name in names]
    return next((layout for layout in LAYOUTS if any(re.match(layout.key, name) for name in names)), None)


def package_of(names: Iterable[str]) -> str | None:
    """The package, a key of `key_maps.NAMES`, whose MaskFormer has these names; None if there is none."""
    layout = find_layout(names)
    return layout.package if layout else None


def describe_layout(keys: Iterable[str]) -> tuple[str, str]:
    """What a checkpoint looks like.

    Args:
        keys: names of its weights.

    Returns:
        What it is, with some of its names; and the fix.
    """
    keys = sorted(map(bare_name, keys))
    if not keys:
        return 'it holds no weights', 'use a checkpoint that was saved completely'
    shown = some(keys)
    layout = find_layout(keys)
    if layout is not None:
        return f'it looks like {layout.name} ({shown})', layout.fix
    return f'its weights are {shown}', 'use a checkpoint of this model'


def take_apart(content: Mapping, averaged: bool = False) -> Content:
    """Find the weights in the content of a file.

    Args:
        content: content of the file.
        averaged: take the averaged weights where the file holds both. This is not needed for files of mmengine's EMA
            hook, whose ``state_dict`` is the average.

    Raises:
        ValueError: if averaged weights are requested and there are none, or a weight occurs twice.
    """
    key = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
    if averaged and SWAPPED not in content:
        found = next((name for name in AVERAGES if isinstance(content.get(name), Mapping)), None)
        if found is None:
            raise ValueError(
                f'--averaged: found none of {", ".join(AVERAGES)} in the file, only {", ".join(map(str, content))}; '
                'expected averaged weights. Fix: omit --averaged'
            )
        key = found
    nested: Any = content if key is None else content[key]
    if key is not None and isinstance(nested.get('state_dict'), Mapping):
        nested = nested['state_dict']
    meta = dict(content['meta']) if isinstance(content.get('meta'), Mapping) else {}
    hub = content.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    if isinstance(info, Mapping) and isinstance(info.get('cfg'), str):  # where mmengine keeps the config
        meta.setdefault('cfg', info['cfg'])
    rest = {str(name): _what(value) for name, value in content.items() if name not in (key, 'meta')}
    if key is None:
        rest = {str(name): _what(value) for name, value in content.items() if not isinstance(value, Tensor)}
    given = tensors_of(nested)
    weights = {name.removeprefix('module.'): value for name, value in given.items()}
    if len(weights) < len(given):
        twice = [name for name in weights if name in given and f'module.{name}' in given]
        raise ValueError(
            f"{len(twice)} weights occur twice, with and without 'module.' ({some(twice)}), expected one "
            'of each. Fix: remove those that do not belong to the model, and save the others again'
        )
    return Content(weights, meta, rest)


def _what(value: Any) -> str:
    size = f' with {len(value)} entries' if isinstance(value, Mapping | list | tuple) else ''
    return f'{type(value).__name__}{size}, not weights of the model'
