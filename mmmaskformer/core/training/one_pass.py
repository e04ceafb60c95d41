"""Focal and dice loss of matched masks in one pass over the full resolution.

The mask logits are on a coarse grid, the targets on the grid of the input. The plain computation up-samples all masks,
creates about twenty full-resolution tensors and stores most of them for the backward pass. This module up-samples a few
masks at a time and immediately computes the sums of both losses and both gradients, the latter on the coarse grid. The
next masks overwrite the full-resolution tensors, and the backward pass consists of two scalings. Losses and gradients
equal those of the plain computation up to rounding.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.numerics import at_least_float32, first_order_only, log_sigmoid
from mmmaskformer.core.structures import MaskTarget, Targets
from mmmaskformer.core.training.chunks import chunk_rows
from mmmaskformer.core.training.equations import FOCAL_ALPHA, dice_from_sums
from mmmaskformer.core.upsampling import Upsampler

HAS_TRITON = find_spec('triton') is not None
"""Whether triton is installed; builds of torch for GPUs include it."""

if HAS_TRITON:  # instead of catching an ImportError, which would hide errors inside the module
    from mmmaskformer.core.training import one_pass_triton

LARGEST_PLAIN_LOGIT = 80
"""Largest absolute logit for which the sigmoid and its logarithm do not underflow in float32."""


def batch_mask_losses(
    mask_logits: Tensor, targets: Targets, counts: Sequence[int], target_idx: Tensor, kind: str = 'focal'
) -> tuple[Tensor, Tensor]:
    """Losses of `matched_mask_losses` for several images; on a GPU, of all of them at once.

    Args:
        mask_logits: (N, h, w) float, before sigmoid, the masks of one image after the other.
        targets: targets of B images.
        counts: B numbers of masks, N in all; each may be 0.
        target_idx: (N,) int64, the segment of its image that each mask is matched to.
        kind: a key of `equations.PER_PIXEL`.

    Returns:
        (mask, dice): (N,) float32 or float64 each.
    """
    logits = at_least_float32(mask_logits)
    if _takes_kernels(logits):
        return one_pass_triton.batch_mask_losses(logits, targets, counts, target_idx, kind)
    counted = targets.counted
    parts = [
        matched_mask_losses(part, target, segment, kind, None if counted is None else counted[image])
        for image, (part, target, segment) in enumerate(
            zip(logits.split(counts), targets, target_idx.split(counts), strict=True)
        )
    ]
    mask, dice = (torch.cat(losses) for losses in zip(*parts, strict=True))
    return mask, dice


def _takes_kernels(logits: Tensor) -> bool:
    """Whether the Triton kernels compute the losses of (N, h, w) logits."""
    return (
        HAS_TRITON
        and is_fast('triton_kernels')
        and logits.is_cuda
        and logits.dtype == torch.float32
        and len(logits) > 0
    )


def matched_mask_losses(
    mask_logits: Tensor, target: MaskTarget, target_idx: Tensor, kind: str = 'focal', counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Focal (or binary cross-entropy) and dice loss of segments and the queries matched to them, of one image.

    Implemented in PyTorch only; `batch_mask_losses` has kernels for GPUs.

    Args:
        mask_logits: (n, h, w) float, before sigmoid; bilinearly up-sampled here to the target's size.
        target: the segments of the image, at any size (H, W).
        target_idx: (n,) int64, the segment of each mask; may repeat; n may be 0.
        kind: a key of `equations.PER_PIXEL`.
        counted: (H, W) bool, the pixels that count; None for all.

    Returns:
        (mask, dice): (n,) float32 or float64 each; the first is the mean over the pixels that count. They equal
        `equations.mask_losses` of the up-sampled logits.

    Source: paper, section 4.1; official code, sigmoid_focal_loss and dice_loss.
    """
    logits = at_least_float32(mask_logits)
    if not len(logits):
        nothing = logits.flatten(1).sum(1)
        return nothing, nothing
    return _OnePass.apply(logits, target, target_idx, kind, counted)


class _OnePass(torch.autograd.Function):
    """The losses of all masks; stores their gradients on the coarse grid if gradients are required."""

    @staticmethod
    def forward(ctx, mask_logits: Tensor, target: MaskTarget, target_idx: Tensor, kind: str, counted: Tensor | None):
        chunk = min(len(mask_logits), chunk_rows(target.size[0] * target.size[1], mask_logits.device))
        workspace = _Workspace(mask_logits, target, counted, chunk)
        losses, grads = mask_logits.new_empty(2, len(mask_logits)), mask_logits.new_empty(2, *mask_logits.shape)
        for start in range(0, len(mask_logits), chunk):
            part = slice(start, start + chunk)
            workspace.run(mask_logits[part], target_idx[part], kind, losses[:, part], grads[:, part])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(grads)
        return losses[0], losses[1]

    @staticmethod
    @first_order_only('one_pass_loss')
    def backward(ctx, mask: Tensor, dice: Tensor) -> tuple[Tensor | None, ...]:
        mask_grad, dice_grad = ctx.saved_tensors[0]
        grad = (mask_grad * mask[:, None, None]).addcmul_(dice_grad, dice[:, None, None])
        return grad, None, None, None, None


