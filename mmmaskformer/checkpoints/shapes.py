"""Name and shape of every weight of an architecture, by neutral name."""

from typing import Any

import torch
from torch import nn

from mmmaskformer.checkpoints.names import Names, find_row
from mmmaskformer.checkpoints.sizes import Architecture, Backbone, Head, ResNet, Swin
from mmmaskformer.core.modeling.layers import MLP
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder

Shapes = dict[str, tuple[int, ...]]


def expected_shapes(architecture: Architecture, ours: Names) -> Shapes:
    """Name and shape of every weight, except batch-norm counters and backbones without a table.

    Args:
        architecture: architecture of the model.
        ours: the table of this package; the shapes of the head are those of this package's modules.
    """
    return head_shapes(architecture.head, ours) | backbone_shapes(architecture.backbone)


def backbone_shapes(backbone: Backbone | None) -> Shapes:
    """Name and shape of every weight of a backbone, without counters; empty for a backbone without a table."""
    if isinstance(backbone, ResNet):
        return resnet_shapes(backbone)
    return swin_shapes(backbone) if isinstance(backbone, Swin) else {}


def head_shapes(head: Head, ours: Names) -> Shapes:
    """Shapes of the weights of a head by neutral name, taken from the modules of this package."""
    values = {f'decode_head.classifier.{name}': value for name, value in _modules(head).state_dict().items()}
    rows = ours.rows_of(values, neutral=False)
    shapes = {}
    for name, value in values.items():
        found = find_row(rows, name, neutral=False)
        assert found is not None, f'{name} has no row in the table of this package'
        (neutral,) = found.row.neutral.fill(found.match.indices)
        shapes[neutral] = tuple(value.shape)
    if head.projects_memory:  # some models project a memory that already has the right width
        shapes['memory_proj.weight'] = (head.channels, head.channels if head.encoder_layers else head.widths[-1], 1, 1)
        shapes['memory_proj.bias'] = (head.channels,)
    return shapes


def _modules(head: Head) -> nn.ModuleDict:
    """The modules of a head on the meta device, by their names in `MaskClassifier` and the per-pixel networks."""
    pyramid: dict[str, Any] = dict(
        in_channels=head.widths, channels=head.channels, mask_channels=head.channels, norm_groups=1
    )
    parts: dict[str, nn.Module] = {}
    with torch.device('meta'):
        pixel_decoder: FPNPixelDecoder | TransformerEncoderPixelDecoder
        if head.encoder_layers:
            encoder: dict[str, Any] = dict(
                num_layers=head.encoder_layers, num_heads=1, ffn_channels=head.encoder_ffn_channels
            )
            pixel_decoder = TransformerEncoderPixelDecoder(**pyramid, **encoder)
        else:
            pixel_decoder = FPNPixelDecoder(**pyramid)
        if head.kind == 'per pixel':
            parts['pixel_classifier'] = nn.Conv2d(head.channels, head.num_classes, 1)
        else:
            parts['transformer_decoder'] = TransformerDecoder(
                in_channels=pixel_decoder.memory_channels,
                num_queries=head.num_queries,
                channels=head.channels,
                num_layers=head.decoder_layers,
                num_heads=1,
                ffn_channels=head.ffn_channels,
            )
            parts['mask_embed'] = MLP(head.channels, head.channels, head.channels, 3)
        if head.kind == 'mask':
            parts['class_embed'] = nn.Linear(head.channels, head.num_classes + 1)
    return nn.ModuleDict({'pixel_decoder': pixel_decoder, **parts})


def resnet_shapes(net: ResNet) -> Shapes:
    """Shapes of the weights of a ResNet by neutral name."""
    shapes: Shapes = {}

    def conv(name: str, norm: str, out_channels: int, in_channels: int, side: int, groups: int = 1) -> None:
        shapes[f'backbone.{name}.weight'] = (out_channels, in_channels // groups, side, side)
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'backbone.{norm}.{kind}'] = (out_channels,)

    if len(net.stem) == 1:
        conv('conv1', 'bn1', net.stem[0], 3, 7)
    else:
        for index, (before, after) in enumerate(zip((3, *net.stem), net.stem, strict=False)):
            conv(f'stem.{3 * index}', f'stem.{3 * index + 1}', after, before, 3)
    width = net.stem[-1]
    sides = (1, 3, 1) if net.bottleneck else (3, 3)
    for stage, blocks in enumerate(net.blocks):
        inner, out_channels = (net.inner or net.planes) * 2**stage, net.widths[stage]
        for block in range(blocks):
            name = f'layer{stage + 1}.{block}'
            if block == 0 and (stage > 0 or width != out_channels):
                conv(f'{name}.downsample.0', f'{name}.downsample.1', out_channels, width, 1)
            for index, side in enumerate(sides):
                after = out_channels if index == len(sides) - 1 else inner
                groups = net.groups if side == 3 else 1  # basic blocks have one
                conv(f'{name}.conv{index + 1}', f'{name}.bn{index + 1}', after, width, side, groups)
                width = after
    return shapes


def swin_shapes(net: Swin) -> Shapes:
    """Shapes of the weights of a Swin by neutral name."""
    shapes: Shapes = {}

    def linear(name: str, out_channels: int, in_channels: int) -> None:
        shapes[f'backbone.{name}.weight'] = (out_channels, in_channels)
        shapes[f'backbone.{name}.bias'] = (out_channels,)

    def norm(name: str, channels: int) -> None:
        shapes[f'backbone.{name}.weight'] = shapes[f'backbone.{name}.bias'] = (channels,)

    shapes['backbone.patch_embed.projection.weight'] = (net.channels, 3, net.patch, net.patch)
    shapes['backbone.patch_embed.projection.bias'] = (net.channels,)
    norm('patch_embed.norm', net.channels)
    for stage, (width, blocks, heads) in enumerate(zip(net.widths, net.blocks, net.heads, strict=True)):
        norm(f'norm{stage}', width)
        if stage < len(net.blocks) - 1:
            norm(f'stages.{stage}.downsample.norm', 4 * width)
            shapes[f'backbone.stages.{stage}.downsample.reduction.weight'] = (2 * width, 4 * width)
        for block in range(blocks):
            name = f'stages.{stage}.blocks.{block}'
            hidden = int(net.mlp_ratio * width)
            norm(f'{name}.norm1', width)
            norm(f'{name}.norm2', width)
            table = ((2 * net.window - 1) ** 2, heads)
            shapes[f'backbone.{name}.attn.w_msa.relative_position_bias_table'] = table
            linear(f'{name}.attn.w_msa.qkv', 3 * width, width)
            linear(f'{name}.attn.w_msa.proj', width, width)
            linear(f'{name}.ffn.layers.0.0', hidden, width)
            linear(f'{name}.ffn.layers.1', width, hidden)
    return shapes
