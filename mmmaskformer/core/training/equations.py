"""The costs and losses as the paper defines them: differentiable and not optimised.

The default implementations compute the same values with less time and memory. Each of them names the function in this
module that it equals; with its fast path switched off (`set_fast_paths`), that function is used instead.

Source: MaskFormer, sections 3.2 and 4.1; Lin et al., Focal loss; Milletari et al., V-Net (dice).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL_ALPHA = 0.25
"""Weight of the target pixels in the focal loss; its exponent gamma is 2."""


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of every pixel: -log p on the target, -log(1 - p) elsewhere; broadcasts."""
    return torch.where(masks, -F.logsigmoid(logits), -F.logsigmoid(-logits))


def focal(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss of every pixel: alpha (1 - p)^2 (-log p) on the target, (1 - alpha) p^2 (-log(1 - p)) elsewhere."""
    error = torch.where(masks, (-logits).sigmoid(), logits.sigmoid())
    alpha = torch.where(masks, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    return alpha * error.square() * cross_entropy(logits, masks)


PER_PIXEL = {'focal': focal, 'bce': cross_entropy}
"""The losses per pixel: focal, as published, and binary cross-entropy."""


def dice(logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
    """Dice loss of masks: 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1); sums over counted pixels (last dimension)."""
    probs, truth = logits.sigmoid() * counted, masks & counted
    return dice_from_sums((probs * truth).sum(-1), probs.sum(-1), truth.sum(-1))


def dice_from_sums(overlap: Tensor, prob_sum: Tensor, target_sum: Tensor) -> Tensor:
    """Dice loss, in [0, 1), from its three sums over pixels, which broadcast."""
    return 1 - (2 * overlap + 1) / (prob_sum + target_sum + 1)


def mask_losses(logits: Tensor, masks: Tensor, counted: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Loss per pixel, averaged over the pixels that count, and dice loss of masks and the segments matched to them.

    Args:
        logits: (..., P) float, before sigmoid.
        masks: (..., P) bool, broadcastable.
        counted: (P,) or (..., P) bool, broadcastable.
        kind: a key of `PER_PIXEL`.

    Returns:
        (mask, dice): (...) float each.
    """
    per_pixel = PER_PIXEL[kind](logits, masks) * counted
    return per_pixel.sum(-1) / counted.sum(-1).clamp(min=1), dice(logits, masks, counted)


def soft_mask_losses(logits: Tensor, truth: Tensor, counted: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """`mask_losses` for pixels that belong to a segment in part: the weighted mean of the losses of both cases.

    Args:
        logits: (..., P) float, before sigmoid.
        truth: (..., P) float in [0, 1], broadcastable.
        counted: (..., P) bool, broadcastable.
        kind: a key of `PER_PIXEL`.

    Returns:
        (mask, dice): (...) float each.
    """
    inside, outside = (PER_PIXEL[kind](logits, torch.tensor(side, device=logits.device)) for side in (True, False))
    per_pixel, truth = (truth * inside + (1 - truth) * outside) * counted, truth * counted
    probs = logits.sigmoid() * counted
    dice = dice_from_sums((probs * truth).sum(-1), probs.sum(-1), truth.sum(-1))
    return per_pixel.sum(-1) / counted.sum(-1).clamp(min=1), dice


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask logits (n, h, w) at the size (H, W) of the targets; bilinear."""
    return F.interpolate(logits[:, None], size=size, mode='bilinear', align_corners=False)[:, 0]


def class_cost(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Matching cost (..., Q, M) of classes: minus the probability of each segment's class.

    Args:
        class_logits: (..., Q, K + 1) float.
        labels: (M,) int64.
    """
    return -class_logits.softmax(-1)[..., labels]


def class_loss(class_logits: Tensor, classes: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    """Cross-entropy over queries, the mean weighted by class.

    Args:
        class_logits: (..., N, K + 1) float; leading dimensions, such as the layers, are kept.
        classes: (..., N) int64, the class to learn; K for "no object".
        weight: (K + 1,) float.
        total: (...) float, the divisor instead of the sum of the weights of these queries.

    Returns:
        (...): the sum of weight * loss divided by the sum of weights; 0 where all weights are 0.
    """
    losses = F.cross_entropy(class_logits.flatten(0, -2), classes.flatten(), weight, reduction='none')
    total = weight[classes].sum(-1) if total is None else total
    return losses.view(classes.shape).sum(-1) / total.clamp(min=torch.finfo(total.dtype).tiny)


def pixel_class_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the pixels of an image, summed: the loss of the per-pixel baselines.

    Args:
        logits: (K, h, w) float; up-sampled to the size of ``classes``.
        classes: (H, W) int64, negative where a pixel does not count.
        weight: (K,) float of the classes.

    Returns:
        A scalar, the sum of weight times loss.
    """
    logits = F.interpolate(logits[None], size=tuple(classes.shape), mode='bilinear', align_corners=False)
    return F.cross_entropy(logits, classes[None].clamp(min=-1), weight, ignore_index=-1, reduction='sum')


def box_losses(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance of boxes, and 1 minus their generalised IoU.

    The generalised IoU is the IoU minus the fraction of the smallest enclosing box that belongs to neither box.

    Args:
        boxes: (..., 4) float, (centre x, centre y, width, height).
        truth: (..., 4) float, broadcastable.

    Returns:
        (...) float each; the second in [0, 2].

    Source: DETR, section 3.1 and A.2; Rezatofighi et al., Generalized intersection over union.
    """
    (low, high), (true_low, true_high) = (
        (box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2) for box in (boxes, truth)
    )
    overlap = (torch.minimum(high, true_high) - torch.maximum(low, true_low)).clamp(min=0).prod(-1)
    around = (torch.maximum(high, true_high) - torch.minimum(low, true_low)).prod(-1)
    union = boxes[..., 2:].prod(-1) + truth[..., 2:].prod(-1) - overlap
    tiny = torch.finfo(boxes.dtype).tiny
    giou = overlap / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)
    return (boxes - truth).abs().sum(-1), 1 - giou
