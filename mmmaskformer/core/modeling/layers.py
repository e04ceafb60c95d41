"""Small building blocks: MLP, convolution with norm, sine position encoding, initialisation."""

import math

import torch
from torch import Tensor, nn

from mmmaskformer.core.modeling.channels_last import OverwritingGroupNorm, PointwiseConv
from mmmaskformer.core.modeling.fuse import NEW_TENSORS, is_watched, relu_after


def caffe2_xavier_(module: nn.Conv2d) -> None:
    """Initialise a convolution in place: uniform in ±sqrt(3 / fan_in), bias 0.

    Source: official code, every convolution of the pixel decoder and the projection of the memory.
    """
    nn.init.kaiming_uniform_(module.weight, a=1)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class ConvNorm(nn.Module):
    """Convolution without bias, GroupNorm and optionally ReLU; keeps height and width.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd, in pixels.
        norm_groups: groups of the GroupNorm; must divide ``out_channels``.
        relu: whether a ReLU follows.

    Raises:
        ValueError: if ``norm_groups`` does not divide ``out_channels``.

    Source: paper, section 3.4 (pixel decoder); official code, BasePixelDecoder.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, norm_groups: int, relu: bool):
        super().__init__()
        if out_channels % norm_groups:
            raise ValueError(
                f'norm_groups={norm_groups} does not divide the {out_channels} channels of the pixel decoder; '
                f'expected a divisor. Fix: set norm_groups={math.gcd(out_channels, 32)} in pixel_decoder.'
            )
        self.conv: nn.Conv2d
        if kernel_size == 1:
            self.conv = PointwiseConv(in_channels, out_channels)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = OverwritingGroupNorm(norm_groups, out_channels)
        self.relu = relu
        caffe2_xavier_(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w); in fused inference on a CPU, channels last."""
        x = self.conv(x)
        is_new = isinstance(self.conv, NEW_TENSORS) or torch.is_grad_enabled()
        if is_watched(self.conv) or not is_new:
            x = x.clone()  # since a fused norm overwrites it
        x = self.norm(x)
        return relu_after(self.norm, x) if self.relu else x  # in place: the norm does not need its result


class MLP(nn.Module):
    """Linear layers with ReLU between them and none after the last.

    Args:
        in_channels: width of the input.
        hidden_channels: width between the layers.
        out_channels: width of the output.
        num_layers: number of linear layers, at least 1.

    Source: paper, section 3.4 (transformer module: mask embedding).
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int):
        super().__init__()
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    @property
    def input_width(self) -> int | None:
        """Width of the input; None if the first layer was replaced by one that does not state it."""
        return getattr(self.layers[0], 'in_features', None)

    @property
    def output_width(self) -> int | None:
        """Width of the output; None if the last layer was replaced by one that does not state it."""
        return getattr(self.layers[-1], 'out_features', None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_channels) to (..., out_channels)."""
        for layer in self.layers[:-1]:
            x = relu_after(layer, layer(x))
        return self.layers[-1](x)


def sine_position_encoding(size: tuple[int, int], channels: int, device: torch.device | None = None) -> Tensor:
    """Sine and cosine encoding of the rows (first half of the channels) and the columns (second half).

    Args:
        size: (h, w) of the grid.
        channels: width of the encoding, divisible by 4.
        device: device of the result.

    Returns:
        (1, channels, h, w) float32. It depends only on the size, including padding.

    Raises:
        ValueError: if ``channels`` is not divisible by 4.

    Source: paper, section 3.4, after DETR; official code, PositionEmbeddingSine with normalisation, temperature 10000.
    """
    if channels % 4:
        raise ValueError(f'channels: found {channels}, expected a multiple of 4 for the sine position encoding')
    half = channels // 2
    pair = torch.arange(half, device=device).div(2, rounding_mode='floor')
    frequency = 10000 ** (2 * pair.float() / half)
    rows, columns = (_sine_code(length, frequency) for length in size)
    grid_rows = rows[:, :, None].expand(-1, -1, size[1])
    grid_columns = columns[:, None, :].expand(-1, size[0], -1)
    return torch.cat([grid_rows, grid_columns])[None]


def _sine_code(length: int, frequency: Tensor) -> Tensor:
    """Encoding (half, length) of the positions 1 … length, scaled to at most 2 pi."""
    position = torch.arange(1, length + 1, dtype=torch.float32, device=frequency.device)
    position = position / (length + 1e-6) * (2 * math.pi)
    angle = position / frequency[:, None]
    even = torch.arange(len(frequency), device=frequency.device)[:, None] % 2 == 0
    return torch.where(even, angle.sin(), angle.cos())
