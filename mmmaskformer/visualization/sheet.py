"""Image, ground truth and prediction side by side, with a legend: one row for each example."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmmaskformer.visualization.draw import INK, PANEL_HEIGHT, PAPER, draw_segments, enlarge, hatch
from mmmaskformer.visualization.segments import Overlay

FONT_SIZE, TITLE_SIZE, GAP = 15, 17, 10


class Example(NamedTuple):
    """One row of a contact sheet.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        ground_truth: segments of the same size, or None.
        prediction: segments of the same size.
    """

    image: np.ndarray
    ground_truth: Overlay | None
    prediction: Overlay


def legend(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    which: Sequence[int],
    width: int,
    hatched: Sequence[str] = (),
) -> Image.Image:
    """A legend: a swatch and a name for each class, in rows that fill the width.

    Args:
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        which: the classes to list, in this order.
        width: width in pixels; increased if a single name is wider.
        hatched: name of hatched pixels; listed last.

    Returns:
        RGB image on white.

    Raises:
        ValueError: if names and colours differ in number, or ``which`` has an unknown class.
    """
    _check_classes(classes, palette)
    unknown = [label for label in which if not 0 <= label < len(classes)]
    if unknown:
        raise ValueError(f'which: found class {unknown[0]}, expected 0 to {len(classes) - 1}')
    swatch = FONT_SIZE + 4
    entries = [(classes[label], Image.new('RGB', (swatch, swatch), tuple(palette[label]))) for label in which]
    entries += [(name, Image.fromarray(hatch(swatch, swatch))) for name in hatched]
    font = ImageFont.load_default(FONT_SIZE)
    places, x, y = [], 0, 0
    for name, _ in entries:
        wide = swatch + 6 + int(np.ceil(font.getlength(name)))
        if x and x + wide > width:
            x, y = 0, y + swatch + GAP // 2
        places.append((x, y))
        width = max(width, x + wide)
        x += wide + 2 * GAP
    picture = Image.new('RGB', (width, y + swatch), PAPER)
    brush = ImageDraw.Draw(picture)
    for (name, patch), (x, y) in zip(entries, places, strict=True):
        picture.paste(patch, (x, y))
        brush.rectangle((x, y, x + swatch - 1, y + swatch - 1), outline=INK)
        brush.text((x + swatch + 6, y + swatch / 2), name, fill=INK, font=font, anchor='lm')
    return picture


def _check_classes(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> None:
    if len(classes) != len(palette):
        raise ValueError(f'palette: found {len(palette)} colours, expected one for each of the {len(classes)} classes')


def contact_sheet(examples: Sequence[Example], classes: Sequence[str], palette: Sequence[Sequence[int]]) -> Image.Image:
    """Image, ground truth and prediction of each example in a row, with titles above and a legend below.

    Args:
        examples: at least one; there is no ground-truth column if no example has any.
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.

    Returns:
        RGB image; every panel is `PANEL_HEIGHT` pixels high.

    Raises:
        ValueError: if there is no example, sizes differ, a class has no name or colour, or an array is of the wrong
            kind.
    """
    if not examples:
        raise ValueError('examples: found none, expected at least one')
    _check_classes(classes, palette)
    with_truth = any(example.ground_truth is not None for example in examples)
    columns = ('ground_truth', 'prediction') if with_truth else ('prediction',)
    rows, seen, hatched = [], set(), set()
    for example in examples:
        rows.append([enlarge(example.image)])
        for key in columns:
            segments = getattr(example, key)
            rows[-1].append(None if segments is None else _panel(key, example.image, segments, classes, palette))
            if segments is not None:
                ids = np.unique(segments.ids)
                seen.update(np.asarray(segments.labels)[ids[ids > 0] - 1].tolist())
                hatched.update([segments.void] if segments.void and 0 in ids else [])
    titles = ['image', *(key.replace('_', ' ') for key in columns)]
    wide = max(row[0].width for row in rows)
    key = legend(classes, palette, sorted(seen), len(titles) * (wide + GAP) - GAP, sorted(hatched))
    return _assemble(rows, titles, wide, key)


def _panel(
    key: str,
    image: np.ndarray,
    segments: Overlay,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> Image.Image:
    """`draw_segments` with a check that names the wrong argument."""
    if np.shape(segments.ids) != image.shape[:2]:
        raise ValueError(f'{key}: found size {np.shape(segments.ids)}, expected that of its image, {image.shape[:2]}')
    return draw_segments(image, segments, classes, palette)


def _assemble(rows: list[list[Image.Image | None]], titles: list[str], wide: int, key: Image.Image) -> Image.Image:
    """Arrange panels in columns of equal width, with titles and legend, on one white page."""
    top = GAP + TITLE_SIZE + GAP
    bottom = top + len(rows) * (PANEL_HEIGHT + GAP)
    page = Image.new('RGB', (key.width + 2 * GAP, bottom + key.height + GAP), PAPER)
    brush = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        left = GAP + column * (wide + GAP)
        middle = (left + wide / 2, GAP + TITLE_SIZE / 2)
        brush.text(middle, title, fill=INK, font=ImageFont.load_default(TITLE_SIZE), anchor='mm')
        for number, row in enumerate(rows):
            if row[column] is not None:
                place = (left + (wide - row[column].width) // 2, top + number * (PANEL_HEIGHT + GAP))
                page.paste(row[column], place)
    page.paste(key, (GAP, bottom))
    return page
