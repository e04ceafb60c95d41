"""Semantic inference: class probabilities times mask probabilities, summed over the queries.

Two orders of the published system: the scores are computed at the padded network input and then cropped and resized
('after', the default), or the mask logits are cropped and resized first ('before', its panoptic models). They give
slightly different numbers, since the sigmoid lies in between.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (n, h, w) float maps to (n, size), pixel centres aligned, no antialiasing."""
    return F.interpolate(maps[None], size=tuple(size), mode='bilinear', align_corners=False)[0]


def crop_and_resize(maps: Tensor, image_size: tuple[int, int], out_size: tuple[int, int]) -> Tensor:
    """Remove the padding, then resize.

    Args:
        maps: (n, H, W) float at the padded input size.
        image_size: (height, width) of the image within it, at the top left.
        out_size: (height, width) wanted.

    Returns:
        (n, *out_size) float.
    """
    return resize(maps[:, : image_size[0], : image_size[1]], out_size)


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Score of every class at every pixel of the mask logits' grid.

    The probability of "no object" is dropped and the others are not renormalised; the scores of a pixel do not sum
    to 1.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.

    Returns:
        (K, h, w) float, at least 0.

    Source: paper, section 3.3 (semantic inference); official code, MaskFormer.semantic_inference.
    """
    class_probs = class_logits.softmax(-1)[:, :-1]
    return torch.einsum('qk,qhw->khw', class_probs, mask_logits.sigmoid())


def scores_at_input(class_logits: Tensor, mask_logits: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Scores at the padded network input: the first half of the order 'after', whose second half a host may do.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.
        input_size: (H, W).

    Returns:
        (K, H, W) float.
    """
    return semantic_scores(class_logits, resize(mask_logits, input_size))


def semantic_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    input_size: tuple[int, int],
    image_size: tuple[int, int],
    out_size: tuple[int, int],
    resize_masks_first: bool = False,
) -> Tensor:
    """Class scores of one image at the size wanted.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float, on the network's output grid.
        input_size: (H, W) of the padded network input.
        image_size: (height, width) of the image within the input.
        out_size: (height, width) wanted, usually the original image's.
        resize_masks_first: False for the order 'after', True for 'before'.

    Returns:
        (K, *out_size) float; the label map is its arg-max over K.

    Source: paper, section 3.3; official code, MaskFormer.forward.
    """
    if resize_masks_first:
        mask_logits = crop_and_resize(resize(mask_logits, input_size), image_size, out_size)
        return semantic_scores(class_logits, mask_logits)
    return crop_and_resize(scores_at_input(class_logits, mask_logits, input_size), image_size, out_size)
