"""The mask logits of the queries of a batch on the grid (h, w), not multiplied out.

They are never needed all at once: the matcher uses some pixels at a time, the losses use the matched queries, inference
uses the confident ones. Three representations have the same interface:

- `Plain`: logits that a network computed itself;
- `Product`: the product of query embeddings E and mask features F, as in the paper;
- `Folded`: the same through the last convolution of the pixel decoder. F is a convolution of some x with a kernel W,
  so the logits E F of n queries are the convolution of x with the n kernels E W, and F is not needed.

All of them carry gradients whenever torch records them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.folding import FoldedProduct, LastConv, multiply_out
from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.upsampling import sample_points

Alike = TypeVar('Alike', bound='Masks')
"""Any of the representations; only masks of the same representation share features and can be joined."""


class Masks(Protocol):
    """The interface of the three representations: the mask logits (B, n, h, w) of n queries of each of B images."""

    @property
    def num_queries(self) -> int:
        """n."""

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""

    @property
    def like(self) -> Tensor:
        """One of its tensors, for device and dtype."""

    def logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        """Mask logits (m, h, w) of some queries (m,) int64 of one image, all n if None; before sigmoid."""

    def matched(self, query: Tensor, counts: Sequence[int]) -> Tensor:
        """Mask logits of some queries of every image.

        Args:
            query: (N,) int64, positions among the B * n queries of the batch, one image after the other; may repeat.
            counts: B numbers of queries, N in all; each may be 0.

        Returns:
            (N, h, w) float32 or float64. Gradients reach all tensors from which the logits are computed, as zeros for
            queries that are not selected.
        """

    def pixel_chunks(self, images: slice, step: int) -> Iterator[Tensor]:
        """Mask logits of all queries of some images, without gradients, ``step`` pixels at a time.

        Returns:
            Tensors (b, p, n) float32 or float64, which may be overwritten; p is ``step`` or less, h * w in all.
        """

    def at_points(self, points: Tensor) -> 'Masks':
        """The mask logits at some points of each image instead of the grid, without gradients.

        Args:
            points: (B, P, 2), (x, y) in [0, 1]; see `sample_points`.

        Returns:
            Mask logits (B, n, 1, P) float32 or float64.
        """

    def of_image(self, image: int) -> 'Masks':
        """The masks of one image, as a batch of one."""

    def multiplied_out(self) -> Tensor:
        """All logits (B, n, h, w), with operations that can be exported for every size."""

    def shares(self, other: 'Masks') -> bool:
        """Whether the logits of both use the same features, so that computing them together saves work."""

    def joined(self: Alike, others: Sequence[Alike]) -> Alike:
        """Join its queries with those of others that share its features; in each image in this order."""

    def parts(self, image: int) -> dict[str, Tensor]:
        """The tensors from which the logits of an image are computed, by names for messages."""


class Plain(NamedTuple):
    """Mask logits of a network that computes them itself; see `Masks` for the methods.

    Attributes:
        all_logits: (B, n, h, w) float, before sigmoid.
    """

    all_logits: Tensor

    @property
    def num_queries(self) -> int:
        return self.all_logits.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return _grid(self.all_logits)

    @property
    def like(self) -> Tensor:
        return self.all_logits

    def logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        return _rows(self.all_logits, image, query_idx)

    def matched(self, query: Tensor, counts: Sequence[int]) -> Tensor:
        return at_least_float32(self.all_logits.flatten(0, 1).index_select(0, query))

    def pixel_chunks(self, images: slice, step: int) -> Iterator[Tensor]:
        for part in self.all_logits[images].detach().flatten(2).split(step, 2):
            part = part.transpose(1, 2)
            yield part.clone() if at_least_float32(part) is part else part.float()

    def at_points(self, points: Tensor) -> 'Plain':
        return Plain(_sampled(self.all_logits, points))

    def of_image(self, image: int) -> 'Plain':
        return Plain(self.all_logits[image, None])

    def multiplied_out(self) -> Tensor:
        return self.all_logits

    def shares(self, other: Masks) -> bool:
        return False

    def joined(self, others: Sequence['Plain']) -> 'Plain':
        return Plain(torch.cat([masks.all_logits for masks in (self, *others)], 1))

    def parts(self, image: int) -> dict[str, Tensor]:
        return {'mask logits': self.all_logits[image]}


class Product(NamedTuple):
    """Mask logits as the product of embeddings and features; see `Masks` for the methods.

    Attributes:
        embed: (B, n, C) float, one embedding per query.
        features: (B, C, h, w) float, one embedding per pixel.
        made_by: the convolution that computed the features, if known. It does not change values or gradients, but makes
            the backward pass of a few queries cheaper.

    Source: paper, section 3.2 (mask classification) and figure 2.
    """

    embed: Tensor
    features: Tensor
    made_by: LastConv | None = None

    @property
    def num_queries(self) -> int:
        return self.embed.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return _grid(self.features)

    @property
    def like(self) -> Tensor:
        return self.embed

    def logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        embed = _rows(self.embed, image, query_idx)
        if self.made_by is not None and _takes_fold():
            return FoldedProduct.apply(
                *self.made_by.of_image(image), self.features[image, None].detach(), embed, [len(embed)]
            )
        return multiply_out(embed, self.features[image].to(embed.dtype))

    def matched(self, query: Tensor, counts: Sequence[int]) -> Tensor:
        embed = at_least_float32(self.embed.flatten(0, 1).index_select(0, query))
        if self.made_by is not None and _takes_fold():
            return FoldedProduct.apply(*self.made_by, self.features.detach(), embed, counts)
        factors = zip(embed.split(counts), self.features.to(embed.dtype), strict=True)
        return torch.cat([multiply_out(*of_image) for of_image in factors])

    def pixel_chunks(self, images: slice, step: int) -> Iterator[Tensor]:
        return _product_chunks(self.embed[images].detach(), self.features[images].detach(), step)

    def at_points(self, points: Tensor) -> 'Product':
        return Product(self.embed.detach(), _sampled(self.features, points))

    def of_image(self, image: int) -> 'Product':
        made_by = None if self.made_by is None else self.made_by.of_image(image)
        return Product(self.embed[image, None], self.features[image, None], made_by)

    def multiplied_out(self) -> Tensor:
        return torch.einsum('bqc,bchw->bqhw', self.embed, self.features)

    def shares(self, other: Masks) -> bool:
        return isinstance(other, Product) and other.features is self.features

    def joined(self, others: Sequence['Product']) -> 'Product':
        return self._replace(embed=torch.cat([masks.embed for masks in (self, *others)], 1))

    def parts(self, image: int) -> dict[str, Tensor]:
        return {'mask embeddings': self.embed[image], 'mask features': self.features[image]}


class Folded(NamedTuple):
    """Mask logits through the folded last convolution of the pixel decoder; see `Masks` for the methods.

    Attributes:
        embed: (B, n, C) float, one embedding per query.
        conv: the convolution that computes the mask features.
    """

    embed: Tensor
    conv: LastConv

    @property
    def num_queries(self) -> int:
        return self.embed.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return _grid(self.conv.x)

    @property
    def like(self) -> Tensor:
        return self.embed

    def logits(self, image: int, query_idx: Tensor | None = None) -> Tensor:
        return self.conv.of_image(image).mask_logits(_rows(self.embed, image, query_idx))

    def matched(self, query: Tensor, counts: Sequence[int]) -> Tensor:
        embed = self.embed.flatten(0, 1).index_select(0, query).split(counts)
        images = (LastConv(*map(at_least_float32, self.conv.of_image(image))) for image in range(len(embed)))
        return torch.cat([conv.mask_logits(of_image) for conv, of_image in zip(images, embed, strict=True)])

    def pixel_chunks(self, images: slice, step: int) -> Iterator[Tensor]:
        with torch.no_grad():
            features = self.conv._replace(x=self.conv.x[images]).mask_features()
        return _product_chunks(self.embed[images].detach(), features, step)

    def at_points(self, points: Tensor) -> Product:
        with torch.no_grad():
            return Product(self.embed.detach(), _sampled(self.conv.mask_features(), points))

    def of_image(self, image: int) -> 'Folded':
        return Folded(self.embed[image, None], self.conv.of_image(image))

    def multiplied_out(self) -> Tensor:
        return Product(self.embed, self.conv.mask_features()).multiplied_out()

    def shares(self, other: Masks) -> bool:
        # Different weights with the same input belong to layers with their own mask features.
        return isinstance(other, Folded) and all(a is b for a, b in zip(self.conv, other.conv, strict=True))

    def joined(self, others: Sequence['Folded']) -> 'Folded':
        return self._replace(embed=torch.cat([masks.embed for masks in (self, *others)], 1))

    def parts(self, image: int) -> dict[str, Tensor]:
        return {
            'mask embeddings': self.embed[image],
            'input of the last convolution': self.conv.x[image],
            'weight of the last convolution': self.conv.weight,
            'bias of the last convolution': self.conv.bias,
        }


def join_layers(layers: Sequence[Masks]) -> list[tuple[range, Masks]]:
    """Join the masks of consecutive layers that share their features.

    Args:
        layers: the masks of L layers, (B, Q, h, w) each.

    Returns:
        Ranges of layers, and the masks (B, number of layers * Q, h, w) of each; in each image one layer after the
        other.
    """
    groups, start = [], 0
    for stop in range(1, len(layers) + 1):
        if stop == len(layers) or not layers[start].shares(layers[stop]):
            joined = layers[start].joined(layers[start + 1 : stop]) if stop - start > 1 else layers[start]
            groups.append((range(start, stop), joined))
            start = stop
    return groups


def _grid(maps: Tensor) -> tuple[int, int]:
    """(h, w) of maps (..., h, w)."""
    height, width = maps.shape[-2:]
    return height, width


def _rows(values: Tensor, image: int, query_idx: Tensor | None) -> Tensor:
    """Values (m, ...) of some queries (m,) of one image, of (B, n, ...); all n if None."""
    return values[image] if query_idx is None else values[image, query_idx]


def _takes_fold() -> bool:
    """Whether the backward pass of a product goes through the convolution that computed its features, if known."""
    # Tracing needs no gradients, and mmengine's FLOP counter does not support `FoldedProduct`.
    return is_fast('folded_gradient') and not torch.jit.is_tracing()


def _sampled(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, n, 1, P) float32 or float64 of maps (B, n, h, w) at points (B, P, 2), without gradients."""
    return sample_points(at_least_float32(maps.detach()), points)[:, :, None]


def _product_chunks(embed: Tensor, features: Tensor, step: int) -> Iterator[Tensor]:
    """`Masks.pixel_chunks` of embeddings (b, n, C) and features (b, C, h, w) without gradients."""
    embed = at_least_float32(embed).transpose(1, 2)
    for part in features.flatten(2).split(step, 2):
        yield part.to(embed.dtype).transpose(1, 2) @ embed
