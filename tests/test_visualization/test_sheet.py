"""Legends and contact sheets, checked at known pixels."""

import numpy as np
import pytest

from mmmaskformer.visualization.draw import HATCH_DARK, HATCH_LIGHT, INK, OPACITY, PANEL_HEIGHT, PAPER
from mmmaskformer.visualization.segments import Overlay, segments_of_labels
from mmmaskformer.visualization.sheet import GAP, TITLE_SIZE, Example, contact_sheet, legend

CLASSES = ('wall', 'floor', 'a thing with a long name')
PALETTE = [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
TOP = 2 * GAP + TITLE_SIZE


def halves(height=10, width=20, left=0, right=1):
    labels = np.full((height, width), left)
    labels[:, width // 2 :] = right
    return segments_of_labels(labels, 255)


def grey(height=10, width=20, value=100):
    return np.full((height, width, 3), value, np.uint8)


def panel_point(column, row, fraction, size=(10, 20), columns_wide=None):
    """Pixel (x, y) of the page at a fraction of a panel's width, in its upper part, which contains no name."""
    wide = size[1] * PANEL_HEIGHT // size[0]
    left = GAP + column * ((columns_wide or wide) + GAP) + ((columns_wide or wide) - wide) // 2
    return left + int(wide * fraction), TOP + row * (PANEL_HEIGHT + GAP) + PANEL_HEIGHT // 8


def over_grey(colour, value=100):
    return tuple(round(OPACITY * part + (1 - OPACITY) * value) for part in colour)


def colours_of(page):
    return {colour for _, colour in page.getcolors(1 << 20)}


def test_legend_swatches_and_wrapping():
    wide = np.asarray(legend(CLASSES, PALETTE, [1, 0], width=400))
    assert wide.shape[1] == 400
    np.testing.assert_array_equal(wide[wide.shape[0] // 2, 9], PALETTE[1])
    ink = (wide < 100).all(axis=-1)
    assert ink[:, 25:].any(), 'the names are written'
    narrow = legend(CLASSES, PALETTE, [0, 1, 2], width=10)
    assert narrow.height > 2 * wide.shape[0] and narrow.width > 100, 'one name a row, the longest fits'
    assert narrow.getpixel((9, narrow.height - 9)) == tuple(PALETTE[2])


def test_legend_of_hatching():
    picture = np.asarray(legend(CLASSES, PALETTE, [], width=200, hatched=['void']))
    assert set(np.unique(picture[2:-2, 2:16])) == {HATCH_LIGHT, HATCH_DARK}


def test_legend_bad_input():
    with pytest.raises(ValueError, match='which: found class 3, expected 0 to 2'):
        legend(CLASSES, PALETTE, [3], width=100)
    with pytest.raises(ValueError, match='palette: found 2 colours, expected one for each of the 3 classes'):
        legend(CLASSES, PALETTE[:2], [0], width=100)


def test_image_ground_truth_and_prediction():
    page = contact_sheet([Example(grey(), halves(right=255), halves(left=2))], CLASSES, PALETTE)
    assert page.getpixel(panel_point(0, 0, 0.5)) == (100, 100, 100)
    assert page.getpixel(panel_point(1, 0, 0.25)) == over_grey(PALETTE[0])
    hatched = page.getpixel(panel_point(1, 0, 0.75))
    assert hatched in (over_grey([HATCH_LIGHT] * 3), over_grey([HATCH_DARK] * 3))
    assert page.getpixel(panel_point(2, 0, 0.25)) == over_grey(PALETTE[2])
    assert page.getpixel(panel_point(2, 0, 0.75)) == over_grey(PALETTE[1])
    x, y = panel_point(2, 0, 0.5)
    assert page.getpixel((x - 1, y)) == INK, 'the border between the two segments'


def test_no_ground_truth_leaves_its_panel_out():
    page = contact_sheet([Example(grey(), None, halves())], CLASSES, PALETTE)
    assert page.width == 3 * GAP + 2 * 20 * PANEL_HEIGHT // 10
    assert page.getpixel(panel_point(1, 0, 0.25)) == over_grey(PALETTE[0])


def test_legend_lists_what_occurs():
    page = contact_sheet([Example(grey(), halves(right=255), halves())], CLASSES, PALETTE)
    assert {tuple(PALETTE[0]), tuple(PALETTE[1])} <= colours_of(page)
    assert tuple(PALETTE[2]) not in colours_of(page)
    assert (HATCH_DARK,) * 3 in colours_of(page)


def test_legend_leaves_out_segments_without_pixels_and_plain_background():
    instances = Overlay(np.where(halves().ids == 1, 2, 0), np.array([2, 0]), void=None)
    page = contact_sheet([Example(grey(), None, instances)], CLASSES, PALETTE)
    assert tuple(PALETTE[0]) in colours_of(page)
    assert not {tuple(PALETTE[2]), (HATCH_DARK,) * 3} & colours_of(page)


def test_nothing_found():
    empty = Overlay(np.zeros((10, 20), int), np.zeros(0, int))
    page = contact_sheet([Example(grey(), empty, empty)], CLASSES, PALETTE)
    assert page.getpixel(panel_point(2, 0, 0.5)) in (over_grey([HATCH_LIGHT] * 3), over_grey([HATCH_DARK] * 3))


def test_rows_of_different_sizes():
    tall = Example(grey(10, 10), None, halves(10, 10))
    wide = Example(grey(), halves(), halves(left=1, right=0))
    page = contact_sheet([wide, tall], CLASSES, PALETTE)
    widest = 20 * PANEL_HEIGHT // 10
    assert page.getpixel(panel_point(2, 0, 0.25)) == over_grey(PALETTE[1])
    assert page.getpixel(panel_point(2, 1, 0.25, (10, 10), widest)) == over_grey(PALETTE[0])
    assert page.getpixel(panel_point(1, 1, 0.25, (10, 10), widest)) == PAPER, 'no ground truth there'


@pytest.mark.parametrize(
    ('example', 'message'),
    [
        (Example(grey(), halves(5, 5), halves()), r'ground_truth: found size \(5, 5\), expected .* \(10, 20\)'),
        (Example(grey(), None, halves(5, 5)), r'prediction: found size \(5, 5\)'),
        (Example(grey().astype(float), None, halves()), r'image: found shape \(10, 20, 3\) of float64'),
    ],
)
def test_bad_examples(example, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet([example], CLASSES, PALETTE)


def test_no_examples():
    with pytest.raises(ValueError, match='examples: found none'):
        contact_sheet([], CLASSES, PALETTE)
