"""The architecture of a model, found from the names and shapes of its neutral weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmmaskformer.checkpoints.names import KINDS

COUNTER = '.num_batches_tracked'
"""Suffix of batch-norm counters, which evaluation does not use; files of some packages lack them."""


class SizesError(ValueError):
    """A weight that determines the architecture is missing or has too few dimensions; the message is its name."""


@dataclass(frozen=True)
class Head:
    """The part of a model behind the backbone.

    Attributes:
        num_classes: K.
        num_queries: Q; 0 without a transformer decoder.
        channels: C of pixel decoder, transformer decoder and mask embeddings.
        widths: channels of the features, finest first.
        decoder_layers: L; 0 without a transformer decoder.
        ffn_channels: hidden width of the feed-forward parts of the decoder; 0 without one.
        encoder_layers: encoder layers of the pixel decoder; 0 without an encoder.
        encoder_ffn_channels: hidden width of its feed-forward parts; 0 without an encoder.
        projects_memory: whether the decoder has a projection of the memory.
        kind: one of `KINDS`.
    """

    num_classes: int
    num_queries: int
    channels: int
    widths: tuple[int, ...]
    decoder_layers: int
    ffn_channels: int
    encoder_layers: int
    encoder_ffn_channels: int
    projects_memory: bool
    kind: str = KINDS[0]

    def describe(self) -> str:
        """A description in words."""
        if self.kind == 'per pixel':
            return f'per-pixel baseline, {self.num_classes} classes'
        if self.kind == 'per pixel plus':
            return f'per-pixel baseline plus, {self.num_classes} classes, {self.decoder_layers} decoder layers'
        encoder = f', {self.encoder_layers} encoder layers' if self.encoder_layers else ''
        return f'{self.num_classes} classes, {self.num_queries} queries, {self.decoder_layers} decoder layers{encoder}'


@dataclass(frozen=True)
class ResNet:
    """A ResNet, or a ResNeXt, whose convolutions in the middle of the blocks have groups.

    Attributes:
        blocks: number of blocks of each stage.
        planes: base width of the first stage; its features have as many channels, four times as many with bottlenecks.
        bottleneck: whether blocks have three convolutions.
        stem: widths of the stem's convolutions; three of them make the stem of DeepLab.
        inner: channels in the middle of the bottlenecks of the first stage; 0 for as many as ``planes``.
        groups: groups of the convolutions there.
    """

    blocks: tuple[int, ...]
    planes: int
    bottleneck: bool
    stem: tuple[int, ...]
    inner: int = 0
    groups: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the features, finest first."""
        return tuple(self.planes * 2**stage * (4 if self.bottleneck else 1) for stage in range(len(self.blocks)))

    def describe(self) -> str:
        """A description in words."""
        depth = sum(self.blocks) * (3 if self.bottleneck else 2) + 2
        stem = ' with a stem of three convolutions' if len(self.stem) > 1 else ''
        if self.groups > 1:
            return (
                f'ResNeXt-{depth}{stem}, {self.groups} groups of {(self.inner or self.planes) // self.groups} channels'
            )
        return f'ResNet-{depth}{stem}' + (f', {self.inner} channels inside its first blocks' if self.inner else '')