class _Workspace:
    """Data shared by the chunks of an image: the target, the map between both grids, and full-resolution buffers.

    Args:
        mask_logits: (n, h, w) float32 or float64, of all chunks.
        target: target of the image.
        counted: (H, W) bool, the pixels that count; None for all.
        chunk: largest number of masks in a chunk.
    """

    def __init__(self, mask_logits: Tensor, target: MaskTarget, counted: Tensor | None, chunk: int):
        self.target = target
        self.areas = target.areas()
        self.counted: Tensor | None = None
        self.num_pixels: int | Tensor = target.size[0] * target.size[1]
        if counted is not None:
            self.counted = counted.to(mask_logits.dtype)
            self.num_pixels = self.counted.sum().clamp(min=1)
        self.sampler = Upsampler((mask_logits.shape[1], mask_logits.shape[2]), target.size, mask_logits)
        self.tensors = mask_logits.new_empty(5, chunk, *target.size)
        # If the coarse logits are of moderate size, so are all interpolated ones.
        self.tails = bool(mask_logits.abs().amax() > LARGEST_PLAIN_LOGIT)

    def run(self, mask_logits: Tensor, target_idx: Tensor, kind: str, losses: Tensor, grads: Tensor) -> None:
        """Losses of a chunk and their gradients with respect to the logits.

        With s = 1 on target pixels and -1 elsewhere, z = s * logit is the logit of the true answer, u = 1 - sigmoid(z)
        its error and L = -log sigmoid(z), the cross-entropy. Focal loss is w * u^2 * L with w = alpha or 1 - alpha.

        Args:
            mask_logits: (n, h, w).
            target_idx: (n,) int64.
            kind: a key of `equations.PER_PIXEL`.
            losses: (2, n), written: mask loss and dice loss.
            grads: (2, n, h, w), written: their gradients.
        """
        count = len(mask_logits)
        buffers = self.tensors[:, :count]
        inside = self.target.masks_of(target_idx, out=buffers[1])
        z = self.sampler.up(-mask_logits, out=buffers[3])
        z.addcmul_(z, inside, value=-2)
        right = torch.sigmoid(z, out=buffers[2])
        log_right = log_sigmoid(z, right, tails=self.tails, out=buffers[4])  # -L
        error = torch.sub(1, right, out=buffers[3])  # u, over z
        if self.counted is not None:  # with an error of 0, a pixel does not contribute to losses and gradients
            error.mul_(self.counted)
            log_right.mul_(self.counted)
        losses[0], factor = self._mask_loss(inside, right, error, log_right, kind, slope=buffers[0])
        losses[1] = self._dice_loss(inside, right, error, self.areas[target_idx])
        grads[:] = self.sampler.down(buffers[:2].flatten(0, 1)).unflatten(0, (2, count))
        grads[0] *= factor

    def _mask_loss(
        self, inside: Tensor, right: Tensor, error: Tensor, log_right: Tensor, kind: str, slope: Tensor
    ) -> tuple[Tensor, float | Tensor]:
        """Mean loss (n,) per mask, and a factor: times ``slope``, which is written, it is d loss / d logit.

        ``log_right`` is overwritten.
        """
        if kind == 'bce':
            factor, of_inside = 1 / self.num_pixels, -1.0
            loss = log_right.sum((1, 2)).mul_(-factor)
            slope.copy_(error)  # d L / d logit = -s * u
        else:
            # Inside the target the weight is alpha instead of 1 - alpha, and s has the opposite sign.
            factor, of_inside = (1 - FOCAL_ALPHA) / self.num_pixels, -FOCAL_ALPHA / (1 - FOCAL_ALPHA)
            squared = torch.mul(error, error, out=slope)
            focal = log_right.mul_(squared)  # -u^2 * L
            loss = (focal.sum((1, 2)) - (1 + of_inside) * _dots(focal, inside)).mul_(-factor)
            # d focal / d logit = -s * w * u^2 * (2 * sigmoid(z) * L + u)
            torch.addcmul(squared.mul_(error), focal, right, value=-2, out=slope)
        slope.addcmul_(slope, inside, value=of_inside - 1)
        return loss, factor

    @staticmethod
    def _dice_loss(inside: Tensor, right: Tensor, error: Tensor, areas: Tensor) -> Tensor:
        """Dice loss (n,) of masks whose segments have some areas (n,); d loss / d logit is written over ``inside``.

        The mask probability is sigmoid(z) inside the target and u outside; its derivative is sigmoid(z) * u in both.
        """
        overlap = _dots(right, inside)
        prob_sum = error.sum((1, 2)) + 2 * overlap - areas
        total = prob_sum + areas + 1
        slope = inside.mul_((-2 / total)[:, None, None]).add_(((2 * overlap + 1) / total.square())[:, None, None])
        slope.mul_(right).mul_(error)
        return dice_from_sums(overlap, prob_sum, areas)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Sums (n,) of the products of (n, H, W) and (n, H, W)."""
    return torch.stack([torch.dot(x, y) for x, y in zip(a.flatten(1), b.flatten(1), strict=True)])
