"""The training loss of mask classification over all decoder layers."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmmaskformer.core.checks import BOOLEAN, WEIGHT, checked, list_of, mapping_of, whole
from mmmaskformer.core.contracts import Matcher
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.shapes import check_same_device
from mmmaskformer.core.structures import Layers, MaskPrediction, MaskTarget, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.boxes import BoxLoss, predicted_boxes
from mmmaskformer.core.training.class_weights import ClassWeights
from mmmaskformer.core.training.parts import (
    FocalDiceLoss,
    MaskLoss,
    Pairs,
    checked_weights,
    named_values,
    require_finite_losses,
    require_names,
    require_part,
)
from mmmaskformer.core.training.targets import check_segments


@checked(
    num_classes=whole(1),
    loss_weights=mapping_of(WEIGHT).or_none(),
    class_weight=(list_of(WEIGHT) | mapping_of(WEIGHT)).or_none(),
    no_object_weight=WEIGHT,
    ignore_in_loss=BOOLEAN,
    class_mean_over_ranks=BOOLEAN,
)
class SetCriterion(nn.Module):
    """Matches every layer and sums classification loss and mask losses.

    Mask losses are sums over matched pairs divided by the number of true segments (matched or not), averaged over
    ranks, at least 1. The classification loss is a mean over the queries of this rank; see ``class_mean_over_ranks``.

    Args:
        num_classes: K.
        matcher: maps predictions and targets to `Matches`.
        mask_loss: losses of the matched masks; `FocalDiceLoss`, as published, if None.
        loss_weights: weights of the losses, by name: 'cls' for the classification loss and the names of the mask loss.
            The defaults are 1 for 'cls', 20 for 'mask' and 1 for 'dice', as published, and 1 for others.
        class_weight: weights of the classes in the classification loss: a list of K, or by class name those that are
            not 1, for which `name_classes` must be called. 1 each if None.
        no_object_weight: weight of "no object" in the classification loss.
        ignore_in_loss: leave pixels that are not labelled (ignored, void, padded) out of mask losses and matching
            costs. As published they count as background of every segment.
        class_mean_over_ranks: divide the classification loss by the sum of class weights of all queries, averaged over
            ranks, so that losses and gradients of several processes, averaged, equal those of one process with the
            joined batch. As published each rank divides by the sum of its own queries. One small exchange per step.
        box_loss: losses of the boxes of matched queries. If None, `BoxLoss` if the matcher uses boxes, otherwise none.

    Attributes:
        uses_boxes: whether the network has to predict boxes.

    Raises:
        TypeError: if the matcher cannot be called, or ``mask_loss`` or ``box_loss`` is of another class.
        ValueError: if a weight is given for an unknown loss, ``class_weight`` does not have K entries, or two losses
            have the same name.

    Source: paper, sections 3.2 and 4.1; official code, SetCriterion.
    """

    _constant: frozenset[str] = frozenset()
    """Names of losses without gradients that were reported; of the class, for criteria pickled without it."""

    def __init__(
        self,
        *,
        num_classes: int,
        matcher: Matcher,
        mask_loss: MaskLoss | None = None,
        loss_weights: Mapping[str, float] | None = None,
        class_weight: Sequence[float] | Mapping[str, float] | None = None,
        no_object_weight: float = 0.1,
        ignore_in_loss: bool = False,
        box_loss: BoxLoss | None = None,
        class_mean_over_ranks: bool = False,
    ):
        super().__init__()
        if not callable(matcher):
            raise TypeError(f'matcher is a {type(matcher).__name__}; expected one such as HungarianMatcher()')
        require_part('criterion.mask_loss', mask_loss, MaskLoss)
        require_part('criterion.box_loss', box_loss, nn.Module)
        self.num_classes = num_classes
        self.matcher = matcher
        self.mask_loss = FocalDiceLoss() if mask_loss is None else mask_loss
        self.box_loss = BoxLoss() if box_loss is None and getattr(matcher, 'uses_boxes', False) else box_loss
        self.uses_boxes = self.box_loss is not None
        others = ('cls', *(self.box_loss.names if self.box_loss else ()))
        require_names(self.mask_loss, others)
        names = ('cls', *self.mask_loss.names, *others[1:])
        self.loss_weights = checked_weights(loss_weights, names, 'criterion.loss_weights')
        self.ignore_in_loss = ignore_in_loss
        self.class_weights = ClassWeights(class_weight, num_classes)
        self.class_mean_over_ranks = class_mean_over_ranks
        self.no_object_weight = no_object_weight

    @property
    def class_weight(self) -> Tensor:
        """Weights (K,) float32 of the classes in the classification loss."""
        return self.class_weights.values

    def name_classes(self, names: Sequence[str]) -> None:
        """Look up the weights that are given by class name; see `ClassWeights.name_classes`."""
        self.class_weights.name_classes(names)

    def forward(
        self, predictions: Layers | Sequence[MaskPrediction], targets: Targets | Sequence[MaskTarget]
    ) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            predictions: predictions of L layers for B images, the last layer final.
            targets: targets of the B images, at the network's input size (padded where an image is).

        Returns:
            Scalars ``loss_cls``, ``loss_mask``, ``loss_dice``, with boxes ``loss_box`` and ``loss_giou``, of the final
            layer and ``d0.loss_cls`` … of the earlier ones, first layer first; weighted, float32 or float64. Their sum
            is the training loss.

        Raises:
            TypeError: if the matcher does not return `Matches`.
            NonFiniteLogitsError: if logits are inf or NaN.
            ValueError: if predictions and targets are inconsistent, a label is not in [0, K), the matcher returns an
                invalid pair, or a loss returns tensors of another number or shape.
        """
        layers, targets = Layers.of(predictions), Targets.of(targets).leaving_out_ignored(self.ignore_in_loss)
        self._check(layers, targets)
        num_layers, _, num_queries, _ = layers.class_logits.shape
        matches, matcher = self.matcher(layers, targets), type(self.matcher).__name__
        if not isinstance(matches, Matches):
            raise TypeError(f'{matcher} returned a {type(matches).__name__}; expected Matches')
        matches = matches.ordered(num_layers, num_queries, targets.counts, matcher)
        normaliser = mean_num_segments(targets, layers.device)
        with torch.autocast(layers.device.type, enabled=False):
            values = [self._class_losses(layers, targets, matches)]
            sums = [*self._mask_losses(layers, targets, matches), *self._box_losses(layers, targets, matches)]
            values += [value / normaliser for value in sums]
        by_name = {name: self.loss_weights[name] * value for name, value in zip(self.loss_weights, values, strict=True)}
        prefixes = [*(f'd{layer}.' for layer in range(num_layers - 1)), '']
        return {
            f'{prefix}loss_{name}': losses[layer]
            for layer, prefix in enumerate(prefixes)
            for name, losses in by_name.items()
        }

    def _check(self, layers: Layers, targets: Targets) -> None:
        """Refuse inconsistent targets; labels are checked only where that needs no synchronisation."""
        self.class_weights.require_names()
        batch = layers.class_logits.shape[1]
        if len(targets) != batch:
            raise ValueError(f'there are {len(targets)} targets for {batch} images; expected one per image')
        check_same_device(targets, layers.device)
        if layers.class_logits.shape[3] != self.num_classes + 1:
            raise ValueError(
                f'class_logits have {layers.class_logits.shape[3]} columns; expected num_classes + 1 = '
                f'{self.num_classes + 1}, the last one "no object"'
            )
        check_segments(targets, self.num_classes)

    def _class_losses(self, layers: Layers, targets: Targets, matches: Matches) -> Tensor:
        """Classification loss (L,) of the layers; unmatched queries are trained to predict "no object"."""
        logits = at_least_float32(layers.class_logits).flatten(1, 2)
        num_queries, batch = layers.class_logits.shape[2], len(targets)
        query, label = _to_device(
            [
                (matches.layer * batch + matches.image) * num_queries + matches.query,
                np.array(targets.starts)[matches.image] + matches.segment,
            ],
            logits.device,
        )
        classes = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        classes.view(-1).scatter_(0, query, targets.labels[label])
        weight = logits.new_full((self.num_classes + 1,), self.no_object_weight)
        weight[:-1] = self.class_weight
        total = mean_over_ranks(weight[classes].sum(-1)) if self.class_mean_over_ranks else None
        return equations.class_loss(logits, classes, weight, total)

    def _mask_losses(self, layers: Layers, targets: Targets, matches: Matches) -> list[Tensor]:
        """Mask losses (L,) of the layers, one per name, summed over matched pairs; only matched masks are computed."""
        num_queries = layers.class_logits.shape[2]
        zero = at_least_float32(layers.class_logits).new_zeros(len(layers.class_logits))
        sums = [zero for _ in self.mask_loss.names]
        for run, masks in layers.groups:
            of_run = matches.of_layers(run)
            query = of_run.image * masks.num_queries + (of_run.layer - run.start) * num_queries + of_run.query
            query, layer, segment = _to_device([query, of_run.layer, of_run.segment], zero.device)
            counts = of_run.counts(len(targets))
            # An image without pairs has an empty product, so that the mask branch still receives a gradient of zeros.
            # Without it, distributed training would fail because of unused parameters.
            logits = masks.matched(query, counts)
            losses = self._of_pairs(logits, targets, Pairs(counts, segment))
            sums = [a.index_add(0, layer, loss.to(a.dtype)) for a, loss in zip(sums, losses, strict=True)]
        return sums

    def _of_pairs(self, mask_logits: Tensor, targets: Targets, pairs: Pairs) -> list[Tensor]:
        """Values (N,) of the mask loss, one tensor per name, checked."""
        values = self.mask_loss(mask_logits, targets, pairs)
        losses = named_values(self.mask_loss, values, mask_logits.shape[:1], mask_logits.device)
        require_finite_losses(self.mask_loss, losses, mask_logits)
        if not len(mask_logits):  # a loss may then return constants
            return [loss + mask_logits.flatten(1).sum(1) for _, loss in losses]
        for name, loss in losses:
            if mask_logits.requires_grad and not loss.requires_grad and self.loss_weights[name]:
                self._warn_of_constant(name)
        return [loss for _, loss in losses]

    def _warn_of_constant(self, name: str) -> None:
        if name not in self._constant:
            self._constant = self._constant | {name}
            warnings.warn(
                f'{type(self.mask_loss).__name__} returned values without gradients as {name!r}: they are added to the '
                'loss but train nothing. Fix: compute them from mask_logits with differentiable operations',
                stacklevel=2,
            )

    def _box_losses(self, layers: Layers, targets: Targets, matches: Matches) -> list[Tensor]:
        """Box losses (L,) of the layers, one per name, summed over matched pairs."""
        if self.box_loss is None:
            return []
        boxes = predicted_boxes(layers)
        num_layers, batch, num_queries, _ = boxes.shape
        query, layer, segment = _to_device(
            [
                (matches.layer * batch + matches.image) * num_queries + matches.query,
                matches.layer,
                np.array(targets.starts)[matches.image] + matches.segment,
            ],
            boxes.device,
        )
        values = self.box_loss(boxes.flatten(0, 2).index_select(0, query), targets, segment)
        losses = named_values(self.box_loss, values, segment.shape, boxes.device)
        return [loss.new_zeros(num_layers).index_add(0, layer, loss) for _, loss in losses]


def _to_device(columns: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    """Columns (N,) int64 of the host on the device, in a single copy."""
    return torch.from_numpy(np.stack(columns)).to(device, non_blocking=True).unbind()


def mean_num_segments(targets: Targets, device: torch.device) -> Tensor | float:
    """Number of true segments of the batch, averaged over ranks, at least 1.

    Args:
        targets: this rank's targets.
        device: where the ranks exchange the count.
    """
    count = float(sum(targets.counts))
    if not _has_ranks():
        return max(count, 1.0)
    return mean_over_ranks(torch.tensor(count, device=device)).clamp(min=1)


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a value over the ranks of distributed training, without gradient; the value itself without ranks.

    Args:
        value: float tensor of this rank, with the same shape on all ranks.
    """
    if not _has_ranks():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _has_ranks() -> bool:
    return dist.is_available() and dist.is_initialized()
