"""Focal and dice loss of matched masks in one pass over the full resolution.

The mask logits live on a coarse grid and the targets on the input's. The plain computation up-samples all masks, makes
some twenty full-resolution tensors of them and keeps most for the backward pass. Here a few masks at a time are
up-sampled, and the sums of both losses and both gradients, already brought back to the coarse grid, are taken at once:
nothing of full resolution outlives its chunk, and the backward pass is two scalings. Losses and gradients are those of
the plain computation up to rounding.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmmaskformer.core.losses import FOCAL_ALPHA, at_least_float32, chunk_rows, dice_from_sums, log_sigmoid
from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.upsampling import Upsampler

try:  # triton comes with torch where torch is built for GPUs
    from mmmaskformer.core import mask_loss_triton
except ImportError:
    mask_loss_triton = None


def matched_mask_losses(
    mask_logits: Tensor, target: MaskTarget, target_idx: Tensor, kind: str = 'focal'
) -> tuple[Tensor, Tensor]:
    """Focal (or binary cross-entropy) and dice loss of segments and the queries matched to them.

    Args:
        mask_logits: (n, h, w) float, before sigmoid; bilinearly up-sampled here to the target's size.
        target: the segments of the image, at any size (H, W).
        target_idx: (n,) int64, the segment of each mask; may repeat; n may be 0.
        kind: one of `MASK_LOSSES`.

    Returns:
        (mask, dice): (n,) float32 or float64 each; the first is the mean over the H * W pixels.

    Source: paper, section 4.1; official code, sigmoid_focal_loss and dice_loss.
    """
    logits = at_least_float32(mask_logits)
    if not len(logits):
        nothing = logits.flatten(1).sum(1)
        return nothing, nothing
    if mask_loss_triton and logits.is_cuda and logits.dtype == torch.float32:
        return mask_loss_triton.matched_mask_losses(logits, target, target_idx, kind)
    return _OnePass.apply(logits, target, target_idx, kind)


class _OnePass(torch.autograd.Function):
    """The losses of all masks; keeps their gradients on the coarse grid, only where a gradient is asked for."""

    @staticmethod
    def forward(ctx, mask_logits: Tensor, target: MaskTarget, target_idx: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        sampler = Upsampler(tuple(mask_logits.shape[-2:]), target.size, mask_logits)
        chunk = chunk_rows(target.size[0] * target.size[1], mask_logits.device)
        losses, grads = mask_logits.new_empty(2, len(mask_logits)), mask_logits.new_empty(2, *mask_logits.shape)
        for start in range(0, len(mask_logits), chunk):
            part = slice(start, start + chunk)
            masks = target.masks_of(target_idx[part], mask_logits.dtype)
            losses[0, part], losses[1, part], grads[0, part], grads[1, part] = _chunk_losses(
                mask_logits[part], masks, sampler, kind
            )
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(grads)
        return losses[0], losses[1]

    @staticmethod
    @once_differentiable
    def backward(ctx, mask: Tensor, dice: Tensor) -> tuple[Tensor, None, None, None]:
        mask_grad, dice_grad = ctx.saved_tensors[0]
        grad = (mask_grad * mask[:, None, None]).addcmul_(dice_grad, dice[:, None, None])
        return grad, None, None, None


def _chunk_losses(
    mask_logits: Tensor, targets: Tensor, sampler: Upsampler, kind: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses (n,) and their gradients (n, h, w) with respect to the logits.

    With s = 1 on target pixels and -1 elsewhere, z = s * logit is the logit of the true answer, u = 1 - sigmoid(z) its
    error and L = -log sigmoid(z), the cross-entropy. Focal loss is w * u^2 * L with w = alpha or 1 - alpha.

    Args:
        mask_logits: (n, h, w) float32 or float64.
        targets: (n, H, W), 1 on target pixels and 0 elsewhere, of the same dtype.
        sampler: between the two grids.
        kind: one of `MASK_LOSSES`.
    """
    pixels = targets[0].numel()
    half = targets - 0.5  # s / 2; the other half of the factor is cheaper on the coarse grid
    z = sampler.up(2 * mask_logits).mul_(half)
    right = z.sigmoid()
    log_right = log_sigmoid(z, right)
    error = torch.sub(1, right, out=z)
    if kind == 'bce':
        mask = log_right.flatten(1).sum(1).div_(-pixels)
        mask_grad = torch.mul(error, half, out=log_right).mul_(-0.5)  # d L / d logit = -s * u
    else:
        weight = torch.rsub(half, 0.5, alpha=1 - 2 * FOCAL_ALPHA).mul_(error).mul_(error)  # w * u^2
        mask = (weight * log_right).flatten(1).sum(1).div_(-pixels)
        # d focal / d logit = -s * w * u^2 * (2 * sigmoid(z) * L + u)
        mask_grad = log_right.mul_(right).sub_(error, alpha=0.5).mul_(weight).mul_(half)

    # The mask probability is sigmoid(z) inside the target and u outside; its derivative is sigmoid(z) * u in both.
    overlap = (right * targets).flatten(1).sum(1)
    target_sum = targets.flatten(1).sum(1)
    prob_sum = error.flatten(1).sum(1) + 2 * overlap - target_sum
    total = prob_sum + target_sum + 1
    inside, outside = -2 / total, (2 * overlap + 1) / total.square()
    slope = torch.addcmul(outside[:, None, None], inside[:, None, None], targets, out=half)
    dice_grad = right.mul_(error).mul_(slope)
    return (
        mask,
        dice_from_sums(overlap, prob_sum, target_sum),
        sampler.down(mask_grad).mul_(4 / pixels),
        sampler.down(dice_grad),
    )
