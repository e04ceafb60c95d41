"""Panoptic inference over several views of one image, such as scaled and mirrored ones.

Queries of different views do not correspond, so class and mask probabilities cannot be averaged query by query.
Segments correspond: stuff by its class, things by class and position. The segments of all views are pooled before they
compete for the pixels.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmmaskformer.core.inference.panoptic import (
    QuerySegments,
    join_segments,
    keep_enough,
    nothing_found,
    segment_groups,
)
from mmmaskformer.core.inference.queries import assign_pixels, confident_queries
from mmmaskformer.core.inference.query_masks import QueryMasks

MIN_IOU = 0.5
"""Things of two views are the same segment if the IoU of their masks is above this."""


class SegmentPool:
    """Collects the segments of the views of one image, one view at a time.

    A pooled segment's mask probability is the mean over the views that have it, its class probability the mean over
    all views, with 0 where it is missing. Memory: one map of the output size per segment, for any number of views.

    Args:
        is_thing: (K,) bool.
        object_threshold: as in `panoptic_inference`, for the segments of a view; pooled segments must have more than
            half of it, so that a segment is not lost because a few views miss it.
        overlap_threshold: as in `panoptic_inference`, for the segments of a view and for pooled ones.

    Attributes:
        num_views: views added.
        labels: (S,) int64 class of each pooled segment.
        scores: (S,) float, sum of the class probabilities.
        counts: (S,) float, number of views that have it.
        masks: (S, H, W) float, sum of the mask probabilities; None before the first view.

    Source: ours; the paper augments semantic inference only.
    """

    def __init__(self, *, is_thing: Tensor, object_threshold: float = 0.8, overlap_threshold: float = 0.8):
        self.is_thing = is_thing
        self.object_threshold = object_threshold
        self.overlap_threshold = overlap_threshold
        self.num_views = 0
        self.labels = torch.zeros(0, dtype=torch.long, device=is_thing.device)
        self.scores = self.counts = torch.zeros(0, device=is_thing.device)
        self.masks: Tensor | None = None

    def add(self, class_logits: Tensor, masks: QueryMasks) -> None:
        """Pool one more view.

        Args:
            class_logits: (Q, K + 1) float.
            masks: masks of the same Q queries; ``out_size`` must be equal in all views.
        """
        labels, scores, probs = self._segments_of_view(class_logits, masks)
        pool = self.masks
        if pool is None:
            pool = probs.new_zeros(0, *masks.out_size)
            self.scores = self.counts = scores.new_zeros(0)
        pooled = self._correspond(labels, probs, pool)
        known, new = pooled >= 0, pooled < 0
        self.scores = torch.cat([self.scores.index_add(0, pooled[known], scores[known]), scores[new]])
        self.counts = torch.cat([self.counts.index_add(0, pooled[known], torch.ones_like(scores[known])),
                                 torch.ones_like(scores[new])])  # fmt: skip
        self.masks = torch.cat([pool.index_add_(0, pooled[known], probs[known]), probs[new]])
        self.labels = torch.cat([self.labels, labels[new]])
        self.num_views += 1

    def result(self) -> QuerySegments:
        """The segments of the views added so far, with their mean class probabilities, in rows as for a single view.

        Raises:
            RuntimeError: if no view was added.
        """
        if self.masks is None:
            raise RuntimeError('SegmentPool has no views, expected at least one. Fix: call add before result')
        scores = self.scores / self.num_views
        kept = scores > self.object_threshold / 2
        if not kept.any():
            return QuerySegments.of(nothing_found((self.masks.shape[1], self.masks.shape[2]), scores))
        labels, scores = self.labels[kept], scores[kept]
        probs = self.masks[kept] / self.counts[kept, None, None]
        own_area = (probs >= 0.5).flatten(1).sum(1)
        winner = probs.mul_(scores[:, None, None]).argmax(0)
        return join_segments(
            winner, own_area, labels, scores, is_thing=self.is_thing, overlap_threshold=self.overlap_threshold
        )

    def _segments_of_view(self, class_logits: Tensor, masks: QueryMasks) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (n,), class probabilities (n,) and mask probabilities (n, H, W) of the segments of one view."""
        query_idx, labels, scores = confident_queries(class_logits, self.object_threshold)
        if len(query_idx):
            kept = keep_enough(*assign_pixels(masks, query_idx, scores), self.overlap_threshold)
            query_idx, labels, scores = query_idx[kept], labels[kept], scores[kept]
        probs = masks.logits(query_idx).sigmoid_()
        # Stuff queries of one class become one segment, with the largest of their probabilities.
        keys, group = segment_groups(labels, self.is_thing).unique(return_inverse=True)
        joined = probs.new_zeros(len(keys), *probs.shape[1:])
        joined.scatter_reduce_(0, group[:, None, None].expand_as(probs), probs, 'amax')
        best = scores.new_zeros(len(keys)).scatter_reduce_(0, group, scores, 'amax')
        return labels.new_zeros(len(keys)).index_copy_(0, group, labels), best, joined

    def _correspond(self, labels: Tensor, probs: Tensor, masks: Tensor) -> Tensor:
        """Position (n,) int64 of each segment of a view among the pooled masks, -1 for new ones."""
        pool = (masks >= 0.5 * self.counts[:, None, None]).flatten(1).to(probs.dtype)
        view = (probs >= 0.5).flatten(1).to(probs.dtype)
        both = view @ pool.T
        overlap = both / (view.sum(1, keepdim=True) + pool.sum(1) - both).clamp(min=1)
        overlap[~self.is_thing[labels]] = 1
        overlap *= labels[:, None] == self.labels
        rows, columns = linear_sum_assignment(overlap.cpu().numpy(), maximize=True)
        pairs = torch.from_numpy(columns).to(labels.device)
        rows = torch.from_numpy(rows).to(labels.device)
        position = torch.full_like(labels, -1)
        position[rows] = torch.where(overlap[rows, pairs] > MIN_IOU, pairs, -1)
        return position
