"""Panoptic inference with tensors of fixed sizes, for graphs."""

from typing import NamedTuple

import torch
from torch import Tensor


class SegmentTable(NamedTuple):
    """The segments of a batch; row i of an image's table is segment i + 1 of its map.

    Attributes:
        segment_ids: (B, H, W) int32, 0 for void.
        labels: (B, Q) int32 class of each segment, -1 in rows without a segment.
        scores: (B, Q) float class probability, 0 in rows without a segment.
        valid: (B, Q) bool, whether the row has a segment; the first rows have.
    """

    segment_ids: Tensor
    labels: Tensor
    scores: Tensor
    valid: Tensor


def fixed_panoptic_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    inside: Tensor,
    *,
    is_thing: Tensor,
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> SegmentTable:
    """Like `mmmaskformer.core.inference.panoptic.panoptic_inference`, for a batch and with fixed tensor sizes.

    All Q queries are kept; those that are not confident never win a pixel. This takes several times (B, Q, H, W) of
    memory.

    Args:
        class_logits: (B, Q, K + 1) float.
        mask_logits: (B, Q, H, W) float at the padded input size.
        inside: (H, W) bool, False in the padding.
        is_thing: (K,) bool.
        object_threshold: class probabilities must be above it.
        overlap_threshold: least ratio of the pixels won to the pixels where the query's mask is at least one half.

    Returns:
        The segments; values in the padding are undefined.
    """
    scores, labels = class_logits.float().softmax(-1).max(-1)
    confident = (labels != is_thing.shape[0]) & (scores > object_threshold)
    mask_probs = mask_logits.float().sigmoid()
    own_area = ((mask_probs >= 0.5) & inside).sum((2, 3), dtype=torch.int32)
    fit = torch.where(confident[..., None, None], mask_probs * scores[..., None, None], -1.0)
    winner = fit.argmax(1)
    number = torch.arange(class_logits.shape[1], device=labels.device)
    area = ((winner[:, None] == number[:, None, None]) & inside).sum((2, 3), dtype=torch.int32)
    accepted = confident & (area > 0) & (own_area > 0) & (area.double() / own_area.double() >= overlap_threshold)
    segment_of_query, starts = _join_stuff(labels, accepted, is_thing)
    segment_ids = segment_of_query.gather(1, winner.flatten(1)).view(winner.shape)
    return SegmentTable(segment_ids.to(torch.int32), *_table(starts, labels, scores))


def _join_stuff(labels: Tensor, accepted: Tensor, is_thing: Tensor) -> tuple[Tensor, Tensor]:
    """Segment (B, Q) int64 of each query, 0 for none; and which queries (B, Q) bool are the first of a segment."""
    number = torch.arange(labels.shape[1], device=labels.device)
    alone = torch.cat([is_thing, is_thing.new_zeros(1)])[labels]  # "no object" is never accepted
    group = torch.where(alone, is_thing.shape[0] + 1 + number, labels)
    together = (group[:, :, None] == group[:, None, :]) & accepted[:, None, :]
    first = together.to(torch.int32).argmax(-1)
    starts = accepted & (first == number)
    return starts.long().cumsum(1).gather(1, first) * accepted.long(), starts


def _table(starts: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, scores and validity (B, Q) of the segments, moved to the first rows."""
    number = torch.arange(labels.shape[1], device=labels.device)
    rank = starts.long().cumsum(1) - 1
    valid = number <= rank[:, -1:]
    query = ((rank[:, None, :] == number[:, None]) & starts[:, None, :]).to(torch.int32).argmax(-1)
    labels = torch.where(valid, labels.gather(1, query), -1).to(torch.int32)
    return labels, torch.where(valid, scores.gather(1, query), 0.0), valid
