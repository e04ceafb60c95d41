"""The types on the arrows between model, matcher, criterion and inference.

Letters used for shapes everywhere: B images; L supervised decoder layers, the last one final; Q queries; K classes
without "no object", whose index is K; C embedding width; H, W padded network input in pixels; h, w grid of the mask
logits; M true segments of one image; P pixels, flattened. Sizes are always (height, width).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.folding import LastConv, multiply_out, multiply_out_images

NO_SEGMENT = -1
"""Value of `MaskTarget.segment_map` where a pixel belongs to no segment."""

Matches = list[list[tuple[Tensor, Tensor]]]
"""``matches[layer][image]`` is (query_idx, target_idx): int64 tensors of one length, query_idx ascending."""


class MaskPrediction(NamedTuple):
    """What one decoder layer predicts, kept as the two factors of the mask logits.

    The product of the factors is made only for the queries and the pixels that somebody asks for: (B, Q, h, w) for
    every layer would be most of the memory of a training step.

    Attributes:
        class_logits: (B, Q, K + 1) float, before softmax.
        mask_embed: (B, Q, C) float, one embedding per query.
        mask_features: (B, C, h, w) float, one embedding per pixel; the same tensor in all layers of one forward pass.
            None if ``last_conv`` is to make the mask logits without them.
        last_conv: None, or what made the mask features; these are then mere values, and whoever wants a gradient gets
            it from `mask_logits` or `multiply_out_images`.

    Source: paper, section 3.2 (mask classification) and figure 2.
    """

    class_logits: Tensor
    mask_embed: Tensor
    mask_features: Tensor | None
    last_conv: LastConv | None = None

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.class_logits.shape[1]

    @property
    def mask_size(self) -> tuple[int, int]:
        """(h, w)."""
        pixels = self.last_conv.x if self.mask_features is None else self.mask_features
        height, width = pixels.shape[-2:]
        return height, width

    def mask_logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        """Multiply out the mask logits of one image.

        Args:
            image: position in the batch.
            query_idx: (n,) int64, the queries wanted; all Q if None.

        Returns:
            (n, h, w) float, before sigmoid.
        """
        embed = self.mask_embed[image]
        if query_idx is not None:
            embed = embed[query_idx]
        if self.mask_features is None:
            return self.last_conv.of_image(image).mask_logits(embed)
        # Tracing needs no gradient, and mmengine's counter of FLOPs cannot read the product that takes the fold.
        if self.last_conv is None or torch.jit.is_tracing():
            return multiply_out(embed, self.mask_features[image])
        return multiply_out_images(embed, [len(embed)], self.mask_features[image, None], self.last_conv.of_image(image))


class MaskTarget(NamedTuple):
    """The true segments of one image, on any one grid.

    Segments that do not overlap (semantic and panoptic ground truth) are one map of segment indices; segments that
    may overlap (instances) are M masks. Exactly one of the two is given.

    Attributes:
        labels: (M,) int64 class of each segment, in [0, K).
        segment_map: (H, W) integer, index in [0, M) of the segment at each pixel, `NO_SEGMENT` for none.
        masks: (M, H, W) bool.
    """

    labels: Tensor
    segment_map: Tensor | None = None
    masks: Tensor | None = None

    @property
    def num_segments(self) -> int:
        """M."""
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = (self.masks if self.segment_map is None else self.segment_map).shape[-2:]
        return height, width

    def masks_of(self, target_idx: Tensor, out: Tensor | None = None) -> Tensor:
        """Masks of some segments, in one pass over the segment map.

        Args:
            target_idx: (n,) int64.
            out: (n, H, W) of a number type, gets 1 inside the segment and 0 elsewhere; None for a new bool tensor.

        Returns:
            (n, H, W).
        """
        if self.segment_map is None:
            return self.masks[target_idx] if out is None else out.copy_(self.masks[target_idx])
        # Writing the comparison as numbers at once is many times faster than converting a bool tensor.
        return torch.eq(self.segment_map, target_idx.to(self.segment_map.dtype)[:, None, None], out=out)

    def all_masks(self) -> Tensor:
        """Masks (M, H, W) bool of all segments, the target's own where it has any."""
        if self.segment_map is None:
            return self.masks
        return self.masks_of(torch.arange(self.num_segments, device=self.segment_map.device))

    def areas(self) -> Tensor:
        """Pixels (M,) int64 of every segment."""
        if self.segment_map is None:
            return self.masks.sum((1, 2))
        areas = torch.zeros(self.num_segments + 1, dtype=torch.long, device=self.labels.device)
        index = self.segment_map.flatten().long()
        return areas.index_add_(0, torch.where(index < 0, self.num_segments, index), torch.ones_like(index))[:-1]

    def resized(self, size: tuple[int, int]) -> 'MaskTarget':
        """Sample the segments on another grid, taking pixel ⌊i · H / h⌋ as `torch`'s mode 'nearest' does.

        Args:
            size: (h, w).

        Returns:
            The same segments with maps of that size.
        """
        if self.segment_map is None:
            return self._replace(masks=sample_nearest(self.masks, size))
        return self._replace(segment_map=sample_nearest(self.segment_map, size))


def sample_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample maps of any type on another grid, taking pixel ⌊i · H / h⌋ as `torch`'s mode 'nearest' does.

    Args:
        maps: (..., H, W).
        size: (h, w).

    Returns:
        (..., h, w) of the same dtype.
    """
    rows = _nearest_index(maps.shape[-2], size[0], maps.device)
    columns = _nearest_index(maps.shape[-1], size[1], maps.device)
    return maps[..., rows[:, None], columns]


def _nearest_index(source: int, wanted: int, device: torch.device) -> Tensor:
    """Source index of each of ``wanted`` positions; torch itself computes it, so that rounding agrees with torch's."""
    positions = torch.arange(source, dtype=torch.float32, device=device)
    return F.interpolate(positions[None, None], size=wanted, mode='nearest')[0, 0].long()
