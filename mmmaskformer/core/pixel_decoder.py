"""Pixel decoders: backbone features to per-pixel embeddings and the memory of the transformer decoder."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskformer.core.layers import ConvNorm, caffe2_xavier_


class PixelDecoderOutput(NamedTuple):
    """Result of a pixel decoder.

    Attributes:
        mask_features: (B, C, h, w) float, per-pixel embeddings on the finest grid.
        memory: (B, memory_channels, h', w') float, what the transformer decoder looks at.
    """

    mask_features: Tensor
    memory: Tensor


class FPNPixelDecoder(nn.Module):
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
        *lateral, top = in_channels
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
            Embeddings on the grid of the finest feature, and the coarsest feature as memory.
        """
        x = self.top_conv(features[-1])
        levels = zip(features[:-1], self.lateral_convs, self.output_convs, strict=True)
        for feature, lateral, output in reversed(list(levels)):
            x = output(lateral(feature) + F.interpolate(x, size=feature.shape[-2:], mode='nearest'))
        return PixelDecoderOutput(self.mask_conv(x), features[-1])
