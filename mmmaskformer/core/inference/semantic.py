"""Semantic inference: class probabilities times mask probabilities, summed over the queries.

Two orders of the published system: the scores are computed at the padded network input and then cropped and resized
('after', the default), or the mask logits are cropped and resized first ('before', its panoptic models). They give
slightly different numbers, since the sigmoid lies in between.
"""

import torch
from torch import Tensor

from mmmaskformer.core.inference.checks import check_logits, checked_inference
from mmmaskformer.core.inference.queries import confident_queries
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.resize import crop_and_resize, resize
from mmmaskformer.core.numerics import at_least_float32


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Score of every class at every pixel of the mask logits' grid.

    The probability of "no object" is dropped and the others are not renormalised; the scores of a pixel do not sum
    to 1.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.

    Returns:
        (K, h, w) float32 or float64, at least 0.

    Raises:
        ValueError: if the logits are inconsistent, such as those of a batch; values are not checked.

    Source: paper, section 3.3 (semantic inference); official code, MaskFormer.semantic_inference.
    """
    check_logits('semantic_scores', class_logits, mask_logits)
    class_probs = at_least_float32(class_logits).softmax(-1)[:, :-1]
    return torch.einsum('qk,qhw->khw', class_probs, at_least_float32(mask_logits).sigmoid())


def scores_at_input(class_logits: Tensor, mask_logits: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Scores at the padded network input: the first half of the order 'after', whose second half a host may do.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.
        input_size: (H, W).

    Returns:
        (K, H, W) float.

    Raises:
        ValueError: if the logits are inconsistent.
    """
    check_logits('scores_at_input', class_logits, mask_logits)
    return semantic_scores(class_logits, resize(mask_logits, input_size))


def general_scores(class_logits: Tensor, mask_logits: Tensor, object_threshold: float = 0.3) -> Tensor:
    """Scores whose arg-max is general inference: for each class, class times mask probability of its best query.

    Every query votes only for its most probable class, and only if it is confident. As maps of scores the result can be
    cropped, resized and averaged like that of semantic inference; the segments of `general_inference` cannot.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.
        object_threshold: class probabilities must be above it; 0.3 is published.

    Returns:
        (K, h, w) float, 0 for classes without a confident query.

    Raises:
        ValueError: if the logits are inconsistent.

    Source: paper, section 3.3 (general inference) and appendix.
    """
    check_logits('general_scores', class_logits, mask_logits)
    query_idx, labels, scores = confident_queries(class_logits, object_threshold)
    result = scores.new_zeros(class_logits.shape[1] - 1, *mask_logits.shape[1:])
    for query, label, score in zip(query_idx.tolist(), labels.tolist(), scores, strict=True):
        result[label] = torch.maximum(result[label], at_least_float32(mask_logits[query]).sigmoid() * score)
    return result


@checked_inference
def semantic_inference(class_logits: Tensor, masks: QueryMasks, *, resize_masks_first: bool = False) -> Tensor:
    """Class scores of one image at the output size.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        resize_masks_first: False for the order 'after', True for 'before'.

    Returns:
        (K, H, W) float at the output size; the label map is its arg-max over K.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 3.3; official code, MaskFormer.forward.
    """
    if resize_masks_first:
        return semantic_scores(class_logits, masks.logits())
    scores = scores_at_input(class_logits, masks.coarse_logits(), masks.input_size)
    scores = crop_and_resize(scores, masks.image_size, masks.out_size)
    return scores.flip(-1) if masks.flipped else scores
