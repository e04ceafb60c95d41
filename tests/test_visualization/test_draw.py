"""Segments drawn over an image, checked at known pixels."""

import numpy as np
import pytest
from PIL import Image

from mmmaskformer.core.segments import Segments
from mmmaskformer.visualization.draw import (
    CHALK,
    HATCH_DARK,
    HATCH_LIGHT,
    INK,
    OPACITY,
    PAPER,
    SHADES,
    blend,
    distinct_colours,
    draw_segments,
    hatch,
    segment_borders,
    segment_colours,
)
from mmmaskformer.visualization.names import place_names
from mmmaskformer.visualization.segments import Overlay

CLASSES = ('wall', 'floor', 'bed')
PALETTE = [[200, 0, 0], [0, 220, 0], [120, 200, 250]]


def grey(height=10, width=20, value=100):
    return np.full((height, width, 3), value, np.uint8)


def over_grey(colour, value=100):
    return tuple(round(OPACITY * part + (1 - OPACITY) * value) for part in colour)


def blocks(*columns, block=10):
    """Square blocks of segments side by side."""
    return np.array([columns]).repeat(block, 0).repeat(block, 1)


def test_hatching_has_both_greys():
    assert set(np.unique(hatch(9, 9))) == {HATCH_LIGHT, HATCH_DARK}


def test_one_segment_has_the_colour_of_its_class():
    colours = segment_colours(Segments(blocks(2, 1), np.array([2, 0])), PALETTE)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours, [PALETTE[2], PALETTE[0]])


def test_segments_of_a_class_differ_in_shade_the_largest_is_pure():
    ids = blocks(1, 2, 2, 3, 3, 3, 4)
    red = segment_colours(Segments(ids, np.array([0, 0, 0, 1])), PALETTE)
    np.testing.assert_array_equal(red[2], PALETTE[0])
    np.testing.assert_array_equal(red[3], PALETTE[1])
    # Red is dark: its shades go towards white, so red grows and green equals blue.
    np.testing.assert_array_equal(red[1], [round(200 + 55 * SHADES[1]), *[round(255 * SHADES[1])] * 2])
    np.testing.assert_array_equal(red[0], [round(200 + 55 * SHADES[2]), *[round(255 * SHADES[2])] * 2])
    blue = segment_colours(Segments(blocks(1, 1, 2), np.array([2, 2])), PALETTE)
    np.testing.assert_array_equal(blue[1], np.rint(np.array(PALETTE[2]) * (1 - SHADES[1])))


def test_more_segments_than_shades():
    number = 3 * len(SHADES) + 1
    ids = np.arange(1, number + 1)[None]
    colours = segment_colours(Segments(ids, np.zeros(number, int)), PALETTE)
    assert len(np.unique(colours, axis=0)) == len(SHADES)


