"""The mask losses as two Triton kernels, the counterpart of `one_pass` for GPUs.

The forward kernel reads coarse logits and targets, up-samples in registers and writes four sums per mask. The backward
kernel repeats the work from the side of the coarse grid: each coarse pixel gathers the fine pixels that depend on it,
so that no full-resolution tensor is written and the order of additions is the same in every run.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmmaskformer.core.numerics import first_order_only
from mmmaskformer.core.structures import IGNORED, Targets
from mmmaskformer.core.training.equations import FOCAL_ALPHA, dice_from_sums

ALPHA, IGNORED_VALUE = tl.constexpr(FOCAL_ALPHA), tl.constexpr(IGNORED)
FINE_BLOCK, COARSE_BLOCK = 1024, 128


def batch_mask_losses(
    mask_logits: Tensor, targets: Targets, counts: Sequence[int], target_idx: Tensor, kind: str = 'focal'
) -> tuple[Tensor, Tensor]:
    """Focal (or binary cross-entropy) and dice loss (N,) of N masks: see `one_pass.batch_mask_losses`.

    Args:
        mask_logits: (N, h, w) float32 on a GPU, N at least 1.
        targets: targets of B images.
        counts: B numbers of masks, N in all.
        target_idx: (N,) int64.
        kind: a key of `equations.PER_PIXEL`.
    """
    segment_maps = targets.segment_maps
    image = torch.arange(len(targets)).repeat_interleave(torch.tensor(counts), output_size=len(target_idx))
    counted = targets.counted
    num_pixels: int | Tensor = targets.size[0] * targets.size[1]
    if segment_maps is None:  # the maps are masks, those of one image after the other; 2 where a pixel does not count
        maps = targets.own_masks.view(torch.uint8)
        if counted is not None:
            of_mask = torch.arange(len(targets)).repeat_interleave(torch.tensor(targets.counts))
            maps = torch.where(counted[of_mask.to(counted.device, non_blocking=True)], maps, 2)
        starts = torch.tensor(targets.starts)[image]
        map_idx = starts.to(target_idx.device, non_blocking=True) + target_idx
    else:
        maps, map_idx = segment_maps, image.to(target_idx.device, non_blocking=True)
    if counted is not None:
        num_pixels = counted.flatten(1).sum(1).clamp(min=1)[image.to(target_idx.device, non_blocking=True)]
    mask, dice = _Kernels.apply(
        mask_logits.contiguous(), maps, map_idx, target_idx, segment_maps is None, kind == 'focal', counted is not None
    )
    return mask / num_pixels, dice


class _Kernels(torch.autograd.Function):
    """Stores the coarse logits, the targets and four numbers per mask for the backward pass."""

    @staticmethod
    def forward(
        ctx,
        mask_logits: Tensor,
        maps: Tensor,
        map_idx: Tensor,
        target_idx: Tensor,
        overlapping: bool,
        focal: bool,
        ignoring: bool,
    ) -> tuple[Tensor, Tensor]:
        count, fine = len(mask_logits), maps.shape[-2] * maps.shape[-1]
        blocks = triton.cdiv(fine, FINE_BLOCK)
        parts = mask_logits.new_empty(count, 4, blocks)
        sizes = (*mask_logits.shape[1:], *maps.shape[-2:])
        _sums_kernel[(count, blocks)](
            mask_logits,
            maps,
            map_idx,
            target_idx,
            parts,
            *sizes,
            OVERLAPPING=overlapping,
            FOCAL=focal,
            IGNORING=ignoring,
            BLOCK=FINE_BLOCK,
        )
        mask, overlap, prob_sum, target_sum = parts.sum(2).unbind(1)
        total = prob_sum + target_sum + 1
        ctx.save_for_backward(mask_logits, maps, map_idx, target_idx, -2 / total, (2 * overlap + 1) / total.square())
        ctx.sizes, ctx.settings = sizes, dict(OVERLAPPING=overlapping, FOCAL=focal, IGNORING=ignoring)
        return mask, dice_from_sums(overlap, prob_sum, target_sum)

    @staticmethod
    @first_order_only('one_pass_loss')
    def backward(ctx, mask: Tensor, dice: Tensor):
        mask_logits, maps, map_idx, target_idx, inside, outside = ctx.saved_tensors
        h, w, H, W = ctx.sizes
        grad = torch.empty_like(mask_logits)
        factors = torch.stack([mask, dice * inside, dice * outside], 1)
        _gradient_kernel[(len(grad), triton.cdiv(h * w, COARSE_BLOCK))](
            mask_logits,
            maps,
            map_idx,
            target_idx,
            factors,
            grad,
            *ctx.sizes,
            # A coarse pixel contributes to the fine pixels at a distance of less than one coarse pixel on either side.
            ROWS=math.ceil(2 * H / h) + 1,
            COLUMNS=math.ceil(2 * W / w) + 1,
            **ctx.settings,
            BLOCK=COARSE_BLOCK,
        )
        return grad, None, None, None, None, None, None


@triton.jit
def _source(position, low, high):
    """The position of a fine row or column on the coarse grid: both neighbours and the weight of the second."""
    at = tl.maximum((position + 0.5) * (low / high) - 0.5, 0.0)
    first = tl.minimum(at.to(tl.int32), low - 1)
    return first, tl.minimum(first + 1, low - 1), at - first


@triton.jit
def _true_logit(
    logits, maps, wanted, rows, columns, valid, h, w, H, W, OVERLAPPING: tl.constexpr, IGNORING: tl.constexpr
):
    """Up-sampled logit of the true answer at fine pixels, whether they belong to the target, and whether they count.

    Args:
        logits: pointer to the coarse logits of the mask.
        maps: pointer to the segment map of the image, or to the mask of the segment.
        wanted: index of the segment in its image.
    """
    top, bottom, down = _source(rows, h, H)
    left, right, across = _source(columns, w, W)
    upper = tl.load(logits + top * w + left, valid, 0.0) * (1 - across)
    upper += tl.load(logits + top * w + right, valid, 0.0) * across
    lower = tl.load(logits + bottom * w + left, valid, 0.0) * (1 - across)
    lower += tl.load(logits + bottom * w + right, valid, 0.0) * across
    x = upper * (1 - down) + lower * down
    value = tl.load(maps + rows * W + columns, valid, 0)
    inside = value == 1 if OVERLAPPING else value == wanted
    if IGNORING:
        valid = valid & (value != (2 if OVERLAPPING else IGNORED_VALUE))
    return tl.where(inside, x, -x), inside, valid


@triton.jit
def _error_and_loss(z):
    """1 - sigmoid(z), sigmoid(z) and -log sigmoid(z) without overflow."""
    small = tl.exp(-tl.abs(z))
    rest = small / (1 + small)
    error = tl.where(z >= 0, rest, 1 - rest)
    return error, 1 - error, tl.maximum(-z, 0.0) + tl.log(1 + small)


@triton.jit
def _sums_kernel(
    logits,
    maps,
    map_idx,
    target_idx,
    parts,
    h,
    w,
    H,
    W,
    OVERLAPPING: tl.constexpr,
    FOCAL: tl.constexpr,
    IGNORING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sums over one block of fine pixels of one mask: mask loss, overlap, mask probability, target pixels."""
    mask, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    wanted = tl.load(target_idx + mask)
    maps += tl.load(map_idx + mask) * H * W
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    valid = pixel < H * W
    z, inside, valid = _true_logit(
        logits + mask * h * w, maps, wanted, pixel // W, pixel % W, valid, h, w, H, W, OVERLAPPING, IGNORING
    )
    error, right, loss = _error_and_loss(z)
    if FOCAL:
        loss *= tl.where(inside, ALPHA, 1 - ALPHA) * error * error
    inside = inside & valid
    parts += mask * 4 * tl.num_programs(1) + block
    tl.store(parts, tl.sum(tl.where(valid, loss, 0.0)))
    tl.store(parts + tl.num_programs(1), tl.sum(tl.where(inside, right, 0.0)))
    tl.store(parts + 2 * tl.num_programs(1), tl.sum(tl.where(valid, tl.where(inside, right, error), 0.0)))
    tl.store(parts + 3 * tl.num_programs(1), tl.sum(tl.where(inside, 1.0, 0.0)))


