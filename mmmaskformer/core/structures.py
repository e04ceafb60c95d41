"""The types that model, matcher, criterion and inference exchange.

Letters used for shapes everywhere: B images; L supervised decoder layers, the last one final; Q queries; K classes
without "no object", whose index is K; C embedding width; H, W padded network input in pixels; h, w grid of the mask
logits; M true segments of one image; P pixels, flattened. Sizes are always (height, width).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.core.masks import Masks, join_layers
from mmmaskformer.core.shapes import check_batch, check_layers, check_target, index_map

NO_SEGMENT = -1
"""Value of a map of segment indices where a pixel is labelled but belongs to no segment."""

IGNORED = -2
"""Value of a map of segment indices where a pixel is not labelled: ignored, void, crowded or padded."""


class MaskPrediction(NamedTuple):
    """What one decoder layer predicts.

    Attributes:
        class_logits: (B, Q, K + 1) float, before softmax.
        masks: the mask logits (B, Q, h, w) of the same queries, not multiplied out, since those of all layers would
            take most of the memory of a training step.
        boxes_cxcywh: (B, Q, 4) float in [0, 1], from a network that is matched or trained with boxes: centre x, centre
            y, width and height as fractions of the padded input. None for others.

    Source: paper, section 3.2 (mask classification) and figure 2.
    """

    class_logits: Tensor
    masks: Masks
    boxes_cxcywh: Tensor | None = None

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.class_logits.shape[1]

    def mask_logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (n, h, w) of some queries (n,) int64 of one image, all Q if None; before sigmoid."""
        return self.masks.logits(image, query_idx)


class Layers(NamedTuple):
    """The predictions of all L layers of a training step, joined once.

    Attributes:
        class_logits: (L, B, Q, K + 1) float.
        groups: runs of layers whose masks share their features, and the masks of each, see `join_layers`. Usually all
            layers are one run.
        boxes_cxcywh: (L, B, Q, 4) float, see `MaskPrediction`; None if a layer has none.
    """

    class_logits: Tensor
    groups: list[tuple[range, Masks]]
    boxes_cxcywh: Tensor | None = None

    @classmethod
    def of(cls, predictions: 'Layers | Sequence[MaskPrediction]') -> 'Layers':
        """Join a list of predictions; joined layers are returned unchanged.

        Raises:
            ValueError: if the list is empty, or the predictions are inconsistent.
        """
        if isinstance(predictions, Layers):
            return predictions
        check_layers(predictions)
        with torch.autocast(predictions[0].class_logits.device.type, enabled=False):
            class_logits = torch.stack([prediction.class_logits for prediction in predictions])
            boxes = [prediction.boxes_cxcywh for prediction in predictions if prediction.boxes_cxcywh is not None]
            stacked = torch.stack(boxes) if len(boxes) == len(predictions) else None
            return cls(class_logits, join_layers([prediction.masks for prediction in predictions]), stacked)

    @property
    def device(self) -> torch.device:
        """Device of the predictions."""
        return self.class_logits.device


class MaskTarget(NamedTuple):
    """The true segments of one image, on a common grid.

    Segments that do not overlap (semantic and panoptic ground truth) are one map of segment indices; segments that
    may overlap (instances) are M masks. Exactly one of the two is given.

    Attributes:
        labels: (M,) int64 class of each segment, in [0, K).
        segment_map: (H, W) integer, index in [0, M) of the segment at each pixel; `NO_SEGMENT` or `IGNORED` for none.
        masks: (M, H, W) bool.
        ignored: (H, W) bool, pixels that are not labelled, except those of a segment. Used only with ``masks``, since a
            segment map marks these pixels itself; None if there are none.
    """

    labels: Tensor
    segment_map: Tensor | None = None
    masks: Tensor | None = None
    ignored: Tensor | None = None

    @property
    def num_segments(self) -> int:
        """M."""
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        maps = self.own_masks if self.segment_map is None else self.segment_map
        height, width = maps.shape[-2:]
        return height, width

    @property
    def own_masks(self) -> Tensor:
        """Masks (M, H, W) bool of a target without a segment map."""
        assert self.masks is not None, 'a target has masks where it has no segment_map'
        return self.masks

    def masks_of(self, target_idx: Tensor, out: Tensor | None = None) -> Tensor:
        """Masks of some segments, in one pass over the segment map.

        Args:
            target_idx: (n,) int64.
            out: (n, H, W) of a number type, gets 1 inside the segment and 0 elsewhere; None for a new bool tensor.

        Returns:
            (n, H, W).
        """
        if self.segment_map is None:
            return self.own_masks[target_idx] if out is None else out.copy_(self.own_masks[target_idx])
        indices = self._indices()
        # Writing the comparison as numbers at once is many times faster than converting a bool tensor.
        return torch.eq(indices, target_idx.to(indices.dtype)[:, None, None], out=out)

    def all_masks(self) -> Tensor:
        """Masks (M, H, W) bool of all segments; the stored masks if there are any."""
        if self.segment_map is None:
            return self.own_masks
        return self.masks_of(torch.arange(self.num_segments, device=self.segment_map.device))

    def areas(self) -> Tensor:
        """Pixels (M,) int64 of every segment."""
        if self.segment_map is None:
            return self.own_masks.sum((1, 2))
        areas = torch.zeros(self.num_segments + 1, dtype=torch.long, device=self.labels.device)
        index = self.segment_map.flatten().long()
        return areas.index_add_(0, torch.where(index < 0, self.num_segments, index), torch.ones_like(index))[:-1]

    def ignored_pixels(self) -> Tensor:
        """Pixels (H, W) bool that are not labelled."""
        if self.segment_map is not None:
            return self._indices() == IGNORED
        return self.own_masks.new_zeros(self.size) if self.ignored is None else self.ignored

    def _indices(self) -> Tensor:
        """The segment map, in a type that holds every index."""
        assert self.segment_map is not None, 'a target has a segment_map where it has no masks'
        return index_map(self.segment_map, self.num_segments)


