"""Sort and validate matched pairs. User-defined matchers may return them in any order or out of range."""

from collections.abc import Sequence
from typing import Any

import numpy as np


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
