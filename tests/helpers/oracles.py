"""Slow, literal transcriptions of the paper's equations that share no code with the package."""

import itertools
import math

import torch
from torch import Tensor


def focal(probability: Tensor, target: Tensor, alpha: float = 0.25) -> Tensor:
    """Focal loss with gamma 2 per element, from probabilities, any shape."""
    p_true = torch.where(target, probability, 1 - probability)
    weight = torch.where(target, alpha, 1 - alpha)
    return -weight * (1 - p_true) ** 2 * p_true.log()


def bce(probability: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy per element, from probabilities, any shape."""
    return -torch.where(target, probability, 1 - probability).log()


def dice(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss of one mask."""
    return 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize from (h, w) to ``size`` with aligned pixel centres, written out per axis."""

    def weights(source: int, wanted: int) -> Tensor:
        matrix = torch.zeros(wanted, source, dtype=logits.dtype)
        for i in range(wanted):
            position = max((i + 0.5) * source / wanted - 0.5, 0)
            low = min(math.floor(position), source - 1)
            high = min(low + 1, source - 1)
            matrix[i, low] += 1 - (position - low)
            matrix[i, high] += position - low
        return matrix

    return weights(logits.shape[0], size[0]) @ logits @ weights(logits.shape[1], size[1]).T


def best_assignment(cost: Tensor) -> set[tuple[int, int]]:
    """Cheapest matching of all columns (or all rows, if there are fewer), by exhaustive search."""
    rows, columns = cost.shape
    if rows < columns:
        return {(i, j) for j, i in best_assignment(cost.T)}
    orders = itertools.permutations(range(rows), columns)
    best = min(orders, key=lambda order: sum(float(cost[i, j]) for j, i in enumerate(order)))
    return {(i, j) for j, i in enumerate(best)}


def set_loss(
    predictions, targets, matches, no_object_weight: float = 0.1, ignore: bool = False, per_pixel=focal
) -> dict[str, Tensor]:
    """All weighted losses of all layers, segment by segment and query by query, for given matches.

    With ``ignore``, pixels with index -2 in a target's segment map are excluded from the mask losses.
    """
    normaliser = max(1, sum(len(target.labels) for target in targets))
    losses = {}
    for layer, prediction in enumerate(predictions):
        prefix = '' if layer == len(predictions) - 1 else f'd{layer}.'
        mask_sum = dice_sum = class_sum = weight_sum = torch.zeros((), dtype=prediction.class_logits.dtype)
        for image, target in enumerate(targets):
            pairs = list(zip(*matches.pairs(layer, image), strict=True))
            classes = {int(q): int(target.labels[t]) for q, t in pairs}
            log_probs = prediction.class_logits[image].log_softmax(-1)
            for query in range(log_probs.shape[0]):
                label = classes.get(query, log_probs.shape[1] - 1)
                weight = 1.0 if query in classes else no_object_weight
                class_sum = class_sum - weight * log_probs[query, label]
                weight_sum = weight_sum + weight
            for query, segment in pairs:
                embed, features = prediction.masks.embed[image, query], prediction.masks.features[image]
                logits = upsample(torch.einsum('c,chw->hw', embed, features), target.size)
                mask = target.masks_of(segment[None])[0]
                counted = (target.segment_map != -2) if ignore else torch.ones_like(mask)
                probability, mask = logits.sigmoid()[counted], mask[counted]
                if len(mask):
                    mask_sum = mask_sum + per_pixel(probability, mask).mean()
                dice_sum = dice_sum + dice(probability, mask)
        losses[f'{prefix}loss_cls'] = class_sum / weight_sum
        losses[f'{prefix}loss_mask'] = 20 * mask_sum / normaliser
        losses[f'{prefix}loss_dice'] = dice_sum / normaliser
    return losses
