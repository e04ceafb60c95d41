"""How a matcher chooses pairs of queries and true segments from their costs."""

import warnings

from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmmaskformer.core.structures import Matches, Targets


class HungarianAssignment:
    """The pairs of the smallest sum of costs; as published.

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
                f'{num_queries} are matched and the others are not learnt. Fix: set num_queries to at '
                f'least {most}.',
                stacklevel=2,
            )
