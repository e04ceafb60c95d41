"""The pairs of a matcher. User-defined matchers may return them in any order or out of range."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Matches(NamedTuple):
    """The matched pairs of all layers and images, one row each, sorted by image, then layer, then query.

    They are stored on the host, where they are computed, so that counting them needs no synchronisation with a GPU.

    Attributes:
        layer: (N,) int64, in [0, L).
        image: (N,) int64, in [0, B).
        query: (N,) int64, in [0, Q).
        segment: (N,) int64, index of the true segment within its image.
    """

    layer: np.ndarray
    image: np.ndarray
    query: np.ndarray
    segment: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[Sequence[tuple]]) -> 'Matches':
        """The matches of ``pairs[layer][image]``: queries and segments (n,) each, as sequences or arrays.

        Raises:
            ValueError: if there is no layer or image, or if numbers of images, or of queries and segments, differ.
        """
        if not len(pairs) or not len(pairs[0]) or len({len(layer) for layer in pairs}) > 1:
            raise ValueError(
                f'pairs has {[len(layer) for layer in pairs]} images by layer; expected one number above 0'
            )
        rows = []
        for image, layers in enumerate(zip(*pairs, strict=True)):
            for layer, (query, segment) in enumerate(layers):
                query, segment = whole_column(query, 'queries'), whole_column(segment, 'segments')
                if query.shape != segment.shape:
                    raise ValueError(
                        f'pairs[{layer}][{image}] has {len(query)} queries and {len(segment)} segments; expected one '
                        'number of both'
                    )
                rows.append((np.full_like(query, layer), np.full_like(query, image), query, segment))
        return cls(*map(np.concatenate, zip(*rows, strict=True)))

    def pairs(self, layer: int, image: int) -> tuple[Tensor, Tensor]:
        """Queries and segments (n,) int64 each of one layer and image."""
        chosen = (self.layer == layer) & (self.image == image)
        return torch.from_numpy(self.query[chosen]), torch.from_numpy(self.segment[chosen])

    def ordered(self, num_layers: int, num_queries: int, counts: Sequence[int], matcher: str) -> 'Matches':
        """The same pairs, sorted as `Matches` requires; see `ordered_matches` for arguments and errors."""
        return Matches(*ordered_matches(self, num_layers, num_queries, counts, matcher))

    def of_layers(self, layers: range) -> 'Matches':
        """The pairs of some layers."""
        chosen = (self.layer >= layers.start) & (self.layer < layers.stop)
        return Matches(*(column[chosen] for column in self))

    def counts(self, num_images: int) -> list[int]:
        """Number of pairs of each image."""
        return np.bincount(self.image, minlength=num_images).tolist()


def ordered_matches(
    columns: Sequence[np.ndarray], num_layers: int, num_queries: int, counts: Sequence[int], matcher: str
) -> list[np.ndarray]:
    """Validate the columns of `Matches` and sort them by image, then layer, then query.

    Args:
        columns: layer, image, query and segment, (N,) integer each.
        num_layers: L.
        num_queries: Q.
        counts: numbers of segments of the B images.
        matcher: name of its class, for messages.

    Raises:
        ValueError: if an index is out of range, a query is matched twice, or columns are not integers or differ in
            length.
    """
    names = ('layer', 'image', 'query', 'segment')
    layer, image, query, segment = (
        whole_column(column, f'{name} of {matcher}') for name, column in zip(names, columns, strict=True)
    )
    if not len(layer) == len(image) == len(query) == len(segment):
        raise ValueError(
            f'{matcher} returned columns of the lengths {[len(column) for column in columns]}; expected one length'
        )
    known = (image >= 0) & (image < len(counts))
    limits = (
        ('layer', layer, num_layers),
        ('image', image, len(counts)),
        ('query', query, num_queries),
        ('segment', segment, np.array(counts, np.int64)[np.where(known, image, 0)] if len(counts) else 0),
    )
    for name, column, limit in limits:
        wrong = np.flatnonzero((column < 0) | (column >= limit))
        if len(wrong):
            first = wrong[0]
            raise ValueError(
                f'{matcher} matched {name} {column[first]} (layer {layer[first]}, image {image[first]} of the batch); '
                f'expected 0 to {np.broadcast_to(limit, column.shape)[first] - 1}'
            )
    order = np.lexsort((query, layer, image))
    layer, image, query, segment = (column[order] for column in (layer, image, query, segment))
    twice = np.flatnonzero((np.diff(layer) == 0) & (np.diff(image) == 0) & (np.diff(query) == 0))
    if len(twice):
        first = twice[0]
        raise ValueError(
            f'{matcher} matched query {query[first]} of layer {layer[first]}, image {image[first]} of the batch, to '
            f'segments {segment[first]} and {segment[first + 1]}; expected at most one segment per query'
        )
    return [layer, image, query, segment]


def whole_column(values: Any, name: str) -> np.ndarray:
    """Convert values (n,) to int64; fractional numbers are refused, since they would be truncated.

    Args:
        values: a sequence, an array or a tensor on the host.
        name: for the message.

    Raises:
        ValueError: if they are not (n,) whole numbers.
    """
    column = np.asarray(values)
    if column.ndim != 1 or (column.size and column.dtype.kind not in 'iu'):
        raise ValueError(f'{name}: found {column.shape} {column.dtype}, expected (n,) whole numbers')
    return column.astype(np.int64, copy=False)
