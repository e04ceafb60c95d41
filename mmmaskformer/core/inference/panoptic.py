"""Panoptic inference: assigns every pixel to one confident query, and queries to segments."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.core.inference.checks import checked_inference
from mmmaskformer.core.inference.queries import assign_pixels, confident_queries
from mmmaskformer.core.inference.query_masks import CHUNK_ELEMENTS, QueryMasks
from mmmaskformer.core.segments import VOID, Segments


class QuerySegments(NamedTuple):
    """An intermediate form of `Segments`: a row per confident query, whether it became a segment or not.

    The number of segments depends on the pixels, the number of rows only on the class logits, so code that works with
    rows does not synchronise with the GPU.

    Attributes:
        ids: (H, W) int32; i + 1 for the i-th row that starts a segment, or `VOID`.
        labels: (n,) int64 class of each query.
        scores: (n,) float, its probability.
        starts: (n,) bool, whether the query starts a new segment; False for dropped and joined ones.
    """

    ids: Tensor
    labels: Tensor
    scores: Tensor
    starts: Tensor

    @classmethod
    def of(cls, segments: 'QuerySegments | Segments[Tensor]') -> 'QuerySegments':
        """The rows of segments with scores and ids 1 to S; rows are returned unchanged."""
        if isinstance(segments, QuerySegments):
            return segments
        assert segments.scores is not None and segments.listed_ids is None
        starts = torch.ones_like(segments.labels, dtype=torch.bool)
        return cls(segments.ids, segments.labels, segments.scores, starts)

    def compact(self) -> Segments[Tensor]:
        """The rows that became segments; synchronises with a GPU."""
        return Segments(self.ids, self.labels[self.starts], self.scores[self.starts])

    def painted(self, values: Tensor, void: int) -> Tensor:
        """Map (H, W) of a value (n,) per row, with another one for void."""
        table = values.new_full((len(values) + 1,), void)
        number = self.starts.cumsum(0) * self.starts  # rows without a segment write to void
        return table.scatter_(0, number, torch.where(self.starts, values, void))[self.ids]


@checked_inference
def panoptic_inference(
    class_logits: Tensor,
    masks: QueryMasks,
    *,
    is_thing: Tensor,
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> Segments[Tensor]:
    """Panoptic segmentation of one image.

    Confident queries compete for each pixel with class probability times mask probability. A query keeps the pixels
    that it won, even where its own mask is below one half, unless it won too small a part of its own mask; the pixels
    of such a query become void. Stuff queries of one class become one segment, at the position of the first of them.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        is_thing: (K,) bool.
        object_threshold: class probabilities must be above it: 0.8 is published for COCO, 0.7 for ADE20K.
        overlap_threshold: least ratio of the pixels won to the pixels where the query's mask is at least one half.

    Returns:
        Segments in query order, ids int32. Only confident queries are multiplied out, a few at a time.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 3.3 (general inference); official code, MaskFormer.panoptic_inference.
    """
    return panoptic_query_segments(
        class_logits,
        masks,
        is_thing=is_thing,
        object_threshold=object_threshold,
        overlap_threshold=overlap_threshold,
    ).compact()


def panoptic_query_segments(
    class_logits: Tensor,
    masks: QueryMasks,
    *,
    is_thing: Tensor,
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> QuerySegments:
    """Like `panoptic_inference`, in rows; only the selection of confident queries synchronises with a GPU."""
    query_idx, labels, scores = confident_queries(class_logits, object_threshold)
    if not len(query_idx):
        return QuerySegments.of(nothing_found(masks.out_size, scores))
    winner, own_area = assign_pixels(masks, query_idx, scores)
    return join_segments(winner, own_area, labels, scores, is_thing=is_thing, overlap_threshold=overlap_threshold)


def join_segments(
    winner: Tensor, own_area: Tensor, labels: Tensor, scores: Tensor, *, is_thing: Tensor, overlap_threshold: float
) -> QuerySegments:
    """Drop queries that lost too much of their mask, and join stuff queries of one class.

    Args:
        winner: (H, W) int64, the query that won each pixel, in [0, n).
        own_area: (n,) pixels where each query's own mask probability is at least one half.
        labels: (n,) int64.
        scores: (n,) float.
        is_thing: (K,) bool.
        overlap_threshold: see `panoptic_inference`.
    """
    accepted = keep_enough(winner, own_area, overlap_threshold)
    group = segment_groups(labels, is_thing)
    together = (group[:, None] == group) & accepted
    first = together.to(torch.uint8).argmax(1)
    starts = accepted & (first == torch.arange(len(labels), device=labels.device))
    segment_of_query = starts.cumsum(0)[first] * accepted
    return QuerySegments(segment_of_query.to(torch.int32)[winner], labels, scores, starts)


def segment_groups(labels: Tensor, is_thing: Tensor) -> Tensor:
    """Numbers (n,) int64, equal for queries that form one segment: each thing has its own, stuff is grouped by class.

    Args:
        labels: (n,) int64.
        is_thing: (K,) bool.
    """
    number = torch.arange(len(labels), device=labels.device)
    return torch.where(is_thing[labels], len(is_thing) + number, labels)


def keep_enough(winner: Tensor, own_area: Tensor, overlap_threshold: float) -> Tensor:
    """Which queries (n,) bool kept enough of their own mask; arguments as in `join_segments`."""
    area = count_pixels(winner, len(own_area))
    return (area > 0) & (own_area > 0) & (area.double() / own_area >= overlap_threshold)


def count_pixels(winner: Tensor, num_queries: int) -> Tensor:
    """Pixels (n,) int64 that each of n queries won in (H, W) int64; does not synchronise with a GPU."""
    if winner.device.type == 'cpu':
        return torch.bincount(winner.flatten(), minlength=num_queries)
    numbers = torch.arange(num_queries, device=winner.device)
    step = max(1, CHUNK_ELEMENTS['cuda'] // winner.numel())
    return torch.cat([(winner == part[:, None, None]).sum((1, 2)) for part in numbers.split(step)])


def nothing_found(size: tuple[int, int], scores: Tensor) -> Segments[Tensor]:
    """A void result without segments, of size (H, W); ``scores`` determines device and dtype."""
    ids = torch.full(size, VOID, dtype=torch.int32, device=scores.device)
    return Segments(ids, scores.new_zeros(0, dtype=torch.long), scores.new_zeros(0))


@checked_inference
def general_inference(
    class_logits: Tensor, masks: QueryMasks, *, object_threshold: float = 0.3, overlap_threshold: float = 0.0
) -> Tensor:
    """Semantic segmentation by general inference: panoptic inference in which every class is stuff.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        object_threshold: class probabilities must be above it; 0.3 is published.
        overlap_threshold: see `panoptic_inference`; 0 keeps every segment with a pixel.

    Returns:
        (H, W) int64 labels; K ("no object") for pixels without a segment.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 3.3 and appendix (semantic against general inference).
    """
    num_classes = class_logits.shape[1] - 1
    all_stuff = torch.zeros(num_classes, dtype=torch.bool, device=class_logits.device)
    segments = panoptic_query_segments(
        class_logits,
        masks,
        is_thing=all_stuff,
        object_threshold=object_threshold,
        overlap_threshold=overlap_threshold,
    )
    return segments.painted(segments.labels, num_classes)
