"""Assignments: the choice of pairs of queries and true segments from their costs."""

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.structures import Targets


class HungarianAssignment:
    """The pairs with the smallest sum of costs, as published.

    With more segments than queries, the Q best pairs are chosen and a warning is logged once.

    Attributes:
        uses_costs: see `core.contracts.Assignment`.

    Source: paper, section 3.2 (bipartite matching); official code, HungarianMatcher.
    """

    uses_costs = True

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, costs: Tensor, targets: Targets) -> Matches:
        """Choose min(Q, M) pairs of each layer and image; see `core.contracts.Assignment`."""
        self._warn_if_queries_are_few(costs.shape[2], max(targets.counts))
        return Matches.of(
            [
                [linear_sum_assignment(cost[:, :count]) for cost, count in zip(layer, targets.counts, strict=True)]
                for layer in costs.numpy()
            ]
        )

    def _warn_if_queries_are_few(self, num_queries: int, most: int) -> None:
        if most > num_queries and not self._warned:
            self._warned = True
            warnings.warn(
                f'an image has {most} segments but the model only {num_queries} queries: the best '
                f'{num_queries} are matched and the others are not trained. Fix: set num_queries to at '
                f'least {most}.',
                stacklevel=2,
            )


@checked(num_queries=whole(1).or_none(), num_classes=whole(1).or_none())
class FixedAssignment:
    """Matches the segment of class k to query k, regardless of its prediction: MaskFormer-fixed of the paper.

    Args:
        num_queries: Q; derived by a head, like ``num_classes``.
        num_classes: K.

    Attributes:
        uses_costs: see `core.contracts.Assignment`.

    Raises:
        ValueError: if both are given and differ.

    Source: paper, section 3.2 (fixed matching) and table 4.
    """

    uses_costs = False

    def __init__(self, *, num_queries: int | None = None, num_classes: int | None = None) -> None:
        if num_queries is not None and num_classes is not None and num_queries != num_classes:
            raise ValueError(
                f'fixed matching needs one query per class, found num_queries={num_queries} and '
                f'num_classes={num_classes}. Fix: set num_queries={num_classes}'
            )

    def __call__(self, costs: Tensor, targets: Targets) -> Matches:
        """Choose the pairs of each layer and image; see `core.contracts.Assignment`.

        Raises:
            ValueError: if an image has two segments of a class, or there are fewer queries than classes.
        """
        num_layers, _, num_queries, _ = costs.shape
        labels = np.split(targets.labels.cpu().numpy(), targets.starts[1:])
        for image, of_image in enumerate(labels):
            found, counts = np.unique(of_image, return_counts=True)
            if (counts > 1).any():
                raise ValueError(
                    f'image {image} of the batch has {counts.max()} segments of class {found[counts.argmax()]}; fixed '
                    'matching takes one per class, as in semantic segmentation. Fix: match panoptic and instance '
                    "segments with type='mmmaskformer.HungarianMatcher'"
                )
            if len(found) and found[-1] >= num_queries:
                raise ValueError(
                    f'fixed matching needs one query per class, found class {found[-1]} and {num_queries} queries. '
                    'Fix: set num_queries to num_classes'
                )
        pairs = [(np.sort(of_image), of_image.argsort()) for of_image in labels]
        return Matches.of([pairs] * num_layers)
