"""The parts of criterion and matcher: losses of matched masks, and costs of all pairs.

A custom part is a class like these, registered under a name for use in configs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.numerics import NonFiniteLogitsError, at_least_float32
from mmmaskformer.core.shapes import form_of, is_float
from mmmaskformer.core.structures import Layers, Targets
from mmmaskformer.core.torch_versions import is_recorded
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.one_pass import batch_mask_losses
from mmmaskformer.core.training.pairwise import pairwise_mask_costs

LOSS_WEIGHTS = {'cls': 1.0, 'mask': 20.0, 'dice': 1.0, 'box': 5.0, 'giou': 2.0}
"""Published weights of the losses and of the matching costs of the same names; for boxes, those of DETR."""


class Pairs(NamedTuple):
    """The matched segments of a batch, in the order of the mask logits that a loss gets.

    Attributes:
        counts: number of matched masks of each image; N in all.
        segment: (N,) int64, index of the segment within its image.
    """

    counts: list[int]
    segment: Tensor


class MaskLoss(nn.Module):
    """Base of the losses of matched masks.

    Attributes:
        names: names of its values, used for the logged losses and their weights.
    """

    names: tuple[str, ...] = ()

    def forward(self, mask_logits: Tensor, targets: Targets, pairs: Pairs) -> tuple[Tensor, ...]:
        """Losses of masks and the segments matched to them.

        Args:
            mask_logits: (N, h, w) float32 or float64, before sigmoid, with gradients; N may be 0.
            targets: targets of the batch; ``targets.masks_of(*pairs)`` are the masks at their size (H, W), and
                ``targets.counted`` the pixels that count.
            pairs: the segment that each mask is matched to.

        Returns:
            (N,) per name.
        """
        raise NotImplementedError

    def matching_cost(self) -> 'Cost':
        """The default cost of a matcher: focal and dice, as published."""
        return FocalDiceCost()


class Cost(nn.Module):
    """Base of the costs by which queries and segments are matched.

    Attributes:
        names: names of its costs, used for their weights.
        uses_masks: whether inf or NaN in any mask shows in the costs; if no cost does, the matcher checks the masks.
        uses_boxes: whether the network has to predict boxes.
    """

    names: tuple[str, ...] = ()
    uses_masks = False
    uses_boxes = False

    def forward(self, layers: Layers, targets: Targets) -> tuple[Tensor, ...]:
        """Costs of all pairs; called without gradients and without autocast.

        Args:
            layers: predictions of L layers.
            targets: targets of the batch.

        Returns:
            (L, B, Q, M) float per name, with M the largest number of segments of an image; values beyond an image's own
            number are undefined.
        """
        raise NotImplementedError


class FocalDiceLoss(MaskLoss):
    """Focal loss per pixel, averaged over pixels, and dice loss; as published.

    Computes `equations.mask_losses` of the logits up-sampled to the targets' size.
    """

    names = ('mask', 'dice')
    kind = 'focal'

    def forward(self, mask_logits: Tensor, targets: Targets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """See `MaskLoss.forward`; both losses are float32 or float64."""
        if is_fast('one_pass_loss'):
            return batch_mask_losses(mask_logits, targets, pairs.counts, pairs.segment, self.kind)
        logits = equations.upsampled(at_least_float32(mask_logits), targets.size).flatten(1)
        masks, counted = targets.masks_of(*pairs).flatten(1), targets.counted
        if counted is None:
            counted = masks.new_ones(masks.shape[1])
        else:
            counts = torch.tensor(pairs.counts, device=counted.device)
            counted = counted.flatten(1).repeat_interleave(counts, 0, output_size=len(masks))
        return equations.mask_losses(logits, masks, counted, self.kind)

    def matching_cost(self) -> Cost:
        """The corresponding cost, on the grid of the mask logits."""
        return FocalDiceCost()


class CrossEntropyDiceLoss(FocalDiceLoss):
    """Binary cross-entropy per pixel, averaged over pixels, and dice loss; a replacement for `FocalDiceLoss`."""

    kind = 'bce'

    def matching_cost(self) -> Cost:
        """The corresponding cost, on the grid of the mask logits."""
        return CrossEntropyDiceCost()


class ClassCost(Cost):
    """Minus the probability of the segment's class; computes `equations.class_cost`."""

    names = ('cls',)

    def forward(self, layers: Layers, targets: Targets) -> tuple[Tensor]:
        """See `Cost.forward`; float32 or float64."""
        class_probs = at_least_float32(layers.class_logits).softmax(-1)
        columns = targets.labels[padded_index(targets)][None, :, None].expand(
            *class_probs.shape[:1], -1, class_probs.shape[2], -1
        )
        return (-class_probs.gather(-1, columns),)


class FocalDiceCost(Cost):
    """Focal loss per pixel and dice loss of all pairs, `equations.mask_losses` on the grid of the mask logits."""

    names = ('mask', 'dice')
    kind = 'focal'
    uses_masks = True

    def forward(self, layers: Layers, targets: Targets) -> tuple[Tensor, Tensor]:
        """See `Cost.forward`; float32 or float64."""
        return by_layer(layers, [pairwise_mask_costs(masks, targets, self.kind) for _, masks in layers.groups])


class CrossEntropyDiceCost(FocalDiceCost):
    """Binary cross-entropy per pixel instead of the focal loss."""

    kind = 'bce'


