"""Positions of names: boxes inside their segments, compared with an exhaustive search."""

import numpy as np
import pytest

from mmmaskformer.core.segments import Segments
from mmmaskformer.visualization.names import CLEARANCE, NAME_SIZES, inner_box, place_names

CLASSES = ('sky', 'a thing with a very long name')


def room_around(mask, top, left, size):
    """By how many pixels the box can grow on all sides within the mask; -1 if it is not inside the mask."""
    room = -1
    while True:
        grown = room + 1
        low, high = (top - grown, left - grown), (top + size[0] + grown, left + size[1] + grown)
        if min(low) < 0 or high[0] > mask.shape[0] or high[1] > mask.shape[1]:
            return room
        if not mask[low[0] : high[0], low[1] : high[1]].all():
            return room
        room = grown


def most_room(mask, size):
    """The largest margin of all positions."""
    positions = np.ndindex(*mask.shape)
    return max(room_around(mask, top, left, size) for top, left in positions)


@pytest.mark.parametrize('seed', range(6))
def test_box_has_the_most_room_of_all_positions(seed):
    generator = np.random.default_rng(seed)
    mask = np.ones((23, 31), bool)
    for _ in range(7):
        mask[generator.integers(23), generator.integers(31)] = False
    mask[:, generator.integers(31)] = False
    place = inner_box(mask, (3, 5))
    assert room_around(mask, *place, (3, 5)) == most_room(mask, (3, 5)) >= 0


def test_box_in_a_rectangle_is_in_its_middle():
    mask = np.zeros((40, 60), bool)
    mask[10:31, 20:51] = True
    assert inner_box(mask, (5, 7)) == (18, 32)


def test_box_that_just_fits_and_one_that_does_not():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert inner_box(mask, (3, 5)) == (2, 3)
    assert inner_box(mask, (4, 5)) is None
    assert inner_box(mask, (3, 6)) is None
    assert inner_box(np.zeros((9, 9), bool), (1, 1)) is None
    assert inner_box(np.eye(9, dtype=bool), (2, 2)) is None


def test_names_lie_inside_their_segments():
    ids = np.zeros((100, 450), int)
    ids[:, :150], ids[:40, 150:], ids[60:66, 200:250] = 1, 2, 3
    names = place_names(Segments(ids, np.array([0, 1, 0])), CLASSES)
    assert [(name.text, name.segment) for name in names] == [('sky', 0), (CLASSES[1], 1)]
    for name in names:
        top, left, height, width = name.box
        around = ids[top - CLEARANCE : top + height + CLEARANCE, left - CLEARANCE : left + width + CLEARANCE]
        assert around.size > height * width > 0
        assert (around == name.segment + 1).all()
    assert names[0].size == NAME_SIZES[0], 'there is room for large letters'
    assert names[1].size in NAME_SIZES


def test_smaller_letters_where_large_ones_do_not_fit():
    full = place_names(Segments(np.ones((30, 300), int), [1]), CLASSES)[0]
    wide = full.box[3] + 2 * CLEARANCE
    narrow = place_names(Segments(np.ones((30, wide - 1), int), [1]), CLASSES)[0]
    assert full.size == NAME_SIZES[0] and narrow.size == NAME_SIZES[1]


def test_segments_without_pixels_or_room_have_no_name():
    assert place_names(Segments(np.full((5, 5), 2), [0, 0]), CLASSES) == []
