"""What a checkpoint looks like that does not fit: recognised by the names of its weights."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

SHOWN = 3


class Layout(NamedTuple):
    """A kind of checkpoint.

    Attributes:
        key: pattern of a name that this kind has and those further down the list have not, or need not have.
        name: what it is.
        fix: what to do with it.
    """

    key: str
    name: str
    fix: str


CONVERT = 'convert its names to those of this model first, or start from its backbone alone'
BACKBONE = (
    "load it as the backbone's weights, model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...), "
    "for a whole model's checkpoint with prefix='backbone.', and leave load_from alone"
)
LAYOUTS = (
    Layout(r'(decode_head|panoptic_head)\.classifier\.', 'a MaskFormer of mmmaskformer for the other host',
           "add dict(type='mmmaskformer.ShareWeightsHook') to custom_hooks, which renames its head"),
    Layout(r'sem_seg_head\.predictor\.(level_embed|query_feat)', "detectron2's Mask2Former", CONVERT),
    Layout(r'sem_seg_head\.predictor\.', "detectron2's MaskFormer, the published one", CONVERT),
    Layout(r'sem_seg_head\.', 'a semantic model of detectron2', CONVERT),
    Layout(r'model\.pixel_level_module\.encoder\.', "transformers' MaskFormer or Mask2Former", CONVERT),
    Layout(r'(pixel_level_module|mask_embedder|class_predictor)\.', "transformers' MaskFormer or Mask2Former", CONVERT),
    Layout(r'panoptic_head\.(query_feat|level_embed)\.', "MMDetection's Mask2Former", CONVERT),
    Layout(r'panoptic_head\.(query_embed|cls_embed|pixel_decoder)\.', "MMDetection's MaskFormer", CONVERT),
    Layout(r'decode_head\.(query_feat|level_embed)\.', "MMSegmentation's Mask2Former", CONVERT),
    Layout(r'decode_head\.(query_embed|cls_embed|pixel_decoder)\.', "MMSegmentation's MaskFormer", CONVERT),
    Layout(r'decode_head\.', 'a model of MMSegmentation with another decode head', BACKBONE),
    Layout(r'(bbox_head|rpn_head|roi_head|mask_head)\.', 'another detector of MMDetection', BACKBONE),
    Layout(r'(class_embed|bbox_embed)\.', 'DETR', CONVERT),
    Layout(r'network\.|attn_mask_probs', 'EoMT or another Lightning module', CONVERT),
    Layout(r'backbone\.', 'a backbone, with the names that it has in a whole model', BACKBONE),
    Layout(r'(conv1|layer1\.0|stem|patch_embed|stages?|layers|blocks|features|norm1?|cls_token|head|fc)\b',
           'a bare backbone', BACKBONE),
)  # fmt: skip


def describe_layout(keys: Iterable[str]) -> tuple[str, str]:
    """What a checkpoint looks like.

    Args:
        keys: names of its weights.

    Returns:
        What it is, with some of its names; and what to do.
    """
    keys = sorted(re.sub(r'^module\.', '', str(key)) for key in keys)
    if not keys:
        return 'it has no weights at all', 'give a checkpoint that a finished save has written'
    shown = f'{", ".join(keys[:SHOWN])}{f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""}'
    for layout in LAYOUTS:
        if any(re.match(layout.key, key) for key in keys):
            return f'it looks like {layout.name} ({shown})', layout.fix
    return f'its weights are {shown}', 'give a checkpoint of this model'


def require_finite_weights(weights: Mapping[str, Tensor], origin: str) -> None:
    """Check that no weight of a checkpoint is inf or NaN: the run that wrote it had diverged.

    Args:
        weights: by name.
        origin: of the checkpoint, for the message.

    Raises:
        ValueError: with the names.
    """
    wrong = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        more = f' and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
        raise ValueError(
            f'checkpoint {origin}: {len(wrong)} of its {len(weights)} weights hold inf or NaN '
            f'({", ".join(wrong[:SHOWN])}{more}). Fix: take an earlier checkpoint of that run.'
        )


def require_own_weights(own: Collection[str], found: Collection[str], head: str, everything: Collection[str]) -> None:
    """Check that a checkpoint has weights of the head: without any, the model would predict at random.

    Args:
        own: names of the head's parameters, as the checkpoint should have them.
        found: names that the checkpoint has; those of other parts may be left out.
        head: config key of the head, for the message.
        everything: names in the checkpoint, to tell what it is; empty if only those of the head are known.

    Raises:
        ValueError: if it has none, with what it looks like instead.
    """
    if not own or not set(own).isdisjoint(found):
        return
    if everything:
        what, fix = describe_layout(everything)
    else:
        what, fix = f"no name begins with '{min(own).split('.')[0]}.'", 'give a checkpoint of this model'
    raise ValueError(
        f'checkpoint: none of the {len(own)} weights of {head} is in it, expected names such as {min(own)}; {what}. '
        f'Fix: {fix}.'
    )
