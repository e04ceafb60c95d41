"""Mask and dice cost of every query against every segment, a few pixels at a time.

The matcher needs two sums over the pixels of each segment and two over all pixels. The logits are computed for some
pixels at a time, one logarithm is used for both cases of the focal loss, and no tensor of the size of the mask logits
is stored. The costs equal `equations.mask_losses` of every pair, on the grid of the mask logits.
"""

import torch
from torch import Tensor

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.masks import Masks
from mmmaskformer.core.numerics import at_least_float32, log_sigmoid
from mmmaskformer.core.structures import IGNORED, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.chunks import chunk_rows
from mmmaskformer.core.training.equations import FOCAL_ALPHA, dice_from_sums
from mmmaskformer.core.upsampling import sample_nearest

FEWEST_PIXELS = 256
"""Least number of pixels in a chunk for an efficient matrix product."""


@torch.no_grad()
def pairwise_mask_costs(masks: Masks, targets: Targets, kind: str = 'focal') -> tuple[Tensor, Tensor]:
    """Mask and dice loss of all queries against all segments of their image, on the grid of the mask logits.

    Args:
        masks: masks of n queries of each of B images, for example of all layers.
        targets: targets of the batch.
        kind: a key of `equations.PER_PIXEL`.

    Returns:
        (mask, dice): (B, n, M) float32 or float64 each, with M the largest number of segments of an image; values
        beyond an image's own number are undefined. The first is the mean over the pixels that count. Not
        differentiable.

    Source: paper, section 4.1; official code, batch_sigmoid_focal_loss and batch_dice_loss of the matcher.
    """
    if not is_fast('chunked_costs'):
        return _plain_costs(masks, targets, kind)
    members, counted = _members(targets, masks.size)
    return _chunked(masks, members, counted, max(targets.counts), kind)


@torch.no_grad()
def pairwise_point_costs(
    masks: Masks, members: Tensor, counted: Tensor | None, kind: str = 'bce'
) -> tuple[Tensor, Tensor]:
    """Costs at points, which may belong to a segment in part: `equations.soft_mask_losses` of every pair.

    Args:
        masks: masks of n queries of each of B images, on a grid of P points.
        members: (B, M, P) float in [0, 1].
        counted: (B, P) bool, the points that count; None for all.
        kind: a key of `equations.PER_PIXEL`.

    Returns:
        (mask, dice): (B, n, M) float32 or float64 each.

    Source: Mask2Former, section 3.3 (importance sampling; its matching cost samples uniformly).
    """
    if counted is not None:
        members = members * counted[:, None]
    if is_fast('chunked_costs'):
        return _chunked(masks, members, counted, members.shape[1], kind)
    logits = at_least_float32(torch.stack([masks.logits(image) for image in range(len(members))])).flatten(2)
    of_pairs = torch.ones_like(members, dtype=torch.bool) if counted is None else counted[:, None].expand_as(members)
    return equations.soft_mask_losses(logits[:, :, None], members[:, None], of_pairs[:, None], kind)


def _chunked(
    masks: Masks, members: Tensor, counted: Tensor | None, num_segments: int, kind: str
) -> tuple[Tensor, Tensor]:
    """Costs (B, n, M) of all images, some at a time; arguments as `_costs`."""
    count = chunk_rows(masks.num_queries * FEWEST_PIXELS, masks.like.device)
    parts = []
    for start in range(0, len(members), count):
        images = slice(start, start + count)
        weights = None if counted is None else counted[images]
        parts.append(_costs(masks, images, members[images], weights, num_segments, kind))
    mask, dice = (torch.cat(part).transpose(1, 2) for part in zip(*parts, strict=True))
    return mask, dice


def _costs(
    masks: Masks, images: slice, members: Tensor, counted: Tensor | None, num_segments: int, kind: str
) -> tuple[Tensor, Tensor]:
    """Costs (b, M, n) of some images, transposed because sums over rows are faster.

    Args:
        masks: masks of the batch.
        images: the images.
        members: segments of the pixels of these images, see `_members`.
        counted: likewise.
        num_segments: M.
        kind: see `pairwise_mask_costs`.
    """
    batch, queries, pixels = len(members), masks.num_queries, members.shape[-1]
    step = max(FEWEST_PIXELS, chunk_rows(batch * queries, members.device))
    sums = at_least_float32(masks.like.new_zeros(0))
    prob_sum, negative_sum = sums.new_zeros(2, batch, 1, queries)
    # With an index per pixel, an additional row collects pixels without a segment.
    overlap, gain = sums.new_zeros(2, batch, num_segments + (members.dim() == 2), queries)
    for position, logits in enumerate(masks.pixel_chunks(images, step)):
        part = slice(position * step, (position + 1) * step)
        member = members[..., part].to(logits.dtype) if members.dim() == 3 else members[..., part]
        weight = None if counted is None else counted[:, None, part].to(logits.dtype)
        probs = logits.sigmoid()
        log_probs = log_sigmoid(logits, probs)
        _add_to_segments(overlap, probs, member)
        _add_to_all(prob_sum, probs, weight)
        negative, change = _negative_and_change(logits, probs, log_probs, kind)
        _add_to_all(negative_sum, negative, weight)
        _add_to_segments(gain, change, member)
    of_negative, of_gain = (1, 1) if kind == 'bce' else (1 - FOCAL_ALPHA, FOCAL_ALPHA)
    mask = of_negative * negative_sum - of_gain * gain[:, :num_segments]
    mask /= pixels if counted is None else counted.sum(1).clamp(min=1)[:, None, None]
    return mask, dice_from_sums(overlap[:, :num_segments], prob_sum, _areas(members, num_segments)[:, :, None])


