"""Inference of convolutional layers on a CPU in channels-last memory layout and in place."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskformer.core.modeling.fuse import Fusable, is_input_watched
from mmmaskformer.core.torch_versions import is_compiling, is_cpu_autocast

SUM_PIXELS = 1024
"""Number of pixels whose mean and variance are computed in float32; these results are combined in float64."""

SUMS_PER_PASS = 32
"""Number of sets of `SUM_PIXELS` that one call of torch sums; pixel i belongs to set i modulo this number."""


class PointwiseConv(Fusable, nn.Conv2d):
    """1x1 convolution without bias; a matrix product when it is fused and `prefers_channels_last` is true.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) float to (B, out_channels, h, w)."""
        if not (self.is_fused and prefers_channels_last(x)):
            return super().forward(x)
        kernel = self.weight.flatten(1).T.expand(len(x), -1, -1)
        return torch.bmm(x.flatten(2).transpose(1, 2), kernel).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class OverwritingGroupNorm(Fusable, nn.GroupNorm):
    """GroupNorm with weight and bias; may overwrite its input when it is fused and `prefers_channels_last` is true.

    Args:
        num_groups: groups; must divide ``num_channels``.
        num_channels: channels of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, num_channels, h, w) float to the same shape."""
        if not (self.is_fused and prefers_channels_last(x)):
            return super().forward(x)
        if is_input_watched(self):
            x = x.clone()
        x = x.contiguous(memory_format=torch.channels_last)
        for image in x.split(1):
            scale, shift = self._scale_and_shift(image)
            pixels = image.permute(0, 2, 3, 1)
            torch.addcmul(shift, pixels, scale, out=pixels)
        return x

    def _scale_and_shift(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset of each channel (C,), for one image (1, C, h, w)."""
        pixels = image.permute(0, 2, 3, 1).flatten(0, 2)
        counts, means, variances = _moments(pixels)
        means, variances = (values.view(len(counts), self.num_groups, -1) for values in (means, variances))
        share = counts[:, None, None] / (len(pixels) * means.shape[2])
        mean = (share * means).sum((0, 2), keepdim=True)
        variance = (share * (variances + (means - mean).square())).sum((0, 2))
        scale = self.weight.double().view(self.num_groups, -1) * (variance[:, None] + self.eps).rsqrt()
        shift = self.bias.double().view(self.num_groups, -1) - mean[0] * scale
        return scale.flatten().to(image.dtype), shift.flatten().to(image.dtype)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number (S,), mean and variance (S, C) float64 of S disjoint parts of the pixels (P, C).

    torch sums the pixels of a channel one by one, in a pass that is fast for channels last. Short sums keep the
    rounding small, whatever the number of threads. One call computes several of them, since a call for each would cost
    more than its pass: neighbouring pixels become additional channels, for as many pixels as divide evenly.
    """
    counts, means, variances = [], [], []
    for strip in pixels.split(SUM_PIXELS * SUMS_PER_PASS):
        whole = len(strip) // SUMS_PER_PASS * SUMS_PER_PASS
        for part, sums in ((strip[:whole], SUMS_PER_PASS), (strip[whole:], 1)):
            if len(part):
                rows = part.reshape(1, 1, len(part) // sums, -1).permute(0, 3, 1, 2)
                mean, variance = torch.batch_norm_update_stats(rows, None, None, 0.0)
                counts += sums * [len(part) // sums]
                means.append(mean.view(sums, -1).double())
                variances.append(variance.view(sums, -1).double())
    return pixels.new_tensor(counts, dtype=torch.double), torch.cat(means), torch.cat(variances)


def prefers_channels_last(x: Tensor) -> bool:
    """Whether fused layers work channels last and in place: on a CPU, in float32 or wider, without gradients.

    Convolutions then do not reorder their input and result. Few large tensors are allocated, since an allocation takes
    longer than a pass over the tensor. Compiled and traced graphs use the plain layers.

    Args:
        x: (B, C, h, w), the input of a layer.
    """
    if torch.is_grad_enabled() or is_compiling() or torch.jit.is_tracing():
        return False
    is_wide = x.dtype in (torch.float32, torch.float64)
    return is_wide and x.device.type == 'cpu' and x.numel() > 0 and not is_cpu_autocast()


def add_nearest_(x: Tensor, coarse: Tensor) -> Tensor:
    """Add a coarser map in place, up-sampled to the nearest pixel.

    Args:
        x: (B, C, h, w) float, best channels last; overwritten.
        coarse: (B, C, h', w') float.

    Returns:
        ``x``.
    """
    height, width = coarse.shape[2:]
    if x.shape[2:] != (2 * height, 2 * width):
        return x.add_(F.interpolate(coarse, size=x.shape[2:], mode='nearest'))
    # Every pixel is added to a square of four; the up-sampled map is not stored.
    squares = x.permute(0, 2, 3, 1).unflatten(2, (width, 2)).unflatten(1, (height, 2))
    squares += coarse.permute(0, 2, 3, 1)[:, :, None, :, None]
    return x
