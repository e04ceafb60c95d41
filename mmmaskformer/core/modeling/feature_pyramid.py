"""A feature pyramid from one feature map, for plain vision transformers and other backbones of a single scale."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskformer.core.checks import POSITIVE, Check, checked, list_of, whole

SCALES = Check(
    'powers of two such as [4, 2, 1, 0.5]',
    lambda value: list_of(POSITIVE).accepts(value) and all(math.log2(scale).is_integer() for scale in value),
)


class FeatureMapError(ValueError):
    """A neck does not fit the backbone."""


@checked(in_channels=whole(1), out_channels=whole(1), scales=SCALES, in_index=whole().or_none())
class SimpleFeaturePyramid(nn.Module):
    """Several scales from one map: transposed convolutions up, max pooling down, two convolutions each.

    Args:
        in_channels: channels of the map.
        out_channels: channels of every map of the result.
        scales: powers of two, the ratios of the sides of the results to those of the map, finest first. The default
            gives strides 4, 8, 16 and 32 from a stride of 16.
        in_index: index of the map if the backbone returns several; None for the last one with ``in_channels``. A single
            tensor is used directly, for backbones that return several maps only in training.

    Raises:
        ValueError: if ``scales`` are not powers of two.

    Source: ViTDet (arXiv 2203.16527), section 3. Differs: pooling keeps the last row and column of odd sides, so that
    maps of one pixel are not reduced to nothing.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        in_index: int | None = None,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.in_index = in_index
        self.levels = nn.ModuleList(_level(in_channels, out_channels, int(math.log2(scale))) for scale in scales)

    def forward(self, features: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            features: a map (B, in_channels, h, w) or (B, h, w, in_channels) float, or several maps.

        Returns:
            One (B, out_channels, h · scale, w · scale) per scale, rounded up.

        Raises:
            FeatureMapError: if the map has another number of channels.
        """
        feature = channels_first(self._chosen(features), self.in_channels)
        return tuple(level(feature) for level in self.levels)

    def _chosen(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        maps = [features] if isinstance(features, Tensor) else list(features)
        candidates = maps if isinstance(features, Tensor) or self.in_index is None else [maps[self.in_index]]
        fitting = [feature for feature in candidates if _has_channels(feature, self.in_channels)]
        if not fitting:
            found = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in maps]
            raise FeatureMapError(
                f'SimpleFeaturePyramid takes a map (B, {self.in_channels}, h, w) with in_index={self.in_index}, but '
                f'the backbone returns {found}. Fix: set in_channels of the neck to the channels of a map'
            )
        return fitting[-1]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel.

    Args:
        channels: channels of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, h, w) float to the same shape."""
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def channels_first(feature: Tensor, channels: int) -> Tensor:
    """Return a map (B, channels, h, w) unchanged, and permute (B, h, w, channels) to that layout."""
    if feature.shape[1] != channels and feature.shape[3] == channels:
        return feature.permute(0, 3, 1, 2)
    return feature


def _has_channels(feature, channels: int) -> bool:
    return isinstance(feature, Tensor) and feature.dim() == 4 and channels in (feature.shape[1], feature.shape[3])


def _level(in_channels: int, out_channels: int, doublings: int) -> nn.Sequential:
    """The layers from the map to one scale: ``doublings`` of its sides, halvings if negative."""
    layers, width = [], in_channels
    for step in range(doublings):
        if step:
            layers += [ChannelNorm(width), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, max(1, width // 2), 2, stride=2))
        width = max(1, width // 2)
    layers += [nn.MaxPool2d(2, ceil_mode=True) for _ in range(-doublings)]
    for kernel_size in (1, 3):
        layers.append(nn.Conv2d(width, out_channels, kernel_size, padding=kernel_size // 2, bias=False))
        layers.append(ChannelNorm(out_channels))
        width = out_channels
    return nn.Sequential(*layers)
