"""Pictures of label maps, checked at known pixels."""

import numpy as np
import pytest
from PIL import Image

from mmmaskformer.visualization.draw import (
    GAP,
    HATCH_DARK,
    HATCH_LIGHT,
    INK,
    OPACITY,
    PANEL_HEIGHT,
    PAPER,
    TITLE_SIZE,
    Example,
    blend,
    colour_labels,
    contact_sheet,
    hatch,
    legend,
    segment_borders,
    side_by_side,
)

CLASSES = ('wall', 'floor', 'a thing with a long name')
PALETTE = [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
TOP = 2 * GAP + TITLE_SIZE


def halves(height=10, width=20, left=0, right=1):
    labels = np.full((height, width), left)
    labels[:, width // 2 :] = right
    return labels


def grey(height=10, width=20, value=100):
    return np.full((height, width, 3), value, np.uint8)


def panel_centre(column, row, fraction, size=(10, 20), columns_wide=None):
    """Pixel (x, y) of the page at a fraction of the width of a panel, half-way down."""
    wide = size[1] * PANEL_HEIGHT // size[0]
    left = GAP + column * ((columns_wide or wide) + GAP) + ((columns_wide or wide) - wide) // 2
    return left + int(wide * fraction), TOP + row * (PANEL_HEIGHT + GAP) + PANEL_HEIGHT // 2


def over_grey(colour, value=100):
    return tuple(round(OPACITY * part + (1 - OPACITY) * value) for part in colour)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int64])
def test_colour_labels(dtype):
    labels = np.array([[0, 2, 255], [1, 1, 0]], dtype)
    picture = colour_labels(labels, PALETTE, ignore_label=255)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0, :2], [PALETTE[0], PALETTE[2]])
    np.testing.assert_array_equal(picture[1], [PALETTE[1], PALETTE[1], PALETTE[0]])
    np.testing.assert_array_equal(picture[0, 2], hatch(2, 3)[0, 2])


