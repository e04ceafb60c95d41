"""Assignment of queries to true segments."""

import warnings
from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmmaskformer.core.losses import at_least_float32, chunk_rows, pairwise_mask_costs
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Matches, multiply_out


class NonFiniteLogitsError(FloatingPointError):
    """Class or mask logits hold inf or NaN, so that nothing can be matched."""


class HungarianMatcher(nn.Module):
    """Bipartite matching by the cost class + focal + dice, on the grid of the mask logits.

    Args:
        class_weight: weight of minus the probability of the segment's class.
        mask_weight: weight of the focal cost.
        dice_weight: weight of the dice cost.

    Source: paper, section 3.2 (bipartite matching) and 4.1; official code, HungarianMatcher.
    """

    def __init__(
        self,
        *,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
    ):
        super().__init__()
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
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
        with torch.autocast(predictions[0].class_logits.device.type, enabled=False):
            costs = [self._costs(predictions, targets, image) for image in range(len(targets))]
        device = predictions[0].class_logits.device
        host = _to_host(costs)
        _check_finite(host, predictions)
        pairs = [
            [linear_sum_assignment(host[image][layer, :, :-1].numpy()) for image in range(len(targets))]
            for layer in range(len(predictions))
        ]
        return _to_device(pairs, device)

    def _costs(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget], image: int) -> Tensor:
        """Costs (L, Q, M + 1) of one image, float32 or float64.

        The last column belongs to no segment: it shows class logits that are not finite where there is no segment.
        """
        num_layers, num_queries = len(predictions), predictions[0].num_queries
        target = targets[image].resized(predictions[0].mask_size)
        class_logits = at_least_float32(torch.stack([prediction.class_logits[image] for prediction in predictions]))
        class_cost = -class_logits.softmax(-1)[..., target.labels]
        embed = at_least_float32(torch.cat([prediction.mask_embed[image] for prediction in predictions]))
        features = at_least_float32(predictions[0].mask_features[image])
        masks = target.masks_of(torch.arange(target.num_segments, device=embed.device), embed.dtype).flatten(1)
        rows = chunk_rows(masks.shape[1], embed.device)
        parts = [pairwise_mask_costs(multiply_out(part, features).flatten(1), masks) for part in embed.split(rows)]
        focal, dice = (torch.cat(costs).view(num_layers, num_queries, -1) for costs in zip(*parts, strict=True))
        cost = self.class_weight * class_cost + self.mask_weight * focal + self.dice_weight * dice
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


def _to_host(costs: Sequence[Tensor]) -> list[Tensor]:
    """Bring the costs of all images to the CPU in a single copy."""
    flat = torch.cat([cost.flatten() for cost in costs]).cpu()
    sizes = [cost.numel() for cost in costs]
    return [part.view(cost.shape) for part, cost in zip(flat.split(sizes), costs, strict=True)]


def _to_device(pairs: list[list[tuple]], device: torch.device) -> Matches:
    """Bring all index pairs to the device in a single copy."""
    flat = [torch.from_numpy(index) for layer in pairs for pair in layer for index in pair]
    moved = iter(torch.cat(flat).to(device).split([len(index) for index in flat]))
    return [[(next(moved), next(moved)) for _ in layer] for layer in pairs]


def _check_finite(costs: Sequence[Tensor], predictions: Sequence[MaskPrediction]) -> None:
    for image, cost in enumerate(costs):
        for layer in range(len(cost)):
            if not torch.isfinite(cost[layer]).all():
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