@dataclass(frozen=True, eq=False)
class Targets:
    """The true segments of a batch at the padded input size; a sequence of B `MaskTarget`.

    If no segments overlap, each image is a map of segment indices; otherwise there is a mask for each segment.

    Attributes:
        labels: (N,) int64 class of each segment, those of one image after the other.
        counts: number of segments of each of the B images, N in all; available on the host.
        segment_maps: (B, H, W) integer: index of the segment within its image, `NO_SEGMENT` or `IGNORED`; always of a
            signed type.
        masks: (N, H, W) bool.
        ignored: (B, H, W) bool, pixels that are not labelled, except those of a segment. Used only with ``masks``; None
            if there are none.
        leave_out_ignored: whether ignored pixels are excluded from costs and losses, instead of counting as background
            of every segment, as published.
    """

    labels: Tensor
    counts: tuple[int, ...]
    segment_maps: Tensor | None = None
    masks: Tensor | None = None
    ignored: Tensor | None = None
    leave_out_ignored: bool = False

    def __post_init__(self) -> None:
        """Check dtypes and shapes, but not the values of pixels.

        Raises:
            ValueError: if they are inconsistent.
        """
        check_batch(self.labels, self.counts, self.segment_maps, self.masks, self.ignored)
        object.__setattr__(self, 'labels', self.labels.long())  # torch's indexing takes no other integers
        if self.segment_maps is not None:
            object.__setattr__(self, 'segment_maps', index_map(self.segment_maps, max(self.counts, default=0)))

    @classmethod
    def of(cls, targets: 'Targets | Sequence[MaskTarget]') -> 'Targets':
        """Join a list of targets; a batch is returned unchanged.

        Raises:
            ValueError: if the list is empty, targets differ in size, one has both a map and masks or neither, or as in
                the constructor.
        """
        if isinstance(targets, Targets):
            return targets
        if not isinstance(targets, Sequence):
            raise ValueError(f'targets are a {type(targets).__name__}; expected Targets, or a list of MaskTarget')
        if not len(targets):
            raise ValueError('there are no targets; expected one per image of the batch')
        for image, target in enumerate(targets):
            check_target(image, target)
        sizes = {target.size for target in targets}
        if len(sizes) > 1:
            raise ValueError(f'the targets of a batch have the sizes {sorted(sizes)}; expected one. Fix: pad them')
        labels, counts = torch.cat([x.labels.long() for x in targets]), tuple(x.num_segments for x in targets)
        maps = [index_map(x.segment_map, max(counts)) for x in targets if x.segment_map is not None]
        if len(maps) == len(targets):
            return cls(labels, counts, segment_maps=torch.stack(maps))
        ignored = [target.ignored_pixels() for target in targets]
        masks = torch.cat([target.all_masks() for target in targets])
        return cls(labels, counts, masks=masks, ignored=torch.stack(ignored))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, image: int) -> MaskTarget:
        image = range(len(self))[image]
        segments = slice(self.starts[image], self.starts[image] + self.counts[image])
        if self.segment_maps is not None:
            return MaskTarget(self.labels[segments], segment_map=self.segment_maps[image])
        ignored = None if self.ignored is None else self.ignored[image]
        return MaskTarget(self.labels[segments], masks=self.own_masks[segments], ignored=ignored)

    def __iter__(self) -> Iterator[MaskTarget]:
        return (self[image] for image in range(len(self)))

    @property
    def own_masks(self) -> Tensor:
        """Masks (N, H, W) bool of a batch without segment maps."""
        assert self.masks is not None, 'targets have masks where they have no segment_maps'
        return self.masks

    @property
    def starts(self) -> list[int]:
        """Position of the first segment of each image among those of the batch."""
        return [0, *accumulate(self.counts)][:-1]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        maps = self.own_masks if self.segment_maps is None else self.segment_maps
        height, width = maps.shape[-2:]
        return height, width

    @property
    def counted(self) -> Tensor | None:
        """The pixels (B, H, W) bool that take part in mask costs and losses; None if all do."""
        if not self.leave_out_ignored:
            return None
        if self.segment_maps is not None:
            return self.segment_maps != IGNORED
        if self.ignored is None:
            return None
        in_segment = torch.stack([masks.any(0) for masks in self.own_masks.split(list(self.counts))])
        return in_segment | ~self.ignored

    def leaving_out_ignored(self, leave_out: bool) -> 'Targets':
        """The same segments with another treatment of ignored pixels."""
        return replace(self, leave_out_ignored=leave_out)

    def masks_of(self, counts: Sequence[int], segment: Tensor) -> Tensor:
        """The masks of some segments of every image.

        Args:
            counts: number of requested segments of each of the B images, n in all.
            segment: (n,) int64, index of each within its image, one image after the other.

        Returns:
            (n, H, W) bool.
        """
        return torch.cat(
            [target.masks_of(part) for target, part in zip(self, segment.split(list(counts)), strict=True)]
        )