def test_many_classes_and_ignore_65535():
    palette = [[index % 256, index // 256, 7] for index in range(847)]
    labels = np.array([[846, 255, 65535]], np.uint16)
    picture = colour_labels(labels, palette, ignore_label=65535)
    np.testing.assert_array_equal(picture[0, :2], [[846 % 256, 3, 7], [255, 0, 7]])
    assert picture[0, 2, 0] in (HATCH_LIGHT, HATCH_DARK)


def test_hatching_has_both_greys():
    assert set(np.unique(hatch(9, 9))) == {HATCH_LIGHT, HATCH_DARK}


@pytest.mark.parametrize(
    ('labels', 'palette', 'message'),
    [
        (np.array([[3]]), PALETTE, 'labels: found class 3, expected 0 to 2 or ignore_label 255'),
        (np.array([[-1]]), PALETTE, 'labels: found class -1, expected 0 to 2'),
        (np.array([[0.5]]), PALETTE, r'labels: found shape \(1, 1\) of float64, expected \(H, W\) integers'),
        (np.zeros((1, 1, 3), int), PALETTE, r'labels: found shape \(1, 1, 3\)'),
        (np.array([[0]]), [1, 2, 3], r'palette: found shape \(3,\)'),
        (np.array([[0]]), [[1, 2, 256]], r'palette: .* expected \(K, 3\) colours in \[0, 255\]'),
    ],
)
def test_colour_labels_bad_input(labels, palette, message):
    with pytest.raises(ValueError, match=message):
        colour_labels(labels, palette, ignore_label=255)


def test_segment_borders():
    borders = segment_borders(np.array([[7, 7, 9], [7, 7, 9], [7, 8, 9]]))
    np.testing.assert_array_equal(borders, [[0, 1, 0], [0, 1, 0], [1, 1, 0]])
    assert not segment_borders(np.zeros((4, 5), int)).any()
    with pytest.raises(ValueError, match='labels: found shape'):
        segment_borders(np.zeros((4, 5)))


def test_blend():
    image, colours = grey(1, 1, 50), np.array([[[250, 150, 50]]], np.uint8)
    np.testing.assert_array_equal(blend(image, colours, 0.5), [[[150, 100, 50]]])
    np.testing.assert_array_equal(blend(image, colours, 1), colours)
    red = np.array([[[100, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(blend(red, colours, 0), [[[30, 30, 30]]])
    with pytest.raises(ValueError, match=r'colours: found shape \(1, 1, 3\), expected that of image, \(2, 1, 3\)'):
        blend(grey(2, 1), colours)
    with pytest.raises(ValueError, match='opacity: found 2'):
        blend(image, colours, 2)


def test_legend_swatches_and_wrapping():
    wide = np.asarray(legend(CLASSES, PALETTE, [1, 0], width=400))
    assert wide.shape[1] == 400
    np.testing.assert_array_equal(wide[wide.shape[0] // 2, 9], PALETTE[1])
    ink = (wide < 100).all(axis=-1)
    assert ink[:, 25:].any(), 'the names are written'
    narrow = legend(CLASSES, PALETTE, [0, 1, 2], width=10)
    assert narrow.height > 2 * wide.shape[0] and narrow.width > 100, 'one name a row, the longest fits'
    assert narrow.getpixel((9, narrow.height - 9)) == tuple(PALETTE[2])


def test_legend_of_ignored():
    picture = np.asarray(legend(CLASSES, PALETTE, [], width=200, ignored=True))
    assert set(np.unique(picture[2:-2, 2:16])) == {HATCH_LIGHT, HATCH_DARK}


def test_legend_bad_input():
    with pytest.raises(ValueError, match='which: found class 3, expected 0 to 2'):
        legend(CLASSES, PALETTE, [3], width=100)
    with pytest.raises(ValueError, match='palette: found 2 colours, expected one for each of the 3 classes'):
        legend(CLASSES, PALETTE[:2], [0], width=100)


def test_side_by_side_pixels():
    page = side_by_side(grey(), halves(right=255), halves(left=2), CLASSES, PALETTE, 255)
    assert page.getpixel(panel_centre(0, 0, 0.5)) == (100, 100, 100)
    assert page.getpixel(panel_centre(1, 0, 0.25)) == over_grey(PALETTE[0])
    hatched = page.getpixel(panel_centre(1, 0, 0.75))
    assert hatched in (over_grey([HATCH_LIGHT] * 3), over_grey([HATCH_DARK] * 3))
    assert page.getpixel(panel_centre(2, 0, 0.25)) == over_grey(PALETTE[2])
    assert page.getpixel(panel_centre(2, 0, 0.75)) == over_grey(PALETTE[1])
    x, y = panel_centre(2, 0, 0.5)
    assert page.getpixel((x - 1, y)) == INK, 'the border between the two segments'


def test_no_ground_truth_leaves_its_panel_out():
    page = side_by_side(grey(), None, halves(), CLASSES, PALETTE, 255)
    assert page.width == 3 * GAP + 2 * 20 * PANEL_HEIGHT // 10
    assert page.getpixel(panel_centre(1, 0, 0.25)) == over_grey(PALETTE[0])


def test_legend_lists_what_occurs():
    def colours(page):
        return {colour for _, colour in page.getcolors(1 << 20)}

    page = side_by_side(grey(), halves(right=255), halves(), CLASSES, PALETTE, 255)
    assert {tuple(PALETTE[0]), tuple(PALETTE[1])} <= colours(page)
    assert tuple(PALETTE[2]) not in colours(page)


def test_contact_sheet_rows_of_different_sizes():
    tall = Example(grey(10, 10), None, halves(10, 10))
    wide = Example(grey(), halves(), halves(left=1, right=0))
    page = contact_sheet([wide, tall], CLASSES, PALETTE, 255)
    widest = 20 * PANEL_HEIGHT // 10
    assert page.getpixel(panel_centre(2, 0, 0.25)) == over_grey(PALETTE[1])
    assert page.getpixel(panel_centre(2, 1, 0.25, (10, 10), widest)) == over_grey(PALETTE[0])
    assert page.getpixel(panel_centre(1, 1, 0.25, (10, 10), widest)) == PAPER, 'no ground truth there'


def test_large_images_shrink():
    page = side_by_side(grey(900, 600), None, halves(900, 600), CLASSES, PALETTE, 255)
    assert page.getpixel(panel_centre(1, 0, 0.25, (900, 600))) == over_grey(PALETTE[0])
    assert page.getpixel(panel_centre(1, 0, 0.75, (900, 600))) == over_grey(PALETTE[1])


@pytest.mark.parametrize(
    ('example', 'message'),
    [
        (Example(grey(), halves(5, 5), halves()), r'ground_truth: found size \(5, 5\), expected .* \(10, 20\)'),
        (Example(grey(), None, halves(5, 5)), r'prediction: found size \(5, 5\)'),
        (Example(grey().astype(float), None, halves()), r'image: found shape \(10, 20, 3\) of float64'),
    ],
)
def test_contact_sheet_bad_input(example, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet([example], CLASSES, PALETTE, 255)


def test_contact_sheet_without_examples():
    with pytest.raises(ValueError, match='examples: found none'):
        contact_sheet([], CLASSES, PALETTE, 255)


def test_input_is_left_alone():
    image, truth, labels = grey(), halves(right=255), halves()
    copies = image.copy(), truth.copy(), labels.copy()
    assert isinstance(side_by_side(image, truth, labels, CLASSES, PALETTE, 255), Image.Image)
    for before, after in zip(copies, (image, truth, labels), strict=True):
        np.testing.assert_array_equal(before, after)