def by_layer(layers: Layers, costs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Costs (L, B, Q, M) from those (B, number of layers * Q, M) of each group of ``layers.groups``."""
    queries = layers.class_logits.shape[2]
    mask, dice = (
        torch.cat([cost.unflatten(1, (-1, queries)).transpose(0, 1) for cost in of_groups])
        for of_groups in zip(*costs, strict=True)
    )
    return mask, dice


def checked_weights(given: Mapping[str, float] | None, names: tuple[str, ...], where: str) -> dict[str, float]:
    """The weight of every name: the given one, else the published one, else 1.

    Raises:
        ValueError: if a weight is given for an unknown name.
    """
    given = dict(given or {})
    for name in given:
        if name not in names:
            raise ValueError(f'{where} has a weight for {name!r}; expected {", ".join(map(repr, names))}')
    return {name: float(given.get(name, LOSS_WEIGHTS.get(name, 1.0))) for name in names}


def named_values(part: Any, values: Any, shape: Sequence[int], device: torch.device) -> list[tuple[str, Tensor]]:
    """The return value of a loss or a cost by name; checked, since the part may be user-defined.

    Args:
        part: the loss of masks or boxes, or the cost.
        values: its return value.
        shape: shape of each tensor. In those of a cost, any size may be 1, which is broadcast.
        device: of each tensor.

    Raises:
        ValueError: if there is not one tensor of that shape, of real numbers, on that device for each name. Losses are
            float; costs may be integers.
    """
    name, shape = type(part).__name__, tuple(shape)
    if not isinstance(values, tuple | list) or len(values) != len(part.names):
        number = f' of {len(values)}' if isinstance(values, tuple | list) else ''
        raise ValueError(
            f'{name} returned {form_of(values)}{number}; expected a tuple with a tensor for each of its names '
            f'{part.names}'
        )
    for key, value in zip(part.names, values, strict=True):
        found = tuple(value.shape) if isinstance(value, Tensor) else ()
        fits = len(found) == len(shape) and all(
            a == b or (a == 1 and isinstance(part, Cost)) for a, b in zip(found, shape, strict=True)
        )
        if not fits or value.device != device or value.is_complex():
            raise ValueError(f'{name} returned {form_of(value)} as {key!r}; expected {shape} float on {device}')
        if not isinstance(part, Cost) and not is_float(value):
            raise ValueError(f'{name} returned {form_of(value)} as {key!r}; expected {shape} float, with gradients')
    return list(zip(part.names, values, strict=True))


def require_finite_losses(
    part: MaskLoss, losses: Sequence[tuple[str, Tensor]], mask_logits: Tensor, where: str = ''
) -> None:
    """Check the values of a mask loss on a CPU; a GPU would have to synchronise.

    Args:
        part: the mask loss.
        losses: its values (N,) by name.
        mask_logits: (N, h, w), from which they were computed.
        where: beginning of the message.

    Raises:
        NonFiniteLogitsError: if a mask logit is inf or NaN.
        ValueError: if a value is, but no mask logit.
    """
    if mask_logits.device.type != 'cpu' or is_recorded():
        return
    for key, values in losses:
        wrong = int((~values.detach().isfinite()).sum())
        found = f'{where}{type(part).__name__} returned inf or NaN as {key!r} for {wrong} of {len(values)} masks'
        if wrong and not mask_logits.isfinite().all():
            raise NonFiniteLogitsError(
                f'{found}, whose logits are inf or NaN; expected finite values. Fix: lower the learning rate, keep '
                'gradient clipping on (clip_grad max_norm 0.01), train without --amp or with bfloat16'
            )
        if wrong:
            raise ValueError(
                f'{found}, whose logits are finite; expected finite values. Fix: no division by 0 and no logarithm of '
                '0 in it'
            )


def require_names(part: MaskLoss | Cost, taken: Sequence[str] = ()) -> None:
    """Check the names of the values of a mask loss or a cost.

    Args:
        part: the loss or the cost.
        taken: names of others.

    Raises:
        ValueError: if they are not a tuple or list of different names, at least one, or one is taken.
    """
    names: Any = getattr(part, 'names', None)  # a loss of another kind has none
    texts = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not texts or not names or len({*names, *taken}) < len(names) + len(taken):
        others = f', none of them one of {tuple(taken)}' if taken else ''
        raise ValueError(
            f'{type(part).__name__}.names: found {names!r}, expected a tuple of different names{others}, one for each '
            'value that it gives'
        )


def require_part(key: str, part: object, kind: type) -> None:
    """Check the class of a part that is passed to a constructor.

    Args:
        key: of the argument, for messages.
        part: its value; None if there is none.
        kind: its class.

    Raises:
        TypeError: if it is something else, such as its name.
    """
    if part is not None and not isinstance(part, kind):
        raise TypeError(f'{key}: found a {type(part).__name__}, expected a class that derives from {kind.__name__}')


def padded_index(targets: Targets) -> Tensor:
    """Positions (B, M) int64 of each image's segments in the batch; arbitrary beyond the image's own number."""
    index = torch.tensor(targets.starts)[:, None] + torch.arange(max(targets.counts))
    index = index.clamp(max=max(0, len(targets.labels) - 1))
    return index.to(targets.labels.device, non_blocking=True)
