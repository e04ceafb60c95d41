"""What the losses share, and the classification loss; at least float32 throughout.

Of the mask losses, `mask_cost` has the pairwise form of the matcher and `mask_loss` the matched form of the criterion.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.numerics import at_least_float32

FOCAL_ALPHA = 0.25
"""Weight of the target pixels in the focal loss; its exponent gamma is 2."""


MASK_LOSSES = ('focal', 'bce')
"""Kinds of mask loss per pixel: focal, as published, or plain binary cross-entropy."""


def check_mask_loss(kind: str) -> None:
    """Raise a `ValueError` if there is no such kind."""
    if kind not in MASK_LOSSES:
        raise ValueError(f"mask_loss={kind!r} is unknown; expected 'focal' or 'bce'")


def chunk_rows(row_elements: int, device: torch.device) -> int:
    """How many rows of that many elements to compute at a time.

    On a CPU a chunk's few tensors should stay in its cache; elsewhere few launches of large kernels are better, and the
    limit bounds the memory to about a gigabyte.
    """
    limit = 300_000 if device.type == 'cpu' else 60_000_000
    return max(1, limit // max(1, row_elements))


def dice_from_sums(overlap: Tensor, prob_sum: Tensor, target_sum: Tensor) -> Tensor:
    """Dice loss 1 - (2 * overlap + 1) / (prob_sum + target_sum + 1), in [0, 1).

    Args:
        overlap: sum of the mask probabilities inside the target.
        prob_sum: sum of the mask probabilities, broadcastable.
        target_sum: number of target pixels, broadcastable.
    """
    return 1 - (2 * overlap + 1) / (prob_sum + target_sum + 1)


def class_loss(class_logits: Tensor, classes: Tensor, no_object_weight: float) -> Tensor:
    """Cross entropy over all queries of a batch, the mean weighted by class.

    Args:
        class_logits: (..., N, K + 1) float; leading dimensions, such as the layers, stay apart.
        classes: (..., N) int64, the class to learn; K for "no object".
        no_object_weight: weight of queries without a segment; the others weigh 1.

    Returns:
        (...): the sum of weight * loss divided by the sum of weights.

    Source: paper, section 3.2; official code, SetCriterion.loss_labels.
    """
    logits = at_least_float32(class_logits)
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = no_object_weight
    losses = F.cross_entropy(logits.flatten(0, -2), classes.flatten(), weight, reduction='none')
    return losses.view(classes.shape).sum(-1) / weight[classes].sum(-1)