@triton.jit
def _gradient_kernel(
    logits,
    maps,
    map_idx,
    target_idx,
    factors,
    grad,
    h,
    w,
    H,
    W,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OVERLAPPING: tl.constexpr,
    FOCAL: tl.constexpr,
    IGNORING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradient of one block of coarse logits of one mask."""
    mask = tl.program_id(0).to(tl.int64)
    wanted = tl.load(target_idx + mask)
    maps += tl.load(map_idx + mask) * H * W
    logits += mask * h * w
    of_mask = tl.load(factors + 3 * mask)
    of_dice_inside = tl.load(factors + 3 * mask + 1)
    of_dice = tl.load(factors + 3 * mask + 2)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, column = cell // w, cell % w
    # The first fine row at most one coarse pixel above this one; `valid` is False for rows outside of the image.
    first_row = tl.ceil((row - 0.5) * (H / h) - 0.5).to(tl.int32)
    first_column = tl.ceil((column - 0.5) * (W / w) - 0.5).to(tl.int32)
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(ROWS):
        fine_row = first_row + i
        top, bottom, down = _source(fine_row, h, H)
        row_weight = tl.where(top == row, 1 - down, 0.0) + tl.where(bottom == row, down, 0.0)
        for j in range(COLUMNS):
            fine_column = first_column + j
            left, right_column, across = _source(fine_column, w, W)
            weight = tl.where(left == column, 1 - across, 0.0) + tl.where(right_column == column, across, 0.0)
            valid = (cell < h * w) & (fine_row >= 0) & (fine_row < H) & (fine_column >= 0) & (fine_column < W)
            z, inside, valid = _true_logit(
                logits, maps, wanted, fine_row, fine_column, valid, h, w, H, W, OVERLAPPING, IGNORING
            )
            error, right, loss = _error_and_loss(z)
            change = tl.where(inside, -error, error)
            if FOCAL:
                weight_of_true = tl.where(inside, ALPHA, 1 - ALPHA)
                change *= weight_of_true * error * (2 * right * loss + error)
            dice = right * error * (of_dice + tl.where(inside, of_dice_inside, 0.0))
            total += tl.where(valid, row_weight * weight * (of_mask * change + dice), 0.0)
    tl.store(grad + mask * h * w + cell, total, cell < h * w)
