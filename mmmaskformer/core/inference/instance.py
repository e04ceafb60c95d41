"""Instance inference: masks that may overlap, each with a class, a score and a box."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.core.inference.checks import checked_inference
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.numerics import at_least_float32


class InstanceResult(NamedTuple):
    """The instances of one image.

    Attributes:
        labels: (n,) int64, things only.
        scores: (n,) float in [0, 1]: class probability times the mean probability inside the mask.
        masks: (n, H, W) bool.
        boxes_xyxy: (n, 4) float32 in pixels, the right and lower side just outside the mask; zeros for empty masks.
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor
    boxes_xyxy: Tensor


@checked_inference
def instance_inference(
    class_logits: Tensor, masks: QueryMasks, *, is_thing: Tensor, max_per_image: int = 100, score_threshold: float = 0.0
) -> InstanceResult:
    """Instance segmentation of one image. The published system has no instance inference; this is the method of its
    successors.

    The ``max_per_image`` best pairs of query and class are selected, those of stuff classes are dropped, and each score
    is multiplied by the confidence of the mask. A query may occur with several classes; its mask is computed once.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        is_thing: (K,) bool.
        max_per_image: number of pairs selected.
        score_threshold: class probabilities must be above it.

    Returns:
        Instances in descending order of class probability.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: Cheng et al., Mask2Former, instance inference; MMDetection's MaskFormerFusionHead gives the same.
    """
    class_probs = at_least_float32(class_logits).softmax(-1)[:, :-1]
    num_classes = class_probs.shape[1]
    scores, pairs = class_probs.flatten().topk(min(max_per_image, class_probs.numel()))
    labels = pairs % num_classes
    chosen = is_thing[labels] & (scores > score_threshold)
    scores, labels, queries = scores[chosen], labels[chosen], pairs[chosen] // num_classes
    queries, position = queries.unique(return_inverse=True)
    binary, sureness = _binary_masks(masks, queries)
    return InstanceResult(labels, scores * sureness[position], binary[position], boxes_of(binary)[position])


def _binary_masks(masks: QueryMasks, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (n, H, W) bool of some queries and the mean probability (n,) inside each."""
    none = at_least_float32(masks.like).new_zeros(0)
    parts, sureness = [none.new_zeros(0, *masks.out_size, dtype=torch.bool)], [none]
    for _, logits in masks.chunks(queries):
        inside = logits > 0
        parts.append(inside)
        sureness.append((logits.sigmoid_() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6))
    return torch.cat(parts), torch.cat(sureness)


def boxes_of(masks: Tensor) -> Tensor:
    """Smallest boxes around masks.

    Args:
        masks: (n, H, W) bool.

    Returns:
        (n, 4) float32 as x1, y1, x2, y2 in pixels, with x2 and y2 just outside; zeros for an empty mask.
    """
    sides = []
    for axis in (1, 2):  # over rows to find the columns, over columns to find the rows
        seen = masks.any(axis)
        length = seen.shape[1]
        start = seen.to(torch.uint8).argmax(1)
        sides.append((start, (length - seen.flip(1).to(torch.uint8).argmax(1)) * seen.any(1)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1).float()
