"""Matching and training by boxes, as in DETR: the boxes of true segments, their costs and losses.

The paper compares it with matching by masks (table 5). Boxes are (centre x, centre y, width, height) as fractions of
the padded input's width and height.
"""

import torch
from torch import Tensor, nn

from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.structures import Layers, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.parts import Cost, padded_index


class BoxCost(Cost):
    """L1 distance of boxes, and 1 minus their generalised IoU; the cost of a segment without pixels is 0.

    Computes `equations.box_losses` of all pairs.

    Source: paper, section 4.3 and table 5; DETR, sections 3.1 and A.2. Differs: boxes are fractions of the padded
    input instead of the image, since padding is attended to.
    """

    names = ('box', 'giou')
    uses_boxes = True

    def forward(self, layers: Layers, targets: Targets) -> tuple[Tensor, Tensor]:
        """See `Cost.forward`; float32 or float64.

        Raises:
            ValueError: if the network predicts no boxes.
        """
        boxes = at_least_float32(predicted_boxes(layers))
        truth, present = target_boxes(targets)
        index = padded_index(targets)
        truth = truth.to(boxes.dtype)[index][:, None]
        distance, giou = equations.box_losses(boxes[:, :, :, None], truth[None])
        counts = present[index][:, None]
        return distance * counts, giou * counts


class BoxLoss(nn.Module):
    """Like `BoxCost`, for matched pairs; a segment without pixels does not contribute.

    Attributes:
        names: names of its values.
    """

    names = ('box', 'giou')

    def forward(self, boxes_cxcywh: Tensor, targets: Targets, segment: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of boxes and the segments matched to them.

        Args:
            boxes_cxcywh: (N, 4) float, with gradients.
            targets: targets of the batch.
            segment: (N,) int64, position of each segment among those of the batch.

        Returns:
            (N,) float32 or float64 each.
        """
        boxes = at_least_float32(boxes_cxcywh)
        truth, present = target_boxes(targets)
        distance, giou = equations.box_losses(boxes, truth.to(boxes.dtype)[segment])
        return distance * present[segment], giou * present[segment]


def predicted_boxes(layers: Layers) -> Tensor:
    """Boxes (L, B, Q, 4) of all layers.

    Raises:
        ValueError: if there are none.
    """
    if layers.boxes_cxcywh is None:
        raise ValueError(
            'matching or training by boxes, but the network predicts none. Fix: use MaskClassifier, which has a box '
            'head if the matcher or the criterion uses boxes (outside of a config: with_boxes=True)'
        )
    return layers.boxes_cxcywh


def target_boxes(targets: Targets) -> tuple[Tensor, Tensor]:
    """Boxes of all true segments, from their masks.

    Args:
        targets: targets of a batch, N segments in all, on a grid (H, W).

    Returns:
        boxes_cxcywh: (N, 4) float32 in [0, 1], from the outer edge of the first pixel to that of the last.
        present: (N,) bool, whether the segment has a pixel; otherwise its box is undefined.
    """
    height, width = targets.size
    sides = _seen_in_maps(targets) if targets.segment_maps is not None else _seen_in_masks(targets.own_masks)
    rows, columns = (_first_and_last(seen) for seen in sides)
    low = torch.stack([columns[0] / width, rows[0] / height], -1)
    high = torch.stack([(columns[1] + 1) / width, (rows[1] + 1) / height], -1)
    return torch.cat([(low + high) / 2, high - low], -1), sides[0].any(1)


def _seen_in_masks(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, H) and columns (N, W) bool in which each segment has a pixel."""
    return masks.any(2), masks.any(1)


def _seen_in_maps(targets: Targets) -> tuple[Tensor, Tensor]:
    """Like `_seen_in_masks`, for maps, in one pass over the pixels."""
    assert targets.segment_maps is not None
    maps, total = targets.segment_maps.long(), len(targets.labels)
    starts = torch.tensor(targets.starts).to(maps.device, non_blocking=True)[:, None, None]
    segment = torch.where(maps < 0, total, maps + starts)
    seen = []
    for axis, side in ((1, maps.shape[1]), (2, maps.shape[2])):
        shape = [1, 1, 1]
        shape[axis] = -1
        place = segment * side + torch.arange(side, device=maps.device).view(shape)
        found = torch.zeros((total + 1) * side, dtype=torch.bool, device=maps.device)
        found[place.flatten()] = True
        seen.append(found.view(total + 1, side)[:-1])
    return seen[0], seen[1]


def _first_and_last(seen: Tensor) -> tuple[Tensor, Tensor]:
    """First and last position (N,) int64 that is set in each row (N, S) bool."""
    found = seen.to(torch.uint8)
    return found.argmax(1), seen.shape[1] - 1 - found.flip(1).argmax(1)
