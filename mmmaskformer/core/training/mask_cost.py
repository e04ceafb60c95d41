"""Focal and dice loss of every query against every segment, from the factors of the mask logits.

The matcher needs two sums over the pixels of each segment and two over all pixels. The logits are made for some pixels
at a time, one logarithm serves both cases of the focal loss, and nothing of the size of the mask logits is kept.
"""

import torch
from torch import Tensor

from mmmaskformer.core.numerics import log_sigmoid
from mmmaskformer.core.structures import MaskTarget, sample_nearest
from mmmaskformer.core.training.losses import FOCAL_ALPHA, chunk_rows, dice_from_sums

FEWEST_PIXELS = 256
"""Pixels that a chunk should have at least, so that its matrix product is efficient."""


def pairwise_mask_costs(
    mask_embed: Tensor, mask_features: Tensor, targets: list[MaskTarget], kind: str = 'focal'
) -> tuple[Tensor, Tensor]:
    """Mask and dice loss of all queries against all segments of their image, on the grid of the features.

    Args:
        mask_embed: (B, n, C) float32 or float64, the queries of all layers.
        mask_features: (B, C, h, w) of the same dtype.
        targets: B targets of one size, in pixels.
        kind: one of `MASK_LOSSES`.

    Returns:
        (mask, dice): (B, n, M) each, with M the most segments of an image; what is beyond an image's own number has
        no meaning. The first is the mean over the h * w pixels. Gradients are not defined.

    Raises:
        ValueError: if the targets differ in size.

    Source: paper, section 4.1; official code, batch_sigmoid_focal_loss and batch_dice_loss of the matcher.
    """
    members = _members(targets, tuple(mask_features.shape[-2:]))
    images = chunk_rows(mask_embed.shape[1] * FEWEST_PIXELS, mask_embed.device)
    most = max(target.num_segments for target in targets)
    parts = [
        _costs(*factors, most, kind)
        for factors in zip(mask_embed.split(images), mask_features.split(images), members.split(images), strict=True)
    ]
    mask, dice = (torch.cat(part).transpose(1, 2) for part in zip(*parts, strict=True))
    return mask, dice


def _costs(
    mask_embed: Tensor, mask_features: Tensor, members: Tensor, num_segments: int, kind: str
) -> tuple[Tensor, Tensor]:
    """Costs (B, M, n) of some images, transposed since sums over rows are the fast ones."""
    embed = mask_embed.transpose(1, 2)
    features = mask_features.flatten(2)
    step = max(FEWEST_PIXELS, chunk_rows(len(embed) * embed.shape[2], embed.device))
    prob_sum, negative_sum = mask_embed.new_zeros(2, len(embed), 1, embed.shape[2])
    # With an index per pixel, one more row takes what is in no segment.
    overlap, gain = mask_embed.new_zeros(2, len(embed), num_segments + (members.dim() == 2), embed.shape[2])
    for part, member in zip(features.split(step, 2), members.split(step, -1), strict=True):
        logits = part.transpose(1, 2) @ embed
        probs = logits.sigmoid()
        log_probs = log_sigmoid(logits, probs)
        member = member.to(logits.dtype) if member.dim() == 3 else member
        _add_to_segments(overlap, probs, member)
        prob_sum += probs.sum(1, keepdim=True)
        negative, change = _negative_and_change(logits, probs, log_probs, kind)
        negative_sum += negative.sum(1, keepdim=True)
        _add_to_segments(gain, change, member)
    of_negative, of_gain = (1, 1) if kind == 'bce' else (1 - FOCAL_ALPHA, FOCAL_ALPHA)
    mask = (of_negative * negative_sum - of_gain * gain[:, :num_segments]) / features.shape[2]
    return mask, dice_from_sums(overlap[:, :num_segments], prob_sum, _areas(members, num_segments)[:, :, None])


def _negative_and_change(logits: Tensor, probs: Tensor, log_probs: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Loss of each element if its pixel is outside of the segment, and what less it is inside; each up to a factor.

    The arguments are overwritten.
    """
    if kind == 'bce':
        return log_probs.neg_().add_(logits), logits
    negative = logits.sub_(log_probs).mul_(probs).mul_(probs)  # p^2 * -log(1 - p)
    error = torch.sub(1, probs, out=probs)
    # Inside it is alpha * (1 - p)^2 * -log p instead of (1 - alpha) * p^2 * -log(1 - p).
    return negative, log_probs.mul_(error).mul_(error).add_(negative, alpha=1 / FOCAL_ALPHA - 1)


def _members(targets: list[MaskTarget], size: tuple[int, int]) -> Tensor:
    """Which segment each pixel of that grid belongs to.

    Returns:
        If no segments overlap, and sums over an index are fast: (B, P) int64, the index of the segment or the largest
        M for none. Else (B, M, P) bool.
    """
    sizes = {target.size for target in targets}
    if len(sizes) > 1:
        raise ValueError(f'the targets of a batch have the sizes {sorted(sizes)}; expected one. Fix: pad them')
    most = max(target.num_segments for target in targets)
    if any(target.segment_map is None for target in targets):
        padded = torch.nn.utils.rnn.pad_sequence([target.all_masks() for target in targets], batch_first=True)
        return sample_nearest(padded, size).flatten(2)
    index = sample_nearest(torch.stack([target.segment_map for target in targets]), size).flatten(1).long()
    if index.device.type != 'cpu':  # there sums over an index are atomic: slow, and different in every run
        return index[:, None] == torch.arange(most, device=index.device)[:, None]
    return torch.where(index < 0, most, index)


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


def _areas(members: Tensor, num_segments: int) -> Tensor:
    """Pixels (B, M) int64 of every segment."""
    if members.dim() == 3:
        return members.sum(2)
    areas = members.new_zeros(len(members), num_segments + 1)
    return areas.scatter_add_(1, members, torch.ones_like(members))[:, :num_segments]
