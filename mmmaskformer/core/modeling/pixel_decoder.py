"""Pixel decoders: backbone features to per-pixel embeddings and the memory of the transformer decoder."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmmaskformer.core.checks import FRACTION, checked, list_of, whole
from mmmaskformer.core.contracts import PixelDecoderOutput
from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.folding import LastConv, can_fold
from mmmaskformer.core.modeling.channels_last import (
    OverwritingGroupNorm,
    PointwiseConv,
    add_nearest_,
    prefers_channels_last,
)
from mmmaskformer.core.modeling.fuse import Fusable, is_watched
from mmmaskformer.core.modeling.layers import ConvNorm, caffe2_xavier_, sine_position_encoding
from mmmaskformer.core.modeling.transformer import TransformerEncoderLayer, clone_layers
from mmmaskformer.core.shapes import check_features

REPEATABLE = (ConvNorm, PointwiseConv, OverwritingGroupNorm, nn.Conv2d, nn.GroupNorm, nn.Identity)
"""Layers without random numbers and without statistics that every call updates."""


@checked(in_channels=list_of(whole(1)), channels=whole(1), mask_channels=whole(1), norm_groups=whole(1))
class FPNPixelDecoder(Fusable):
    """Feature pyramid of 3x3 convolutions with GroupNorm, top-down by nearest up-sampling and addition.

    The memory is the coarsest backbone feature itself. The last convolution is 3x3, as in the official code; the
    paper's text says 1x1.

    Args:
        in_channels: channels of the features, finest first, at least two levels.
        channels: width of the pyramid.
        mask_channels: width C of the per-pixel embeddings.
        norm_groups: groups of every GroupNorm.

    Attributes:
        memory_channels: channels of the memory.

    Raises:
        ValueError: if there are fewer than two levels or ``norm_groups`` does not divide ``channels``.

    Source: paper, section 3.4 (pixel decoder); official code, BasePixelDecoder.
    """

    def __init__(
        self, *, in_channels: Sequence[int], channels: int = 256, mask_channels: int = 256, norm_groups: int = 32
    ):
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(f'in_channels={list(in_channels)} has {len(in_channels)} level(s); expected at least 2')
        *lateral, top = self.in_channels = tuple(in_channels)
        self.memory_channels = top
        self.top_conv = ConvNorm(top, channels, 3, norm_groups=norm_groups, relu=True)
        self.lateral_convs = nn.ModuleList(
            ConvNorm(width, channels, 1, norm_groups=norm_groups, relu=False) for width in lateral
        )
        self.output_convs = nn.ModuleList(
            ConvNorm(channels, channels, 3, norm_groups=norm_groups, relu=True) for _ in lateral
        )
        self.mask_conv = nn.Conv2d(channels, mask_channels, 3, padding=1)
        caffe2_xavier_(self.mask_conv)

    def forward(self, features: Sequence[Tensor]) -> PixelDecoderOutput:
        """Merge the features from coarse to fine.

        Args:
            features: one (B, in_channels[i], h_i, w_i) per level, finest first; any sizes.

        Returns:
            The coarsest feature as memory, and the embeddings on the grid of the finest.

        Raises:
            ValueError: if the number of levels or their channels differ from ``in_channels``, or the levels differ in
                batch size, dtype or device.
        """
        check_features(type(self).__name__, features, self.in_channels)
        x = self.top_conv(features[-1])
        levels = zip(features[:-1], self.lateral_convs, self.output_convs, strict=True)
        for feature, lateral, output in reversed(list(levels)):
            watched = is_watched(*lateral.modules())
            if self.is_fused and prefers_channels_last(feature) and isinstance(lateral, ConvNorm) and not watched:
                x = add_nearest_(lateral(feature), x)
            else:
                x = F.interpolate(x, size=feature.shape[-2:], mode='nearest')
                # A 1x1 convolution is cheap and its output is large, so the backward pass recomputes it.
                if watched or not (is_fast('recomputed_convs') and _may_run_twice(lateral)):
                    x += lateral(feature)
                else:
                    x += checkpoint(lateral, feature, use_reentrant=False, preserve_rng_state=False)
            x = output(x)
        return self._with_mask_features(features[-1], x)

    def _with_mask_features(self, memory: Tensor, x: Tensor) -> PixelDecoderOutput:
        """Run the last convolution; in the fused state, leave it to the masks."""
        conv = self.mask_conv
        if not can_fold(conv):
            return PixelDecoderOutput(memory, conv(x))
        if self.is_fused:
            return PixelDecoderOutput(memory, LastConv.of(conv, x))
        return PixelDecoderOutput(memory, conv(x), LastConv.of(conv, x))


def _may_run_twice(layer: nn.Module) -> bool:
    """Whether a second call of a layer has the result of the first and no effect; unknown if a user replaced parts."""
    return all(type(part) in REPEATABLE and 'forward' not in vars(part) for part in layer.modules())


@checked(
    in_channels=list_of(whole(1)),
    channels=whole(1),
    mask_channels=whole(1),
    norm_groups=whole(1),
    num_layers=whole(1),
    num_heads=whole(1),
    ffn_channels=whole(1),
    dropout=FRACTION,
)
class TransformerEncoderPixelDecoder(nn.Module):
    """A transformer encoder on the coarsest feature, then the feature pyramid of `FPNPixelDecoder`.

    The encoder's output is the top of the pyramid and the memory. No padding mask, as published.

    Args:
        in_channels: channels of the features, finest first, at least two levels.
        channels: width of encoder and pyramid.
        mask_channels: width C of the per-pixel embeddings.
        norm_groups: groups of every GroupNorm.
        num_layers: encoder layers.
        num_heads: attention heads; must divide ``channels``.
        ffn_channels: hidden width of the feed-forward parts.
        dropout: probability.

    Attributes:
        memory_channels: channels of the memory.

    Raises:
        ValueError: if there are fewer than two levels, a width is not divided by its heads or groups, or
            ``num_layers`` is below 1; without an encoder, use `FPNPixelDecoder`.

    Source: paper, section 4.2 (panoptic models, "+ 6 Enc"); official code, TransformerEncoderPixelDecoder.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        mask_channels: int = 256,
        norm_groups: int = 32,
        num_layers: int = 6,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        dropout: float = 0.1,
    ):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f'num_heads: found {num_heads}, expected a divisor of channels={channels}')
        *lateral, top = self.in_channels = tuple(in_channels)
        self.channels = self.memory_channels = channels
        self.memory_proj = nn.Conv2d(top, channels, 1)
        caffe2_xavier_(self.memory_proj)
        layer = TransformerEncoderLayer(
            channels=channels, num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout
        )
        self.layers = clone_layers(layer, num_layers)
        self.pyramid = FPNPixelDecoder(
            in_channels=[*lateral, channels], channels=channels, mask_channels=mask_channels, norm_groups=norm_groups
        )

    def forward(self, features: Sequence[Tensor]) -> PixelDecoderOutput:
        """Encode the coarsest feature and merge the features from coarse to fine.

        Args:
            features: one (B, in_channels[i], h_i, w_i) per level, finest first; any sizes.

        Returns:
            The encoder's output (B, channels, h', w') as memory, and the embeddings on the grid of the finest feature.

        Raises:
            ValueError: if the number of levels or their channels differ from ``in_channels``, or the levels differ in
                batch size, dtype or device.
        """
        check_features(type(self).__name__, features, self.in_channels)
        return self.pyramid([*features[:-1], self._encode(features[-1])])

    def _encode(self, feature: Tensor) -> Tensor:
        x = self.memory_proj(feature)
        size = x.shape[-2:]
        position = sine_position_encoding(size, self.channels, x.device).to(x.dtype)
        x, position = (grid.flatten(2).transpose(1, 2) for grid in (x, position))
        for layer in self.layers:
            x = layer(x, position=position)
        return x.transpose(1, 2).unflatten(2, size)
