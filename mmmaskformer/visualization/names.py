"""Placement of the names of segments, at their widest inner part, if they fit. numpy and PIL only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ImageFont

from mmmaskformer.core.segments import Segments

# Largest first; a name that does not fit at the smallest size is shown only in the legend.
NAME_SIZES = (16, 14, 12, 11)
CLEARANCE = 4


class Name(NamedTuple):
    """A name with its place.

    Attributes:
        text: the class name.
        segment: index of the segment.
        box: (top, left, height, width) of its letters, in pixels.
        size: of the font, in pixels.
    """

    text: str
    segment: int
    box: tuple[int, int, int, int]
    size: int


def place_names(segments: Segments, classes: Sequence[str]) -> list[Name]:
    """Find a place for the name of each segment; segments that are too small get none.

    Args:
        segments: at the size of the picture to write into.
        classes: K names.

    Returns:
        Names in the order of the segments. No two overlap, since each lies within its segment.
    """
    names = []
    for index, label in enumerate(segments.labels):
        mask = segments.ids == index + 1
        for size in NAME_SIZES if mask.any() and classes[label].strip() else ():
            left, top, right, bottom = ImageFont.load_default(size).getbbox(classes[label], anchor='ls')
            letters = int(np.ceil(bottom - top)), int(np.ceil(right - left))
            place = inner_box(mask, (letters[0] + 2 * CLEARANCE, letters[1] + 2 * CLEARANCE))
            if place is not None:
                box = (place[0] + CLEARANCE, place[1] + CLEARANCE, *letters)
                names.append(Name(classes[label], index, box, size))
                break
    return names


def inner_box(mask: np.ndarray, size: tuple[int, int]) -> tuple[int, int] | None:
    """Place a box inside a mask with as much room on all four sides as possible.

    Args:
        mask: (H, W) bool.
        size: height and width of the box, in pixels.

    Returns:
        (top, left) of the box, None if it fits nowhere.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    sums = np.pad(cut.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    most = min(cut.shape[0] - size[0], cut.shape[1] - size[1]) // 2
    if most < 0 or not _fits(sums, size, 0).any():
        return None
    # If a box fits with some room, it fits with less, so the largest room is found by bisection.
    room, too_much = 0, most + 1
    while too_much - room > 1:
        middle = (room + too_much) // 2
        room, too_much = (middle, too_much) if _fits(sums, size, middle).any() else (room, middle)
    places = np.argwhere(_fits(sums, size, room))
    top, left = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()] + room
    return int(rows[0] + top), int(columns[0] + left)


def _fits(sums: np.ndarray, size: tuple[int, int], room: int) -> np.ndarray:
    """Whether a box with ``room`` added on each side lies inside the mask, for every position of its corner.

    Args:
        sums: (H + 1, W + 1), number of mask pixels above and to the left.
        size: height and width of the box.
        room: pixels.
    """
    height, width = size[0] + 2 * room, size[1] + 2 * room
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return inside == height * width
