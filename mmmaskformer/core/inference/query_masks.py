"""Mask logits from the network's grid to the output's, for the queries that are needed.

Every resize of the post-processing stands here. The published system up-samples the mask logits to the padded network
input, removes the padding and resizes to the output; both steps are bilinear, so their order matters to rounding and
near borders.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.masks import Masks, Plain
from mmmaskformer.core.numerics import at_least_float32

CHUNK_ELEMENTS = {'cpu': 2_000_000, 'cuda': 40_000_000}
"""Mask logits of the output's size that are held at a time, by device."""


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (n, h, w) float maps to (n, size), pixel centres aligned, no antialiasing."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if not len(maps):
        return maps.new_zeros(0, *size)  # torch's own resize refuses no maps
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


class QueryMasks(NamedTuple):
    """The masks of all queries of one image, not multiplied out, with the sizes on the way to the output.

    Attributes:
        masks: of the image, as a batch of one.
        input_size: (H, W) of the padded network input.
        image_size: (height, width) of the image within it, at the top left.
        out_size: (height, width) wanted, usually the original image's.
        flipped: whether the image was mirrored left to right; the masks are mirrored back.
    """

    masks: Masks
    input_size: tuple[int, int]
    image_size: tuple[int, int]
    out_size: tuple[int, int]
    flipped: bool = False

    @classmethod
    def of_logits(
        cls,
        mask_logits: Tensor,
        input_size: tuple[int, int],
        image_size: tuple[int, int],
        out_size: tuple[int, int],
        flipped: bool = False,
    ) -> 'QueryMasks':
        """The masks of an image from their logits (Q, h, w)."""
        return cls(Plain(mask_logits[None]), input_size, image_size, out_size, flipped)

    @property
    def like(self) -> Tensor:
        """A tensor of the device and the dtype of the masks."""
        return self.masks.like

    def coarse_logits(self, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (n, h, w) of some queries, all if None, on the network's grid; at least float32."""
        return at_least_float32(self.masks.logits(0, query_idx))

    def logits(self, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (n, *out_size) of some queries, all if None; at least float32."""
        return self._resized(self.coarse_logits(query_idx))

    def chunks(self, query_idx: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The same in pieces of bounded memory: position of the first query of the piece, and (n', *out_size)."""
        limit = CHUNK_ELEMENTS.get(self.like.device.type, CHUNK_ELEMENTS['cuda'])
        size = max(1, limit // (self.out_size[0] * self.out_size[1]))
        coarse_logits = self.coarse_logits(query_idx)
        for start in range(0, len(query_idx), size):
            yield start, self._resized(coarse_logits[start : start + size])

    def _resized(self, coarse_logits: Tensor) -> Tensor:
        logits = crop_and_resize(resize(coarse_logits, self.input_size), self.image_size, self.out_size)
        return logits.flip(-1) if self.flipped else logits


class DeferredMaskLogits(Sequence[Tensor]):
    """The mask logits of a batch, computed image by image on access.

    What MMDetection's detector carries from the head to the fusion head: its own fusion head iterates over the images
    and gets what it expects, (Q, H, W) logits at the padded input size; ours uses the factors.

    Args:
        masks: of a batch of B.
        input_size: (H, W) of the padded network input.
        check: raises an error if the logits are not usable. It is called before logits are given out, but not by
            `of_image`: who uses that calls it when the results are there, so as to wait for a GPU only once.
    """

    def __init__(self, masks: Masks, input_size: tuple[int, int], check: Callable[[], None] = lambda: None):
        self.masks = masks
        self.input_size = input_size
        self.check = check

    def __len__(self) -> int:
        return len(self.masks.like)

    @overload
    def __getitem__(self, image: int) -> Tensor: ...

    @overload
    def __getitem__(self, image: slice) -> list[Tensor]: ...

    def __getitem__(self, image: int | slice) -> Tensor | list[Tensor]:
        if isinstance(image, slice):
            return [self[position] for position in range(len(self))[image]]
        return resize(self.coarse_logits(range(len(self))[image]), self.input_size)

    def coarse_logits(self, image: int) -> Tensor:
        """Mask logits (Q, h, w) of one image on the network's grid; at least float32."""
        self.check()
        return at_least_float32(self.masks.logits(image))

    def of_image(
        self, image: int, image_size: tuple[int, int], out_size: tuple[int, int], *, flipped: bool = False
    ) -> QueryMasks:
        """The masks of one image, not multiplied out; see `QueryMasks` for the arguments."""
        return QueryMasks(self.masks.of_image(image), self.input_size, image_size, out_size, flipped)


def confident_queries(class_logits: Tensor, object_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The queries that found something: the best class is not "no object" and its probability is high enough.

    Args:
        class_logits: (Q, K + 1) float.
        object_threshold: the probability must be above it.

    Returns:
        (query_idx, labels, scores): (n,) int64, int64 and float, query_idx ascending.
    """
    scores, labels = at_least_float32(class_logits).softmax(-1).max(-1)
    query_idx = ((labels != class_logits.shape[1] - 1) & (scores > object_threshold)).nonzero()[:, 0]
    return query_idx, labels[query_idx], scores[query_idx]


def best_query(class_logits: Tensor) -> Tensor:
    """Highest probability of a class other than "no object" over all queries, a scalar tensor."""
    return at_least_float32(class_logits).softmax(-1)[:, :-1].max()


def assign_pixels(masks: QueryMasks, query_idx: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give every pixel to the query that fits it best; the first one wins a tie.

    Args:
        masks: of the image.
        query_idx: (n,) int64, the queries that take part; at least one.
        scores: (n,) float, each query's weight of its mask probability; None compares the mask logits instead.

    Returns:
        (winner, own_area): (H, W) int64 position in ``query_idx``; (n,) int64 number of pixels where the query's
        own mask probability is at least one half.
    """
    best: Tensor | None = None
    winner: Tensor | None = None
    own_areas = []
    for start, values in masks.chunks(query_idx):
        if scores is not None:
            values = values.sigmoid_()
        own_areas.append((values >= (0 if scores is None else 0.5)).flatten(1).sum(1))
        if scores is not None:
            values *= scores[start : start + len(values), None, None]
        value, index = values.max(0)
        if best is None or winner is None:
            best, winner = value, index
        else:
            winner = torch.where(value > best, index + start, winner)
            best = torch.maximum(value, best)
    assert winner is not None, 'at least one query takes part'
    return winner, torch.cat(own_areas)
