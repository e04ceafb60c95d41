"""Assignment of queries to true segments."""

import warnings
from collections.abc import Sequence
from itertools import accumulate

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Matches
from mmmaskformer.core.training.losses import check_mask_loss
from mmmaskformer.core.training.mask_cost import pairwise_mask_costs


class NonFiniteLogitsError(FloatingPointError):
    """Class or mask logits hold inf or NaN, so that nothing can be matched."""


class HungarianMatcher(nn.Module):
    """Bipartite matching by the cost class + focal + dice, on the grid of the mask logits.

    Args:
        class_weight: weight of minus the probability of the segment's class.
        mask_weight: weight of the mask cost per pixel.
        dice_weight: weight of the dice cost.
        mask_loss: 'focal', as published, or 'bce' for binary cross-entropy.

    Raises:
        ValueError: if ``mask_loss`` is unknown.

    Source: paper, section 3.2 (bipartite matching) and 4.1; official code, HungarianMatcher.
    """

    def __init__(
        self,
        *,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        mask_loss: str = 'focal',
    ):
        super().__init__()
        check_mask_loss(mask_loss)
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.mask_loss = mask_loss
        self._warned = False

    @torch.no_grad()
    def forward(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget]) -> Matches:
        """Match every layer and image on its own.

        With more segments than queries the Q best pairs are matched and a warning says so once.

        Args:
            predictions: L predictions of a batch of B.
            targets: B targets, on any grid.

        Returns:
            Matches on the device of the predictions, min(Q, M) pairs each.

        Raises:
            NonFiniteLogitsError: if logits are inf or NaN, naming layer and image.
        """
        self._warn_if_queries_are_few(predictions[-1], targets)
        device = predictions[0].class_logits.device
        with torch.autocast(device.type, enabled=False):
            costs = self._costs(predictions, targets).cpu()
        _check_finite(costs, predictions)
        return _to_device(_assign(costs, [target.num_segments for target in targets]), device)

    def _costs(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget]) -> Tensor:
        """Costs (L, B, Q, M + 1) of the whole batch, float32 or float64, M being the most segments of an image.

        The last column belongs to no segment: it shows class logits that are not finite where there is no segment.
        """
        class_logits = at_least_float32(torch.stack([prediction.class_logits for prediction in predictions]))
        layers, batch, queries, _ = class_logits.shape
        columns = _padded_labels(targets)[None, :, None].expand(layers, -1, queries, -1)
        class_cost = -class_logits.softmax(-1).gather(-1, columns)
        embed = torch.cat([prediction.mask_embed for prediction in predictions], 1)
        mask, dice = (
            cost.unflatten(1, (layers, queries)).transpose(0, 1)
            for cost in pairwise_mask_costs(
                at_least_float32(embed), at_least_float32(predictions[0].mask_features), targets, self.mask_loss
            )
        )
        cost = self.class_weight * class_cost + self.mask_weight * mask + self.dice_weight * dice
        return torch.cat([cost, class_logits.sum(-1, keepdim=True)], -1)

    def _warn_if_queries_are_few(self, prediction: MaskPrediction, targets: Sequence[MaskTarget]) -> None:
        most = max((target.num_segments for target in targets), default=0)
        if most > prediction.num_queries and not self._warned:
            self._warned = True
            warnings.warn(
                f'an image has {most} segments but the model only {prediction.num_queries} queries: the best '
                f'{prediction.num_queries} are matched and the others are not learnt. Fix: set num_queries to at '
                f'least {most}.',
                stacklevel=2,
            )


def _padded_labels(targets: Sequence[MaskTarget]) -> Tensor:
    """Labels (B, M) of all images; what is beyond an image's own segments is a label of another one."""
    labels = torch.cat([target.labels for target in targets])
    counts = [target.num_segments for target in targets]
    starts = torch.tensor([0, *accumulate(counts)][:-1])
    index = (starts[:, None] + torch.arange(max(counts))).clamp(max=max(0, len(labels) - 1))
    return labels[index.to(labels.device, non_blocking=True)]


def _assign(costs: Tensor, counts: Sequence[int]) -> list[list[tuple]]:
    """Cheapest pairs of each layer and image from costs (L, B, Q, at least M) on the host."""
    return [
        [linear_sum_assignment(cost[:, :count]) for cost, count in zip(layer, counts, strict=True)]
        for layer in costs.numpy()
    ]


def _to_device(pairs: list[list[tuple]], device: torch.device) -> Matches:
    """Bring all index pairs to the device in a single copy."""
    flat = [torch.from_numpy(index) for layer in pairs for pair in layer for index in pair]
    moved = iter(torch.cat(flat).to(device, non_blocking=True).split([len(index) for index in flat]))
    return [[(next(moved), next(moved)) for _ in layer] for layer in pairs]


def _check_finite(costs: Tensor, predictions: Sequence[MaskPrediction]) -> None:
    wrong = (~costs.isfinite()).flatten(2).any(-1).nonzero()
    if len(wrong):
        layer, image = min(wrong.tolist(), key=lambda found: found[::-1])
        raise NonFiniteLogitsError(_describe_non_finite(predictions, layer, image))


def _describe_non_finite(predictions: Sequence[MaskPrediction], layer: int, image: int) -> str:
    prediction = predictions[layer]
    parts = {
        'class logits': prediction.class_logits[image],
        'mask embeddings': prediction.mask_embed[image],
        'mask features': prediction.mask_features[image],
    }
    bad = [
        f'{name} ({int((~x.isfinite()).sum())} of {x.numel()})' for name, x in parts.items() if not x.isfinite().all()
    ]
    return (
        f'decoder layer {layer + 1} of {len(predictions)}, image {image} of the batch: inf or NaN in '
        f'{", ".join(bad) or "the product of mask embeddings and mask features"}; expected finite values. Fix: lower '
        'the learning rate, keep gradient clipping on (clip_grad max_norm 0.01), train without --amp or with '
        "bfloat16, and check the input images' mean and std."
    )
