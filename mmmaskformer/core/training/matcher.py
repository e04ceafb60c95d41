"""Matching of queries and true segments: a list of costs, and an assignment that chooses pairs from their sum."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import WEIGHT, checked, mapping_of, whole
from mmmaskformer.core.contracts import Assignment
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.numerics import NonFiniteLogitsError, at_least_float32
from mmmaskformer.core.shapes import check_same_device
from mmmaskformer.core.structures import Layers, MaskPrediction, MaskTarget, Targets
from mmmaskformer.core.training.assignment import FixedAssignment, HungarianAssignment
from mmmaskformer.core.training.boxes import BoxCost
from mmmaskformer.core.training.parts import (
    ClassCost,
    Cost,
    FocalDiceLoss,
    MaskLoss,
    checked_weights,
    named_values,
    require_names,
    require_part,
)
from mmmaskformer.core.training.targets import check_labels, check_segments


@checked(weights=mapping_of(WEIGHT).or_none(), loss_weights=mapping_of(WEIGHT).or_none())
class SetMatcher(nn.Module):
    """Matching by a weighted sum of costs and an assignment that chooses pairs from it.

    Args:
        assignment: chooses the pairs.
        costs: the parts of the cost; None for the classification cost and the costs that correspond to the mask loss,
            or for no costs if the assignment uses none.
        weights: weights of costs that differ from ``loss_weights``, by name.
        loss_weights: weights of the losses, by name; a head derives them from the criterion. The published ones by
            default.
        mask_loss: the mask loss of the criterion, likewise; `FocalDiceLoss` if None.

    Raises:
        TypeError: if the assignment or a cost does not have the interface of one.
        ValueError: if ``weights`` names an unknown cost, or costs are given to an assignment that uses none.

    Source: paper, section 3.2 (matching) and the ablation of matchings, table 4.
    """

    def __init__(
        self,
        *,
        assignment: Assignment,
        costs: Sequence[Cost] | None = None,
        weights: Mapping[str, float] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        mask_loss: MaskLoss | None = None,
    ):
        super().__init__()
        if not callable(assignment) or not isinstance(getattr(assignment, 'uses_costs', None), bool):
            raise TypeError(
                f'matcher.assignment: found a {type(assignment).__name__}, expected an Assignment of '
                'mmmaskformer.core.contracts: callable, with uses_costs True or False'
            )
        require_part('matcher.mask_loss', mask_loss, MaskLoss)
        self.assignment = assignment
        given = [] if costs is None else costs
        if isinstance(given, Cost) or not all(isinstance(cost, Cost) for cost in given):
            found = type(given).__name__ if isinstance(given, Cost) else [type(cost).__name__ for cost in given]
            raise TypeError(
                f'matcher.costs: found {found}, expected a list of classes that derive from Cost of '
                'mmmaskformer.core.training.parts'
            )
        if costs is None:
            costs = [ClassCost(), (mask_loss or FocalDiceLoss()).matching_cost()] if assignment.uses_costs else []
        if bool(costs) != assignment.uses_costs:
            raise ValueError(
                f'matcher.costs: found {len(costs)}, but {type(assignment).__name__} uses '
                f'{"costs" if assignment.uses_costs else "none"}. Fix: leave costs out'
            )
        self.costs = nn.ModuleList(costs)
        for cost in costs:
            require_names(cost)
        names = tuple(name for cost in costs for name in cost.names)
        shared = {name: weight for name, weight in (loss_weights or {}).items() if name in names}
        self.weights = checked_weights(shared | dict(weights or {}), names, 'matcher.weights')

    @torch.no_grad()
    def forward(
        self, predictions: Layers | Sequence[MaskPrediction], targets: Targets | Sequence[MaskTarget]
    ) -> Matches:
        """Match every layer and image on its own.

        Args:
            predictions: predictions of L layers for B images.
            targets: targets of the B images, on any grid.

        Returns:
            The pairs that the assignment chooses.

        Raises:
            TypeError: if the assignment does not return `Matches`.
            NonFiniteLogitsError: if logits are inf or NaN; names layer and image.
            ValueError: if predictions and targets are inconsistent, a label is not in [0, K), a cost is inf or NaN
                though logits are not, or the assignment returns an invalid pair.
        """
        layers, targets = Layers.of(predictions), Targets.of(targets)
        _, batch, _, outputs = layers.class_logits.shape
        if len(targets) != batch:
            raise ValueError(f'there are {len(targets)} targets for {batch} images; expected one per image')
        check_same_device(targets, layers.device)
        check_segments(targets, outputs - 1)
        unknown = (targets.labels < 0) | (targets.labels >= outputs - 1)
        known = replace(targets, labels=targets.labels.clamp(0, outputs - 2))
        with torch.autocast(layers.device.type, enabled=False):
            # labels on a GPU are checked on the host, in the same copy as the costs
            costs = self._costs(layers, known).masked_fill_(unknown.any(), torch.nan).cpu()
        for image, count in enumerate(targets.counts):
            costs[:, image, :, count:-1] = 0  # undefined values may be inf or NaN
        try:
            _check_finite(costs, layers, targets)
        except NonFiniteLogitsError:
            self._refuse_costs(layers, targets)
            raise
        matches, name = self.assignment(costs[..., :-1], targets), type(self.assignment).__name__
        if not isinstance(matches, Matches):
            raise TypeError(f'{name} returned a {type(matches).__name__}; expected Matches')
        num_layers, _, num_queries, _ = costs.shape
        return matches.ordered(num_layers, num_queries, targets.counts, name)

    def _costs(self, layers: Layers, targets: Targets) -> Tensor:
        """Costs (L, B, Q, M + 1) of the whole batch, float32 or float64; M is the largest number of segments.

        The last column belongs to no segment. It reveals non-finite values that enter no cost, such as class logits of
        an image without segments, and boxes that are trained but not matched.
        """
        costs = cast('Iterable[Cost]', self.costs)  # a ModuleList is typed as a list of any modules
        shape = (*layers.class_logits.shape[:3], max(targets.counts))
        weighted = [
            self.weights[name] * values
            for cost in costs
            for name, values in named_values(cost, cost(layers, targets), shape, layers.device)
        ]
        of_no_segment = at_least_float32(layers.class_logits).sum(-1, keepdim=True)
        if not any(cost.uses_masks for cost in costs):
            of_no_segment = of_no_segment + _mask_sums(layers)
        if layers.boxes_cxcywh is not None:
            of_no_segment = of_no_segment + at_least_float32(layers.boxes_cxcywh).sum(-1, keepdim=True)
        if not weighted:
            weighted = [of_no_segment.new_zeros(()).expand(*of_no_segment.shape[:3], max(targets.counts))]
        return torch.cat([reduce(operator.add, weighted).expand(shape), of_no_segment], -1)

    def _refuse_costs(self, layers: Layers, targets: Targets) -> None:
        """Raise a ValueError that names a cost which is inf or NaN where all predictions are finite."""
        images = range(len(targets))
        logits = (masks.logits(image) for _, masks in layers.groups for image in images)
        boxes = [] if layers.boxes_cxcywh is None else [layers.boxes_cxcywh]
        if not all(x.isfinite().all() for x in (layers.class_logits, *boxes, *logits)):
            return
        for cost in cast('Iterable[Cost]', self.costs):
            for name, values in zip(cost.names, cost(layers, targets), strict=True):
                for image, count in enumerate(targets.counts):
                    of_image = values.expand(*layers.class_logits.shape[:3], -1)[:, image, :, :count]
                    if wrong := int((~of_image.isfinite()).sum()):
                        raise ValueError(
                            f'the matching cost {name!r} of {type(cost).__name__} is inf or NaN for {wrong} of '
                            f'{of_image.numel()} pairs of image {image} of the batch; expected finite values. Fix: '
                            'assign a large cost, such as 1e6, to pairs that must not be matched'
                        )

    @property
    def uses_boxes(self) -> bool:
        """Whether the network has to predict boxes."""
        return any(cost.uses_boxes for cost in cast('Iterable[Cost]', self.costs))


@checked(weights=mapping_of(WEIGHT).or_none(), loss_weights=mapping_of(WEIGHT).or_none())
class HungarianMatcher(SetMatcher):
    """Bipartite matching as published: the pairs with the smallest sum of class, focal and dice costs.

    Args:
        costs: see `SetMatcher`.
        weights: see `SetMatcher`.
        loss_weights: see `SetMatcher`.
        mask_loss: see `SetMatcher`.

    Raises:
        ValueError: if ``weights`` names an unknown cost.

    Source: paper, section 3.2 (bipartite matching) and 4.1; official code, HungarianMatcher.
    """

    def __init__(
        self,
        *,
        costs: Sequence[Cost] | None = None,
        weights: Mapping[str, float] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        mask_loss: MaskLoss | None = None,
    ):
        super().__init__(
            assignment=HungarianAssignment(),
            costs=costs,
            weights=weights,
            loss_weights=loss_weights,
            mask_loss=mask_loss,
        )


@checked(num_queries=whole(1).or_none(), num_classes=whole(1).or_none())
class FixedMatcher(SetMatcher):
    """Fixed matching: the segment of class k goes to query k; for semantic segmentation with Q = K.

    Args:
        num_queries: see `FixedAssignment`.
        num_classes: see `FixedAssignment`.

    Raises:
        ValueError: if the two are given and differ.

    Source: paper, section 3.2 and table 4 (MaskFormer-fixed).
    """

    def __init__(self, *, num_queries: int | None = None, num_classes: int | None = None):
        super().__init__(assignment=FixedAssignment(num_queries=num_queries, num_classes=num_classes))


@checked(weights=mapping_of(WEIGHT).or_none(), loss_weights=mapping_of(WEIGHT).or_none())
class BoxMatcher(SetMatcher):
    """Bipartite matching by class and box, as in DETR; the criterion then trains boxes as well.

    Args:
        weights: see `SetMatcher`.
        loss_weights: see `SetMatcher`.

    Raises:
        ValueError: if ``weights`` names an unknown cost.

    Source: paper, section 4.3 and table 5 (box-based matching); DETR, section 3.1.
    """

    def __init__(self, *, weights: Mapping[str, float] | None = None, loss_weights: Mapping[str, float] | None = None):
        super().__init__(
            assignment=HungarianAssignment(),
            costs=[ClassCost(), BoxCost()],
            weights=weights,
            loss_weights=loss_weights,
        )


def _mask_sums(layers: Layers) -> Tensor:
    """Sums (1, B, 1, 1) of all tensors from which the masks of an image are computed: inf or NaN if any value is."""
    batch = range(layers.class_logits.shape[1])
    sums = [
        torch.stack(
            [at_least_float32(part).sum() for _, masks in layers.groups for part in masks.parts(image).values()]
        )
        for image in batch
    ]
    return torch.stack(sums).sum(1)[None, :, None, None]


def _check_finite(costs: Tensor, layers: Layers, targets: Targets) -> None:
    wrong = (~costs.isfinite()).flatten(2).any(-1).nonzero()
    if len(wrong):
        check_labels(targets.labels, layers.class_logits.shape[3] - 1)
        layer, image = min(wrong.tolist(), key=lambda found: found[::-1])
        raise NonFiniteLogitsError(_describe_non_finite(layers, layer, image))


def _describe_non_finite(layers: Layers, layer: int, image: int) -> str:
    num_layers, _, num_queries, _ = layers.class_logits.shape
    run, masks = next((run, masks) for run, masks in layers.groups if layer in run)
    first = (layer - run.start) * num_queries
    parts = {'class logits': layers.class_logits[layer, image]}
    if layers.boxes_cxcywh is not None:
        parts['boxes'] = layers.boxes_cxcywh[layer, image]
    for name, part in masks.parts(image).items():
        of_queries = len(part) == masks.num_queries and name in ('mask embeddings', 'mask logits')
        parts[name] = part[first : first + num_queries] if of_queries else part
    bad = [
        f'{name} ({int((~x.isfinite()).sum())} of {x.numel()})' for name, x in parts.items() if not x.isfinite().all()
    ]
    return (
        f'decoder layer {layer + 1} of {num_layers}, image {image} of the batch: inf or NaN in '
        f'{", ".join(bad) or "the product of mask embeddings and mask features"}; expected finite values. Fix: lower '
        'the learning rate, keep gradient clipping on (clip_grad max_norm 0.01), train without --amp or with '
        "bfloat16, and check the input images' mean and std."
    )
