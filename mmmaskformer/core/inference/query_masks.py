"""Mask logits with the sizes for post-processing: for one image, and for a batch passed between the heads of a host."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

from torch import Tensor

from mmmaskformer.core.inference.resize import crop_and_resize, resize
from mmmaskformer.core.masks import Masks, Plain
from mmmaskformer.core.numerics import at_least_float32

CHUNK_ELEMENTS = {'cpu': 2_000_000, 'cuda': 40_000_000}
"""Number of mask logits at output size that are stored at a time, by device."""


class QueryMasks(NamedTuple):
    """The masks of all queries of one image, not multiplied out, with the sizes for post-processing.

    Attributes:
        masks: masks of the image, as a batch of one.
        input_size: (H, W) of the padded network input.
        image_size: (height, width) of the image within it, at the top left.
        out_size: (height, width) of the output, usually the original image's.
        flipped: whether the image was flipped horizontally; the masks are flipped back.
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
        """A tensor with the device and dtype of the masks."""
        return self.masks.like

    def coarse_logits(self, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (n, h, w) of some queries, all if None, on the network's grid; at least float32."""
        return at_least_float32(self.masks.logits(0, query_idx))

    def logits(self, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (n, *out_size) of some queries, all if None; at least float32."""
        return self._resized(self.coarse_logits(query_idx))

    def chunks(self, query_idx: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Like `logits`, in chunks of bounded memory: position of the chunk's first query, and (n', *out_size)."""
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

    MMDetection's detector passes them from the head to the fusion head. The host's own fusion head iterates over the
    images and gets (Q, H, W) logits at the padded input size, as it expects; ours uses the factors.

    Args:
        masks: masks of B images.
        input_size: (H, W) of the padded network input.
        check: function that raises an error if the logits are not finite. It is called before logits are returned, but
            not by `of_image`, whose caller must call it after computing the results, to synchronise with a GPU only
            once.
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