def test_many_classes():
    palette = [[index % 256, index // 256, 7] for index in range(847)]
    colours = segment_colours(Segments(np.array([[1, 2]]), np.array([846, 255])), palette)
    np.testing.assert_array_equal(colours, [[846 % 256, 3, 7], [255, 0, 7]])


@pytest.mark.parametrize(
    ('labels', 'palette', 'message'),
    [
        ([3], PALETTE, 'labels: found class 3, expected 0 to 2. Fix: give palette a colour'),
        ([], PALETTE, 'ids: found 1, expected 0 to 0'),
        ([0], [1, 2, 3], r'palette: found shape \(3,\)'),
        ([0], [[1, 2, 256]], r'palette: .* expected \(K, 3\) colours in \[0, 255\]'),
    ],
)
def test_segments_without_a_colour(labels, palette, message):
    with pytest.raises(ValueError, match=message):
        segment_colours(Segments(np.array([[1]]), np.array(labels, int)), palette)


def test_palette_for_classes_without_colours():
    palette = distinct_colours(150)
    assert len({tuple(colour) for colour in palette}) == 150
    assert all(0 <= part <= 255 and isinstance(part, int) for colour in palette for part in colour)
    assert palette[:5] == distinct_colours(5)


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


def drawn(ids, labels, void='void', value=100, palette=PALETTE):
    """Pixels of segments drawn at their own size, which leaves no room for names if the segments are small."""
    ids = np.asarray(ids)
    picture = draw_segments(
        grey(*ids.shape, value), Overlay(ids, np.array(labels), void=void), CLASSES, palette, ids.shape[0]
    )
    return np.asarray(picture)


def test_every_pixel_of_a_small_picture():
    generator = np.random.default_rng(0)
    ids = generator.integers(1, 4, (6, 9)).repeat(3, 0).repeat(3, 1)
    picture = drawn(ids, [0, 1, 2])
    for row, column in np.ndindex(*ids.shape):
        neighbours = [ids[row, min(column + 1, 26)], ids[min(row + 1, 17), column]]
        border = any(number != ids[row, column] for number in neighbours)
        expected = INK if border else over_grey(PALETTE[ids[row, column] - 1])
        assert tuple(picture[row, column]) == expected, (row, column)


def test_line_between_instances_of_one_class():
    picture = drawn(blocks(1, 2), [0, 0])
    assert (picture[:, 9] == INK).all()
    assert tuple(picture[5, 4]) == over_grey(PALETTE[0])
    assert tuple(picture[5, 14]) not in (INK, over_grey(PALETTE[0]))


def test_light_line_between_dark_segments():
    palette = [[20, 0, 0], [0, 0, 40], [250, 250, 250]]
    picture = drawn(blocks(1, 2, 3), [0, 1, 2], value=10, palette=palette)
    assert (picture[:, 9] == CHALK).all()
    assert (picture[:, 19] == INK).all()
    lying = drawn(blocks(1, 2, 3).T, [0, 1, 2], value=10, palette=palette)
    np.testing.assert_array_equal(lying, picture.transpose(1, 0, 2))


def test_void_is_hatched():
    picture = drawn(blocks(1, 0, block=16), [0])
    greys = {over_grey([HATCH_LIGHT] * 3), over_grey([HATCH_DARK] * 3)}
    assert {tuple(pixel) for pixel in picture[:, 16:].reshape(-1, 3).tolist()} == greys


def test_pixels_of_no_instance_show_the_image():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :, 0] = 100
    picture = draw_segments(image, Overlay(blocks(1, 0), np.array([0]), void=None), CLASSES, PALETTE, 10)
    assert picture.getpixel((15, 5)) == (30, 30, 30), 'its brightness'


@pytest.mark.parametrize(('colour', 'ink'), [([20, 20, 60], PAPER), ([230, 230, 120], INK)])
def test_names_are_written_in_their_box_in_black_or_white(colour, ink):
    ids = np.ones((60, 120), int)
    ids[:, 100:] = 0
    picture = drawn(ids, [1], palette=[PALETTE[0], colour, PALETTE[2]])
    top, left, height, width = place_names(Segments(ids, np.array([1])), CLASSES)[0].box
    written = (picture == ink).all(axis=-1)
    written[:, 99:] = False
    rows, columns = np.nonzero(written)
    assert len(rows) > 20
    assert top - 1 <= rows.min() <= rows.max() <= top + height
    assert left - 1 <= columns.min() <= columns.max() <= left + width
    assert columns.max() - columns.min() > 0.8 * width
    assert rows.max() - rows.min() > 0.6 * height


def test_enlarging_keeps_pixels_square_and_crisp():
    ids = np.array([[1, 2], [2, 1], [1, 1]])
    picture = np.asarray(draw_segments(grey(3, 2), Overlay(ids, np.array([0, 1])), CLASSES, PALETTE, 15))
    assert picture.shape == (15, 10, 3)
    large = ids.repeat(5, 0).repeat(5, 1)
    for row, column in [(2, 2), (2, 7), (7, 2), (12, 8)]:
        assert tuple(picture[row, column]) == over_grey(PALETTE[large[row, column] - 1])
    np.testing.assert_array_equal((picture == INK).all(axis=-1), segment_borders(large))


def test_large_images_shrink():
    picture = draw_segments(grey(900, 600), Overlay(np.ones((900, 600), int), np.array([1])), CLASSES, PALETTE, 90)
    assert picture.size == (60, 90)
    assert picture.getpixel((5, 5)) == over_grey(PALETTE[1])


def test_input_is_not_changed():
    image, segments = grey(), Overlay(blocks(1, 0), np.array([0]))
    copies = image.copy(), segments.ids.copy()
    assert isinstance(draw_segments(image, segments, CLASSES, PALETTE), Image.Image)
    np.testing.assert_array_equal(copies[0], image)
    np.testing.assert_array_equal(copies[1], segments.ids)
