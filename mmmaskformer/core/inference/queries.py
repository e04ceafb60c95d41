"""Selection of confident queries, and assignment of pixels to them."""

import torch
from torch import Tensor

from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.numerics import at_least_float32


def confident_queries(class_logits: Tensor, object_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The confident queries: the best class is not "no object" and its probability is above a threshold.

    Args:
        class_logits: (Q, K + 1) float.
        object_threshold: the probability must be above it.

    Returns:
        (query_idx, labels, scores): (n,) int64, int64 and float, query_idx ascending.
    """
    scores, labels = at_least_float32(class_logits).softmax(-1).max(-1)
    query_idx = ((labels != class_logits.shape[1] - 1) & (scores > object_threshold)).nonzero()[:, 0]
    return query_idx, labels[query_idx], scores[query_idx]


def highest_class_probability(class_logits: Tensor) -> Tensor:
    """Highest probability of a class other than "no object" over all queries, a scalar tensor."""
    return at_least_float32(class_logits).softmax(-1)[:, :-1].max()


def assign_pixels(masks: QueryMasks, query_idx: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
    """Assign every pixel to the best query; the first one wins a tie.

    Args:
        masks: masks of the image.
        query_idx: (n,) int64, the competing queries; at least one.
        scores: (n,) float, factors of the mask probabilities; None compares the mask logits instead.

    Returns:
        (winner, own_area): (H, W) int64 position in ``query_idx``; (n,) int64 number of pixels where the query's own
        mask probability is at least one half.
    """
    best: Tensor | None = None
    winner: Tensor | None = None
    own_areas = []
    for start, values in masks.chunks(query_idx):
        if scores is not None:
            values = values.sigmoid_()
        own_areas.append((values >= (0 if scores is None else 0.5)).flatten(1).sum(1))
        if scores is not None:
            values *= scores[start : start + len(values), None, None]
        value, index = values.max(0)
        if best is None or winner is None:
            best, winner = value, index
        else:
            winner = torch.where(value > best, index + start, winner)
            best = torch.maximum(value, best)
    assert winner is not None, 'at least one query takes part'
    return winner, torch.cat(own_areas)