@dataclass(frozen=True)
class Swin:
    """A Swin transformer.

    Attributes:
        channels: channels of the first stage.
        blocks: number of blocks of each stage.
        heads: attention heads of each stage.
        window: side of a window in tokens.
        patch: side of a patch in pixels.
        mlp_ratio: hidden width of the feed-forward parts over that of the tokens.
    """

    channels: int
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int
    mlp_ratio: float

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the features, finest first."""
        return tuple(self.channels * 2**stage for stage in range(len(self.blocks)))

    def describe(self) -> str:
        """A description in words."""
        return f'Swin with {self.channels} channels, blocks {self.blocks}, window {self.window}'


@dataclass(frozen=True)
class OtherBackbone:
    """A backbone without a table, whose names are the same in MMSegmentation, MMDetection and this package.

    Attributes:
        names: number of its weights.
    """

    names: int

    def describe(self) -> str:
        """A description in words."""
        return f'a backbone without a table, with {self.names} weights'


Backbone = ResNet | Swin | OtherBackbone


@dataclass(frozen=True)
class Architecture:
    """A complete model; ``backbone`` is None for a bare head."""

    head: Head
    backbone: Backbone | None

    def describe(self) -> str:
        """A description in words."""
        backbone = 'no backbone' if self.backbone is None else self.backbone.describe()
        return f'{backbone}; {self.head.describe()}'


def measure(weights: Mapping[str, Tensor], kinds: tuple[str, ...] = KINDS) -> Architecture:
    """Find the architecture of neutral weights.

    Args:
        weights: weights by neutral name.
        kinds: which of `KINDS` the package supports.

    Raises:
        SizesError: if a weight that determines it is missing or has too few dimensions.
    """
    return Architecture(_head(weights, kinds), measure_backbone(weights))


def measure_backbone(weights: Mapping[str, Tensor]) -> Backbone | None:
    """Find the architecture of the backbone of neutral weights; None without one.

    Args:
        weights: weights by neutral name.

    Raises:
        SizesError: if a weight that determines it is missing or has too few dimensions.
    """
    names = [name for name in weights if name.startswith(('backbone.', 'neck.'))]
    if not names:
        return None
    if 'backbone.patch_embed.projection.weight' in weights and 'backbone.stages.0.blocks.0.norm1.weight' in weights:
        return _swin(weights)
    if 'backbone.layer1.0.conv1.weight' in weights:
        return _resnet(weights)
    return OtherBackbone(len(names))


def _head(weights: Mapping[str, Tensor], kinds: tuple[str, ...]) -> Head:
    levels = _count(weights, r'lateral\.(\d+)\.')
    encoder_layers = _count(weights, r'encoder\.(\d+)\.')
    top = 'encoder_proj.weight' if encoder_layers or 'encoder_proj.weight' in weights else 'top.conv.weight'
    laterals = [f'lateral.{level}.conv.weight' for level in range(levels)]
    kind = _kind(weights, kinds)
    has_decoder = kind != 'per pixel'
    classes, others = {'mask': ('class_embed', 1), 'per pixel': ('pixel_classifier', 0)}.get(kind, ('query_embed', 0))
    return Head(
        num_classes=_size(weights, f'{classes}.weight', 0) - others,
        num_queries=_size(weights, 'query_embed.weight', 0) if has_decoder else 0,
        channels=_size(weights, 'top.conv.weight', 0),
        widths=tuple(_size(weights, name, 1) for name in (*laterals, top)),
        decoder_layers=_count(weights, r'decoder\.(\d+)\.'),
        ffn_channels=_size(weights, 'decoder.0.linear.0.weight', 0) if has_decoder else 0,
        encoder_layers=encoder_layers,
        encoder_ffn_channels=_size(weights, 'encoder.0.linear.0.weight', 0) if encoder_layers else 0,
        projects_memory='memory_proj.weight' in weights,
        kind=kind,
    )


def _kind(weights: Mapping[str, Tensor], kinds: tuple[str, ...]) -> str:
    if 'per pixel' in kinds and 'pixel_classifier.weight' in weights:
        return 'per pixel'
    absent = 'class_embed.weight' not in weights and 'class_embed.bias' not in weights
    return 'per pixel plus' if 'per pixel plus' in kinds and absent else 'mask'


def _resnet(weights: Mapping[str, Tensor]) -> ResNet:
    stem = ['conv1'] if 'backbone.conv1.weight' in weights else ['stem.0', 'stem.3', 'stem.6']
    stages = _count(weights, r'backbone\.layer(\d+)\.') - 1
    inner = planes = _size(weights, 'backbone.layer1.0.conv1.weight', 0)
    groups, bottleneck = 1, 'backbone.layer1.0.conv3.weight' in weights
    if bottleneck:
        planes = _size(weights, 'backbone.layer1.0.conv3.weight', 0) // 4
        groups = max(1, inner // max(1, _size(weights, 'backbone.layer1.0.conv2.weight', 1)))
    return ResNet(
        blocks=tuple(_count(weights, rf'backbone\.layer{stage + 1}\.(\d+)\.') for stage in range(stages)),
        planes=planes,
        bottleneck=bottleneck,
        stem=tuple(_size(weights, f'backbone.{name}.weight', 0) for name in stem),
        inner=0 if inner == planes else inner,
        groups=groups,
    )


def _swin(weights: Mapping[str, Tensor]) -> Swin:
    stages = range(_count(weights, r'backbone\.stages\.(\d+)\.'))
    tables = [f'backbone.stages.{stage}.blocks.0.attn.w_msa.relative_position_bias_table' for stage in stages]
    channels = _size(weights, 'backbone.patch_embed.projection.weight', 0)
    return Swin(
        channels=channels,
        blocks=tuple(_count(weights, rf'backbone\.stages\.{stage}\.blocks\.(\d+)\.') for stage in stages),
        heads=tuple(_size(weights, name, 1) for name in tables),
        window=(math.isqrt(_size(weights, tables[0], 0)) + 1) // 2,
        patch=_size(weights, 'backbone.patch_embed.projection.weight', 2),
        mlp_ratio=_size(weights, 'backbone.stages.0.blocks.0.ffn.layers.0.0.weight', 0) / channels,
    )


def _size(weights: Mapping[str, Tensor], name: str, dim: int) -> int:
    if name not in weights or weights[name].dim() <= dim:
        raise SizesError(name)
    return weights[name].shape[dim]


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest index in names that begin with a pattern."""
    found = (re.match(pattern, name) for name in weights)
    return max((int(match[1]) for match in found if match), default=-1) + 1
