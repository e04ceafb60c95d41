"""Softmax cross-entropy of the pixels of an image in one pass over the full resolution.

The logits of K classes are on a coarse grid. The plain computation up-samples them and stores several tensors (K, H, W)
for the backward pass, which take most of the memory of the published PerPixelBaseline+ with 847 classes. This module
up-samples some rows at a time and immediately computes the loss and its gradient on the coarse grid.
"""

import torch
from torch import Tensor

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.numerics import at_least_float32, first_order_only
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.chunks import chunk_rows
from mmmaskformer.core.upsampling import interpolation_matrix


def pixel_cross_entropy(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the pixels of one image, summed; computes `equations.pixel_class_loss`.

    Args:
        logits: (K, h, w) float, before softmax; bilinearly up-sampled here to the size of ``classes``.
        classes: (H, W) int64 in [0, K), negative where a pixel does not count.
        weight: (K,) float of the classes.

    Returns:
        A scalar, float32 or float64: the sum of weight times loss.
    """
    logits = at_least_float32(logits)
    weight = weight.to(logits.dtype)
    if not is_fast('one_pass_loss'):
        return equations.pixel_class_loss(logits, classes, weight)
    return _OnePass.apply(logits, classes, weight)


class _OnePass(torch.autograd.Function):
    """The loss of all rows; stores its gradient on the coarse grid if gradients are required."""

    @staticmethod
    def forward(ctx, logits: Tensor, classes: Tensor, weight: Tensor):
        columns = interpolation_matrix(logits.shape[2], classes.shape[1], logits)
        rows = interpolation_matrix(logits.shape[1], classes.shape[0], logits)
        # At least two coarse rows, since each band samples the coarse rows at its border again.
        fewest = 2 * -(-classes.shape[0] // logits.shape[1])
        step = max(fewest, chunk_rows(len(logits) * classes.shape[1], logits.device))
        loss, grad = logits.new_zeros(()), torch.zeros_like(logits)
        for part, coarse in _bands(logits.shape[1], classes.shape[0], step):
            of_band = rows[part, coarse]
            fine = of_band @ (logits[:, coarse] @ columns.T)
            loss += _band(fine, classes[part], weight)
            grad[:, coarse] += of_band.T @ (fine @ columns)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(grad)
        return loss

    @staticmethod
    @first_order_only('one_pass_loss')
    def backward(ctx, loss: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * loss, None, None


def _band(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Summed loss of some rows; the logits (K, n, W) are overwritten by its gradient."""
    index = classes.clamp(min=0)[None]
    of_pixel = weight[index] * (classes >= 0)
    norm = logits.logsumexp(0, keepdim=True)
    loss = ((norm - logits.gather(0, index)) * of_pixel).sum()
    logits.sub_(norm).exp_().scatter_add_(0, index, logits.new_full((1,), -1).expand(index.shape)).mul_(of_pixel)
    return loss


def _bands(low: int, high: int, step: int) -> list[tuple[slice, slice]]:
    """Rows of the fine grid, ``step`` at a time, and the rows of the coarse grid from which they are interpolated."""
    bands = []
    for start in range(0, high, step):
        stop = min(start + step, high)
        first, last = ((row + 0.5) * low / high - 0.5 for row in (start, stop - 1))
        bands.append((slice(start, stop), slice(max(0, int(first) - 1), min(low, int(last) + 3))))
    return bands
