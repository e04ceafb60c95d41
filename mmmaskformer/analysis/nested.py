"""Assignment of pixels to queries for descending object thresholds: each set of confident queries contains the last."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.analysis.stored import StoredPrediction
from mmmaskformer.core.inference.queries import confident_queries


class Assignment(NamedTuple):
    """The pixels of an image assigned to n confident queries, as by `assign_pixels`, with labels and scores.

    Attributes:
        labels: (n,) int64.
        scores: (n,) float.
        winner: (H, W) int64 in [0, n); None if n is 0.
        own_area: (n,) int64, pixels where each query's own mask probability is at least one half.
    """

    labels: Tensor
    scores: Tensor
    winner: Tensor | None
    own_area: Tensor


def nested_assignments(prediction: StoredPrediction, object_thresholds: Sequence[float]) -> Iterator[Assignment]:
    """Assign the pixels of an image at each threshold; every mask is resized only once.

    Each threshold adds queries to those of the previous one, so only the masks of the new queries are compared with the
    best so far. As in `assign_pixels`, the first query in query order wins a tie.

    Args:
        prediction: stored at the lowest threshold or below it.
        object_thresholds: in descending order.
    """
    masks, logits = prediction.query_masks(), prediction.class_logits
    own_area = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    is_done = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    best: Tensor | None = None
    winner: Tensor | None = None
    for threshold in object_thresholds:
        queries, labels, scores = confident_queries(logits, threshold)
        is_new = ~is_done[queries]
        new, new_scores = queries[is_new], scores[is_new]
        for start, values in masks.chunks(new):
            part = slice(start, start + len(values))
            values = values.sigmoid_()
            own_area[new[part]] = (values >= 0.5).flatten(1).sum(1)
            value, index = (values * new_scores[part, None, None]).max(0)
            index = new[part][index]
            if best is None or winner is None:
                best, winner = value, index
            else:
                better = (value > best) | ((value == best) & (index < winner))
                best, winner = torch.maximum(value, best), torch.where(better, index, winner)
        is_done[queries] = True
        place = torch.cumsum(is_done, 0) - 1  # position of a stored query among the confident ones
        yield Assignment(labels, scores, None if winner is None else place[winner], own_area[queries])
