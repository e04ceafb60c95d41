"""Resizing of maps from the network's grid to the output.

All resizing of the post-processing is in this module. The published system up-samples the mask logits to the padded
network input, removes the padding and resizes to the output; both steps are bilinear, so their order affects rounding
and values near borders.
"""

import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize float maps (n, h, w) bilinearly to (n, *size), with ``align_corners=False`` and without antialiasing."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if not len(maps):
        return maps.new_zeros(0, *size)  # torch's resize refuses an empty batch
    return F.interpolate(maps[None], size=tuple(size), mode='bilinear', align_corners=False)[0]


def crop_and_resize(maps: Tensor, image_size: tuple[int, int], out_size: tuple[int, int]) -> Tensor:
    """Remove the padding, then resize.

    Args:
        maps: (n, H, W) float at the padded input size.
        image_size: (height, width) of the image within it, at the top left.
        out_size: (height, width) of the output.

    Returns:
        (n, *out_size) float.
    """
    return resize(maps[:, : image_size[0], : image_size[1]], out_size)
