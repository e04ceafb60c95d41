"""Focal, dice and classification losses; at least float32 throughout.

The mask losses stand here in the pairwise form of the matcher; `mask_loss` has the matched form of the criterion.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25
"""Weight of the target pixels in the focal loss; its exponent gamma is 2."""


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay: h * w and summed logits overflow in half."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def chunk_rows(row_elements: int, device: torch.device) -> int:
    """How many rows of that many elements to compute at a time.

    On a CPU a chunk's few tensors should stay in its cache; elsewhere few launches of large kernels are better, and the
    limit bounds the memory to a few hundred megabytes.
    """
    limit = 300_000 if device.type == 'cpu' else 10_000_000
    return max(1, limit // max(1, row_elements))


def minus_log_sigmoid(logits: Tensor, probs: Tensor) -> Tensor:
    """-log(sigmoid(x)) from x and its sigmoid; several times faster than `torch.nn.functional.softplus` of -x.

    Where the sigmoid underflows the result is -x, which is a lower bound everywhere.
    """
    loss = probs.clamp_min(torch.finfo(probs.dtype).tiny).log_().neg_()
    return torch.maximum(loss, -logits, out=loss)


def focal_terms(mask_logits: Tensor, probs: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of every element, if it is a target pixel and if it is not; for use without gradients.

    Args:
        mask_logits: any shape, float32 or float64, before sigmoid.
        probs: its sigmoid.

    Returns:
        (positive, negative), shaped like the input, at least 0, gamma 2.

    Source: paper, section 4.1 (mask loss); Lin et al., Focal Loss.
    """
    loss = minus_log_sigmoid(mask_logits, probs)
    negative = (loss + mask_logits).mul_(probs).mul_(probs).mul_(1 - FOCAL_ALPHA)  # -log(1 - p) = -log(p) + x
    error = 1 - probs
    return loss.mul_(error).mul_(error).mul_(FOCAL_ALPHA), negative


def dice_from_sums(overlap: Tensor, prob_sum: Tensor, target_sum: Tensor) -> Tensor:
    """Dice loss 1 - (2 * overlap + 1) / (prob_sum + target_sum + 1), in [0, 1).

    Args:
        overlap: sum of the mask probabilities inside the target.
        prob_sum: sum of the mask probabilities, broadcastable.
        target_sum: number of target pixels, broadcastable.
    """
    return 1 - (2 * overlap + 1) / (prob_sum + target_sum + 1)


def pairwise_mask_costs(mask_logits: Tensor, target_masks: Tensor) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of every query against every segment, without gradient needs.

    Args:
        mask_logits: (n, P) float, before sigmoid.
        target_masks: (M, P) bool or float in {0, 1}, on the same pixels; M may be 0.

    Returns:
        (focal, dice): (n, M) float32 or float64 each; focal is the mean over the P pixels.

    Raises:
        ValueError: if the two P differ.

    Source: paper, section 4.1; official code, batch_sigmoid_focal_loss and batch_dice_loss of the matcher.
    """
    if mask_logits.shape[1] != target_masks.shape[1]:
        raise ValueError(
            f'mask logits have {mask_logits.shape[1]} pixels and targets {target_masks.shape[1]}; expected the same'
        )
    logits = at_least_float32(mask_logits)
    targets = target_masks.to(logits.dtype).T
    probs = logits.sigmoid()
    positive, negative = focal_terms(logits, probs)
    total = negative.sum(1, keepdim=True)
    focal = (positive.sub_(negative) @ targets + total) / logits.shape[1]
    return focal, dice_from_sums(probs @ targets, probs.sum(1, keepdim=True), targets.sum(0))


def class_loss(class_logits: Tensor, classes: Tensor, no_object_weight: float) -> Tensor:
    """Cross entropy over all queries of a batch, the mean weighted by class.

    Args:
        class_logits: (N, K + 1) float.
        classes: (N,) int64, the class to learn; K for "no object".
        no_object_weight: weight of queries without a segment; the others weigh 1.

    Returns:
        Scalar: the sum of weight * loss divided by the sum of weights.

    Source: paper, section 3.2; official code, SetCriterion.loss_labels.
    """
    logits = at_least_float32(class_logits)
    weight = logits.new_ones(logits.shape[1])
    weight[-1] = no_object_weight
    return F.cross_entropy(logits, classes, weight)
