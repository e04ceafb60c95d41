"""Inference of convolutional layers on a CPU: with the channels of a pixel side by side in memory, and in place."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def prefers_channels_last(x: Tensor) -> bool:
    """Whether to infer channels last and in place: on a CPU, in float32 or wider, without gradients.

    Convolutions then reorder neither their input nor their result, and few large tensors are new: the system takes
    longer to hand out their memory than a pass over them takes. Compiled and traced graphs are left to what runs them.
    """
    if x.device.type != 'cpu' or x.dtype not in (torch.float32, torch.float64):
        return False
    is_autocast = torch.is_autocast_enabled('cpu')
    return not (torch.is_grad_enabled() or is_autocast or torch.compiler.is_compiling() or torch.jit.is_tracing())


def pointwise_conv(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution without bias as a matrix product, from either layout.

    Args:
        x: (B, C, h, w) float.
        weight: (C', C, 1, 1) float.

    Returns:
        (B, C', h, w), channels last.
    """
    kernel = weight.flatten(1).T.expand(len(x), -1, -1)
    return torch.bmm(x.flatten(2).transpose(1, 2), kernel).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def group_norm_(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """GroupNorm in place and without gradients.

    Args:
        x: (B, C, h, w) float32 or wider, channels last; overwritten.
        norm: with weight and bias.

    Returns:
        ``x``.
    """
    groups = norm.num_groups
    for image in x.split(1):
        # Means and variances of the channels, in a pass that torch has made fast for this layout.
        moments = torch.batch_norm_update_stats(image, None, None, 0.0)
        mean, variance = (moment.view(groups, -1) for moment in moments)
        centre = mean.mean(1, keepdim=True)
        variance = (variance + (mean - centre).square()).mean(1, keepdim=True)
        scale = norm.weight.view(groups, -1) * (variance + norm.eps).rsqrt()
        shift = norm.bias.view(groups, -1) - centre * scale
        pixels = image.permute(0, 2, 3, 1)
        torch.addcmul(shift.flatten(), pixels, scale.flatten(), out=pixels)
    return x


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
    # Every pixel goes to a square of four; the up-sampled map is not made.
    squares = x.permute(0, 2, 3, 1).unflatten(2, (width, 2)).unflatten(1, (height, 2))
    squares += coarse.permute(0, 2, 3, 1)[:, :, None, :, None]
    return x