def _negative_and_change(logits: Tensor, probs: Tensor, log_probs: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Loss of each element for a pixel outside the segment, and the difference for one inside; each up to a factor.

    All arguments are overwritten.
    """
    if kind == 'bce':
        return log_probs.neg_().add_(logits), logits
    negative = logits.sub_(log_probs).mul_(probs).mul_(probs)  # p^2 * -log(1 - p)
    error = torch.sub(1, probs, out=probs)
    # Inside it is alpha * (1 - p)^2 * -log p instead of (1 - alpha) * p^2 * -log(1 - p).
    return negative, log_probs.mul_(error).mul_(error).add_(negative, alpha=1 / FOCAL_ALPHA - 1)


def _members(targets: Targets, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """The segment of each pixel of a grid, and the pixels that count.

    Returns:
        members: (B, P) int64, the index of the segment, or the largest M for none, if no segments overlap and sums over
            an index are fast; else (B, M, P) bool.
        counted: (B, P) bool; None if all count.
    """
    most = max(targets.counts)
    if targets.segment_maps is None:
        masks = torch.nn.utils.rnn.pad_sequence(targets.own_masks.split(list(targets.counts)), batch_first=True)
        counted = targets.counted
        counted = None if counted is None else sample_nearest(counted, size).flatten(1)
        return sample_nearest(masks, size).flatten(2), counted
    index = sample_nearest(targets.segment_maps, size).flatten(1).long()
    counted = index != IGNORED if targets.leave_out_ignored else None
    if index.device.type != 'cpu':  # there, sums over an index are atomic: slow and not reproducible
        return index[:, None] == torch.arange(most, device=index.device)[:, None], counted
    return torch.where(index < 0, most, index), counted


def _add_to_segments(sums: Tensor, values: Tensor, member: Tensor) -> None:
    """Add values to the sum of their segment.

    Args:
        sums: (B, rows, n), changed; a row per segment, and with indices one more.
        values: (B, p, n).
        member: see `_members`, of the same pixels; masks are of the dtype of the values.
    """
    if member.dim() == 3:
        sums.baddbmm_(member, values)
    else:
        row = member + torch.arange(len(sums))[:, None] * sums.shape[1]
        sums.flatten(0, 1).index_add_(0, row.flatten(), values.flatten(0, 1))


def _add_to_all(sums: Tensor, values: Tensor, weight: Tensor | None) -> None:
    """Add values (B, p, n) of all pixels, or of those with a weight (B, 1, p) of 1, to sums (B, 1, n)."""
    if weight is None:
        sums += values.sum(1, keepdim=True)
    else:
        sums.baddbmm_(weight, values)


def _areas(members: Tensor, num_segments: int) -> Tensor:
    """Pixels (B, M) int64 of every segment."""
    if members.dim() == 3:
        return members.sum(2)
    areas = members.new_zeros(len(members), num_segments + 1)
    return areas.scatter_add_(1, members, torch.ones_like(members))[:, :num_segments]


def _plain_costs(masks: Masks, targets: Targets, kind: str) -> tuple[Tensor, Tensor]:
    """Costs from the equations, segment by segment."""
    costs = at_least_float32(masks.like).new_zeros(2, len(targets), masks.num_queries, max(targets.counts))
    counted = targets.counted
    for image, target in enumerate(targets):
        logits = at_least_float32(masks.logits(image)).flatten(1)
        of_image = torch.ones_like(logits[0], dtype=torch.bool)
        if counted is not None:
            of_image = sample_nearest(counted[image], masks.size).flatten()
        for segment, mask in enumerate(sample_nearest(target.all_masks(), masks.size).flatten(1)):
            costs[:, image, :, segment] = torch.stack(equations.mask_losses(logits, mask, of_image, kind))
    return costs[0], costs[1]
