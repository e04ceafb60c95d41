"""Tables of the names of backbone weights in other packages, for files that hold a backbone only; see `key_maps`.

Sources: detectron2 02b5c4e; Swin-Transformer v1.0.0; timm 1.0; torchvision 0.20; the released files of DINOv2.
"""

from collections.abc import Iterable

from mmmaskformer.checkpoints.key_maps import (
    HOST_RESNET,
    INDEX_REASON,
    OFFICIAL_BASIC_STEM,
    OFFICIAL_DEEPLAB_STEM,
    OFFICIAL_RESNET,
    OFFICIAL_SWIN,
)
from mmmaskformer.checkpoints.names import Choice, Made, Names, Row, Rows, table
from mmmaskformer.checkpoints.templates import Template

CLASSIFIER_REASON = 'part of the classifier, which a backbone does not have'
MASK_REASON = 'an attention mask of shifted windows, which follows from the size of the image'
TOKEN_REASON = 'a token that only pre-training uses'
STAGES = 4

TIMM_SWIN: Rows = tuple(
    (neutral, theirs.replace('layers.{s}.downsample', 'layers.{s1}.downsample')) for neutral, theirs in OFFICIAL_SWIN
)
TORCHVISION_BLOCK = (
    ('norm{c1}.{wb}', 'norm{c1}.{wb}'),
    ('attn.w_msa.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('attn.w_msa.qkv.{wb}', 'attn.qkv.{wb}'),
    ('attn.w_msa.proj.{wb}', 'attn.proj.{wb}'),
    ('ffn.layers.0.0.{wb}', 'mlp.0.{wb}'),
    ('ffn.layers.1.{wb}', 'mlp.3.{wb}'),
)
VIT: Rows = tuple(
    (f'backbone.{neutral}', theirs)
    for neutral, theirs in (
        ('cls_token', 'cls_token'),
        ('pos_embed', 'pos_embed'),
        ('patch_embed.projection.{wb}', 'patch_embed.proj.{wb}'),
        ('layers.{b}.ln1.{wb}', 'blocks.{b}.norm1.{wb}'),
        ('layers.{b}.attn.attn.in_proj_{wb}', 'blocks.{b}.attn.qkv.{wb}'),
        ('layers.{b}.attn.attn.out_proj.{wb}', 'blocks.{b}.attn.proj.{wb}'),
        ('layers.{b}.ln2.{wb}', 'blocks.{b}.norm2.{wb}'),
        ('layers.{b}.ffn.layers.0.0.{wb}', 'blocks.{b}.mlp.fc1.{wb}'),
        ('layers.{b}.ffn.layers.1.{wb}', 'blocks.{b}.mlp.fc2.{wb}'),
        ('ln1.{wb}', 'norm.{wb}'),
    )
)


def _torchvision_swin() -> tuple[Row, ...]:
    """Rows of torchvision's Swin, which numbers stages and mergings in one sequence."""
    rows: list[tuple[str, str]] = [
        ('backbone.patch_embed.projection.{wb}', 'features.0.0.{wb}'),
        ('backbone.patch_embed.norm.{wb}', 'features.0.2.{wb}'),
        ('backbone.norm{s}.{wb}', 'norm{s}.{wb}'),
    ]
    merging: list[Row] = []
    for stage in range(STAGES):
        ours, theirs = f'backbone.stages.{stage}', f'features.{2 * stage + 1}'
        rows += [(f'{ours}.blocks.{{b}}.{one}', f'{theirs}.{{b}}.{other}') for one, other in TORCHVISION_BLOCK]
        below = f'features.{2 * stage + 2}'
        merging += [
            Row(Template(f'{ours}.downsample.{name}'), Template(f'{below}.{name}'), True)
            for name in ('norm.{wb}', 'reduction.weight')
        ]
    return table(tuple(rows), backbone='') + tuple(merging)


def _left_out(reason: str, *texts: str) -> tuple[Made, ...]:
    return tuple(Made(Template(text), 'nothing', reason) for text in texts)


BACKBONES = {
    'detectron2': Names(
        title="detectron2's ResNet",
        rows=table(OFFICIAL_RESNET, backbone=''),
        choices=(
            Choice(
                theirs='stem.conv2.weight',
                neutral='backbone.stem.0.weight',
                rows=table(OFFICIAL_DEEPLAB_STEM, backbone=''),
                otherwise=table(OFFICIAL_BASIC_STEM, backbone=''),
            ),
        ),
        made=_left_out(CLASSIFIER_REASON, 'stem.fc.{wb}', 'linear.{wb}'),
    ),
    'torchvision': Names(
        title='a ResNet of torchvision or timm',
        rows=table(HOST_RESNET, backbone=''),
        made=_left_out(CLASSIFIER_REASON, 'fc.{wb}'),
    ),
    'swin': Names(
        title="a Swin of Swin's authors",
        rows=table(OFFICIAL_SWIN, backbone='', merges=True),
        made=_left_out(CLASSIFIER_REASON, 'norm.{wb}', 'head.{wb}')
        + _left_out(INDEX_REASON, 'layers.{s}.blocks.{b}.attn.relative_position_index')
        + _left_out(MASK_REASON, 'layers.{s}.blocks.{b}.attn_mask'),
    ),
    'timm swin': Names(
        title='a Swin of timm',
        rows=table(TIMM_SWIN, backbone='', merges=True),
        made=_left_out(CLASSIFIER_REASON, 'norm.{wb}', 'head.fc.{wb}', 'head.{wb}')
        + _left_out(INDEX_REASON, 'layers.{s}.blocks.{b}.attn.relative_position_index')
        + _left_out(MASK_REASON, 'layers.{s}.blocks.{b}.attn_mask'),
    ),
    'torchvision swin': Names(
        title='a Swin of torchvision',
        rows=_torchvision_swin(),
        made=_left_out(CLASSIFIER_REASON, 'norm.{wb}', 'head.{wb}')
        + _left_out(INDEX_REASON, *(f'features.{2 * s + 1}.{{b}}.attn.relative_position_index' for s in range(STAGES))),
    ),
    'vit': Names(
        title='a ViT of DINOv2 or timm',
        rows=table(VIT, backbone=''),
        made=_left_out(CLASSIFIER_REASON, 'head.{wb}') + _left_out(TOKEN_REASON, 'mask_token'),
    ),
}
"""Tables by kind of file."""

MARKS = (
    ('detectron2', 'res2.0.conv1.weight'),
    ('torchvision', 'layer1.0.conv1.weight'),
    ('swin', 'layers.0.downsample.reduction.weight'),
    ('timm swin', 'layers.0.blocks.0.attn.relative_position_bias_table'),
    ('torchvision swin', 'features.1.0.attn.relative_position_bias_table'),
    ('vit', 'blocks.0.attn.qkv.weight'),
)
"""The name of a weight that identifies each kind. An earlier kind may have it too, so the order matters."""


def kind_of_backbone(names: Iterable[str]) -> str | None:
    """Identify the kind of file, a key of `BACKBONES`; None if it is unknown.

    Args:
        names: names of its weights, without a prefix.
    """
    there = set(names)
    return next((kind for kind, mark in MARKS if mark in there), None)
