"""Maps of segments, checked and counted pixel by pixel."""

from typing import NamedTuple

import numpy as np

from mmmaskformer.core.segments import VOID, Segments

HASH_BITS = 12
"""The hash table has 2 ** HASH_BITS cells: some hundred pairs rarely collide, and the table fits into the L1 cache."""
LARGEST_TABLE = 1 << 20
"""Values below it are marked in a table of this size instead of being sorted."""


class CheckedMap(NamedTuple):
    """Checked `Segments`: int64 arrays; only ``areas`` may be None."""

    ids: np.ndarray
    listed_ids: np.ndarray
    void_ids: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray | None


def joint_runs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of pixels, row by row, over which both maps are constant.

    A map of segments with some hundred thousand pixels has some thousand runs, so that counting over runs is cheap.

    Args:
        first: (H, W) integer.
        second: (H, W) integer.

    Returns:
        Values of the first map, of the second, and lengths in pixels: each (R,) int64.
    """
    pixels = first.ravel()
    first, second = pixels, pixels if second is first else second.ravel()
    if not first.size:
        return (np.zeros(0, np.int64),) * 3
    starts = _run_starts(first, second)
    lengths = np.full(len(starts), first.size)
    lengths[:-1] = starts[1:]
    lengths -= starts
    return first[starts].astype(np.int64), second[starts].astype(np.int64), lengths


def distinct_values(ids: np.ndarray) -> np.ndarray:
    """The values that occur in a map, ascending; equal to ``np.unique``, without sorting pixels.

    Args:
        ids: (H, W) integer.

    Returns:
        (V,) int64.
    """
    values = joint_runs(ids, ids)[0]
    if not values.size or values.min() < 0 or values.max() >= LARGEST_TABLE:
        return np.unique(values)
    seen = np.zeros(values.max() + 1, bool)
    seen[values] = True
    return np.flatnonzero(seen)


def _run_starts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Positions at which a run begins, (R,) int64, of two maps (H * W,) with at least one pixel."""
    is_start = np.zeros(-(-first.size // 8) * 8, bool)
    is_start[0] = True
    np.not_equal(first[1:], first[:-1], out=is_start[1 : first.size])
    if second is not first:
        is_start[1 : first.size] |= second[1:] != second[:-1]
    # Most pixels start no run, so eight at a time are skipped; this takes half the time of `flatnonzero` on all.
    words = is_start.view(np.uint64)
    filled = np.flatnonzero(words != 0)
    within = np.flatnonzero(words[filled].view(bool))
    return filled[within >> 3] * 8 + (within & 7)


def joint_areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of each pair of values.

    The plain computation is ``np.unique`` over the pairs, with counts. This function sums the runs of each pair in a
    cell of a small hash table. Runs that collide with another pair are listed separately, so some pairs occur more than
    once; the sum over a pair is exact.

    Args:
        first: (H, W) integer.
        second: (H, W) integer.

    Returns:
        Values of the first map, of the second, and areas in pixels above 0: each (P,) int64, with P at most the number
        of runs, and for maps of segments far below it.
    """
    first, second, lengths = joint_runs(first, second)
    # The highest bits of a product by an odd number depend on all bits of the value.
    mixed = first * np.int64(0x1E3779B97F4A7C15) + second * np.int64(0x42B2AE3D27D4EB4F)
    cells = (mixed.view(np.uint64) >> np.uint64(64 - HASH_BITS)).view(np.int64)
    owners = np.zeros(1 << HASH_BITS, np.int64)
    owners[cells] = np.arange(len(cells))
    owner = owners[cells]
    alone = np.flatnonzero((first[owner] != first) | (second[owner] != second))
    areas = np.bincount(cells, weights=lengths, minlength=len(owners)).astype(np.int64)
    np.subtract.at(areas, cells[alone], lengths[alone])
    occupied = np.flatnonzero(areas)
    chosen = np.concatenate([owners[occupied], alone])
    return first[chosen], second[chosen], np.concatenate([areas[occupied], lengths[alone]])


def labels_of_pixels(
    segments: Segments[np.ndarray], ignore_index: int, *, num_classes: int, name: str = 'image'
) -> np.ndarray:
    """The class of every pixel.

    Args:
        segments: segments of an image.
        ignore_index: what void and crowds become.
        num_classes: K.
        name: name of the image or file, for messages.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: if ids or labels are invalid, as in `count_segments`.
    """
    checked = checked_map(segments, num_classes, name)
    ids, _, lengths = joint_runs(checked.ids, checked.ids)
    table = np.concatenate([[ignore_index], np.where(checked.is_crowd, ignore_index, checked.labels)])
    return np.repeat(table[segment_positions(ids, checked, name)], lengths).reshape(checked.ids.shape)


def numbered(segments: Segments[np.ndarray], *, num_classes: int, name: str = 'image') -> Segments[np.ndarray]:
    """The same segments with ids 1 to S in the map, as required for tables and pictures.

    Args:
        segments: segments of an image.
        num_classes: K.
        name: name of the image or file, for messages.

    Returns:
        With ids int32; labels and scores are the same arrays.

    Raises:
        ValueError: if ids or labels are invalid, as in `count_segments`.
    """
    checked = checked_map(segments, num_classes, name)
    ids, _, lengths = joint_runs(checked.ids, checked.ids)
    positions = segment_positions(ids, checked, name).astype(np.int32)
    return Segments(np.repeat(positions, lengths).reshape(checked.ids.shape), segments.labels, segments.scores)


def segment_positions(ids: np.ndarray, checked: CheckedMap, what: str) -> np.ndarray:
    """Positions of the ids (R,) in the list: 0 for void, otherwise 1 + position.

    Raises:
        ValueError: if an id is not listed.
    """
    listed = np.concatenate([[VOID], checked.listed_ids, checked.void_ids])
    order = np.argsort(listed)
    places = np.searchsorted(listed[order], ids)
    positions = order[np.minimum(places, len(listed) - 1)]
    is_known = listed[positions] == ids
    if not is_known.all():
        unknown = np.unique(ids[~is_known])
        raise ValueError(
            f'{what} has pixels of segment ids {shorten(unknown)} that segments_info does not list; expected '
            f'{VOID} (void) or one of {shorten(checked.listed_ids)}. Fix: take map and list from the same source, and '
            'store a map of colours losslessly, as PNG.'
        )
    return np.where(positions > len(checked.listed_ids), 0, positions)


def checked_map(segments: Segments[np.ndarray], num_classes: int, what: str) -> CheckedMap:
    """Check segments, except for their pixels.

    Args:
        segments: segments, with arrays or lists.
        num_classes: K.
        what: description of the segments, for messages.

    Returns:
        The same with int64 arrays and without None, except for ``areas``.

    Raises:
        ValueError: if shapes, ids or labels are invalid or inconsistent.
    """
    ids = np.asarray(segments.ids)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f'{what}: found a map of shape {ids.shape} and {ids.dtype}, expected (height, width) integers')
    labels = np.asarray(segments.labels, np.int64)
    listed = np.arange(1, len(labels) + 1) if segments.listed_ids is None else np.asarray(segments.listed_ids, np.int64)
    void_ids = np.zeros(0, np.int64) if segments.void_ids is None else np.asarray(segments.void_ids, np.int64)
    is_crowd = np.zeros(len(labels), bool) if segments.is_crowd is None else np.asarray(segments.is_crowd, bool)
    areas = None if segments.areas is None else np.asarray(segments.areas, np.int64)
    for key, values in (('labels', labels), ('is_crowd', is_crowd), ('areas', areas)):
        if values is not None and values.shape != listed.shape:
            raise ValueError(f'{what}: found {key} of shape {values.shape}, expected {listed.shape} as listed_ids')
    _require_known(listed, labels, num_classes, what)
    return CheckedMap(ids, listed, void_ids, labels, is_crowd, areas)


def _require_known(listed_ids: np.ndarray, labels: np.ndarray, num_classes: int, what: str) -> None:
    """Check that labels are classes, and that ids are above 0 and all different."""
    unknown = (labels < 0) | (labels >= num_classes)
    if unknown.any():
        raise ValueError(
            f'{what}: segments {shorten(listed_ids[unknown])} have unknown categories {shorten(labels[unknown])}, '
            f'expected labels from 0 to {num_classes - 1}. Fix: check the class list of the dataset.'
        )
    ordered = np.sort(listed_ids)
    if (ordered <= VOID).any():
        raise ValueError(f'{what}: found segment id {ordered[0]}, expected ids above {VOID}, which is void')
    is_repeated = ordered[1:] == ordered[:-1]
    if is_repeated.any():
        twice = shorten(np.unique(ordered[1:][is_repeated]))
        raise ValueError(f'{what}: segment ids {twice} are listed more than once, expected each once')


def shorten(values: np.ndarray, limit: int = 8) -> str:
    """At most ``limit`` values, and how many more there are."""
    text = ', '.join(str(value) for value in values[:limit])
    return f'[{text}]' if len(values) <= limit else f'[{text}, … {len(values) - limit} more]'
