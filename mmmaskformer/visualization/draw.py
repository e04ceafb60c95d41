"""Segments over an image: class colours, shades, borders, names. Arrays in, PIL images out; numpy and PIL only."""

import colorsys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmmaskformer.core.segments import Segments
from mmmaskformer.visualization.names import Name, place_names
from mmmaskformer.visualization.segments import Overlay, require_integer_map, require_segments

PAPER, INK, CHALK = (255, 255, 255), (30, 30, 30), (185, 185, 185)
# Between colours darker than this, a dark line would be invisible.
DARK = 64
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
HATCH_LIGHT, HATCH_DARK, HATCH_PERIOD = 205, 150, 8
OPACITY = 0.7
# Shift of the colours of the segments of one class towards white or black, the largest segment first.
SHADES = (0.0, 0.32, 0.52, 0.16, 0.42)
PANEL_HEIGHT = 330
HALO = 2


def hatch(height: int, width: int) -> np.ndarray:
    """The pattern of pixels without a segment: grey diagonal stripes.

    Returns:
        (height, width, 3) uint8.
    """
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % HATCH_PERIOD
    grey = np.where(diagonal < HATCH_PERIOD // 2, HATCH_LIGHT, HATCH_DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def distinct_colours(number: int) -> list[list[int]]:
    """A palette for classes without colours: distant hues, alternately light and dark.

    Returns:
        ``number`` colours [R, G, B] in [0, 255].
    """
    hues = [(index * 0.618034) % 1 for index in range(number)]  # multiples of the golden ratio never repeat a hue
    colours = [colorsys.hsv_to_rgb(hue, 0.65, (0.9, 0.65)[index % 2]) for index, hue in enumerate(hues)]
    return [[round(255 * part) for part in colour] for colour in colours]


def segment_colours(segments: Segments, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Colours of the segments: the colour of the class for its largest segment, shades of it for the others.

    Args:
        segments: S of them.
        palette: (K, 3) colours in [0, 255], RGB.

    Returns:
        (S, 3) uint8 RGB.

    Raises:
        ValueError: if ``palette`` is not a list of colours, or a class has none.
    """
    colours = np.asarray(palette, np.float32)
    if colours.ndim != 2 or colours.shape[1] != 3 or colours.min() < 0 or colours.max() > 255:
        raise ValueError(f'palette: found shape {colours.shape}, expected (K, 3) colours in [0, 255]')
    require_segments(segments, len(colours))
    labels = np.asarray(segments.labels, np.int64)
    areas = np.bincount(segments.ids.ravel(), minlength=len(labels) + 1)[1:]
    order = np.lexsort((-areas, labels))
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    amount = np.array(SHADES, np.float32)[ranks % len(SHADES), None]
    base = colours[labels]
    # Dark colours become lighter, light ones darker.
    towards = np.where(base @ BRIGHTNESS < 128, 255, 0).astype(np.float32)[:, None]
    return np.rint(base + amount * (towards - base)).astype(np.uint8)


def segment_borders(labels: np.ndarray) -> np.ndarray:
    """The borders between segments.

    Args:
        labels: (H, W) int, class indices or segment ids.

    Returns:
        (H, W) bool, True at pixels whose right or lower neighbour has another label.

    Raises:
        ValueError: if ``labels`` is not a map of integers.
    """
    labels = require_integer_map('labels', labels)
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def blend(image: np.ndarray, colours: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Blend colours with the brightness of an image, whose own colours could be mistaken for those of classes.

    Args:
        image: (H, W, 3) uint8 RGB.
        colours: (H, W, 3) uint8 RGB.
        opacity: in [0, 1]; 1 shows only ``colours``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: if the shapes differ or ``opacity`` is out of range.
    """
    if image.shape != colours.shape or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'colours: found shape {colours.shape}, expected that of image, {image.shape}, as (H, W, 3)')
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity: found {opacity}, expected a number in [0, 1]')
    grey = image.astype(np.float32) @ BRIGHTNESS
    mixed = opacity * colours.astype(np.float32) + (1 - opacity) * grey[..., None]
    return np.rint(mixed).astype(np.uint8)


def draw_segments(
    image: np.ndarray,
    segments: Overlay,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    height: int = PANEL_HEIGHT,
) -> Image.Image:
    """Segments over an image: class colours, a line between segments, and a name wherever one fits.

    Segments of one class differ in shade. Pixels without a segment are hatched, or show the image in grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        segments: of the same size.
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        height: of the picture, in pixels.

    Returns:
        RGB image.

    Raises:
        ValueError: if sizes differ, a class has no colour, or an array is of the wrong kind.
    """
    large_image = np.asarray(enlarge(image, height))
    colours = segment_colours(segments, palette)
    # Colours, hatching, borders and names are drawn at the final size, so that they are sharp at any scale.
    rows, columns = (
        ((np.arange(new) + 0.5) * old // new).astype(int)
        for new, old in zip(large_image.shape[:2], segments.ids.shape, strict=True)
    )
    large = replace(segments, ids=segments.ids[np.ix_(rows, columns)])
    fill = np.concatenate([np.zeros((1, 3), np.uint8), colours])[large.ids]
    empty = large.ids == 0
    fill[empty] = hatch(*empty.shape)[empty]
    picture = blend(large_image, fill)
    if segments.void is None:
        picture[empty] = blend(large_image, fill, opacity=0)[empty]
    _draw_borders(picture, large.ids)
    page = Image.fromarray(picture)
    for name in place_names(large, classes):
        _write(page, name)
    return page


def enlarge(image: np.ndarray, height: int = PANEL_HEIGHT) -> Image.Image:
    """Resize an image to a height, up or down, and keep its aspect ratio.

    Args:
        image: (H, W, 3) uint8 RGB.
        height: height of the result, in pixels.

    Raises:
        ValueError: if ``image`` has another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'image: found shape {image.shape} of {image.dtype}, expected (H, W, 3) uint8')
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


def _draw_borders(picture: np.ndarray, ids: np.ndarray) -> None:
    """Draw a line between segments, into ``picture``: dark, or light where both sides are dark."""
    bright = picture @ BRIGHTNESS >= DARK
    bright[:, :-1] |= bright[:, 1:]
    bright[:-1] |= bright[1:]
    borders = segment_borders(ids)
    picture[borders & bright] = INK
    picture[borders & ~bright] = CHALK


def _write(page: Image.Image, name: Name) -> None:
    """Write a name in black or white, whichever contrasts more, with a halo of the surrounding colour."""
    top, left, height, width = name.box
    below = np.asarray(page.crop((left, top, left + width, top + height))).reshape(-1, 3).mean(axis=0)
    font = ImageFont.load_default(name.size)
    ink = PAPER if below @ BRIGHTNESS < 128 else INK
    halo = tuple(np.rint(below).astype(int).tolist())
    start, _, _, end = font.getbbox(name.text, anchor='ls')
    place = (left - start, top + height - end)
    ImageDraw.Draw(page).text(place, name.text, fill=ink, font=font, anchor='ls', stroke_width=HALO, stroke_fill=halo)
