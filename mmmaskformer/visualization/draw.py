"""Label maps as pictures: colours, borders, legends, and image, ground truth and prediction side by side.

Arrays in, PIL images out; numpy and PIL only. Class indices may be of any integer type, so 847 classes work.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

IGNORED_NAME = 'ignored'
PAPER, INK = (255, 255, 255), (30, 30, 30)
HATCH_LIGHT, HATCH_DARK, HATCH_PERIOD = 205, 150, 8
OPACITY = 0.7
FONT_SIZE, TITLE_SIZE, GAP = 15, 17, 10
PANEL_HEIGHT = 300


class Example(NamedTuple):
    """One row of a contact sheet.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        ground_truth: (H, W) int class index, or None where there is none.
        prediction: (H, W) int class index.
    """

    image: np.ndarray
    ground_truth: np.ndarray | None
    prediction: np.ndarray


def hatch(height: int, width: int) -> np.ndarray:
    """The pattern of ignored pixels: grey diagonal stripes.

    Returns:
        (height, width, 3) uint8.
    """
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % HATCH_PERIOD
    grey = np.where(diagonal < HATCH_PERIOD // 2, HATCH_LIGHT, HATCH_DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def colour_labels(labels: np.ndarray, palette: Sequence[Sequence[int]], ignore_label: int) -> np.ndarray:
    """Colour a label map.

    Args:
        labels: (H, W) int, class index or ``ignore_label``.
        palette: (K, 3) colours in [0, 255], RGB.
        ignore_label: its pixels are hatched in grey.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: if ``labels`` is not a map of integers, ``palette`` is not a list of colours, or a class has none.
    """
    labels = _checked_labels(labels)
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or colours.min() < 0 or colours.max() > 255:
        raise ValueError(f'palette: found shape {colours.shape}, expected (K, 3) colours in [0, 255]')
    ignored = labels == ignore_label
    used = labels[~ignored]
    if used.size and (used.min() < 0 or used.max() >= len(colours)):
        raise ValueError(
            f'labels: found class {used.min() if used.min() < 0 else used.max()}, expected 0 to {len(colours) - 1} or '
            f'ignore_label {ignore_label}. Fix: give palette a colour for every class'
        )
    picture = colours.astype(np.uint8)[np.where(ignored, 0, labels)]
    picture[ignored] = hatch(*labels.shape)[ignored]
    return picture


def _checked_labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'labels: found shape {labels.shape} of {labels.dtype}, expected (H, W) integers')
    return labels


def segment_borders(labels: np.ndarray) -> np.ndarray:
    """Where one segment meets another.

    Args:
        labels: (H, W) int, class indices or segment ids.

    Returns:
        (H, W) bool, True at pixels whose right or lower neighbour has another label.

    Raises:
        ValueError: if ``labels`` is not a map of integers.
    """
    labels = _checked_labels(labels)
    borders = np.zeros(labels.shape, bool)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def blend(image: np.ndarray, colours: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Lay colours over the brightness of an image; its own colours are dropped, so that they mislead nobody.

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
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    mixed = opacity * colours.astype(np.float32) + (1 - opacity) * grey[..., None]
    return np.rint(mixed).astype(np.uint8)


def legend(
    classes: Sequence[str], palette: Sequence[Sequence[int]], which: Sequence[int], width: int, ignored: bool = False
) -> Image.Image:
    """A legend: a swatch and a name for each class, in rows that fill the width.

    Args:
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        which: the classes to list, in this order.
        width: pixels; grows if one name alone is wider.
        ignored: whether to list the hatching of ignored pixels last.

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
    if ignored:
        entries.append((IGNORED_NAME, Image.fromarray(hatch(swatch, swatch))))
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


def side_by_side(
    image: np.ndarray,
    ground_truth: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignore_label: int,
) -> Image.Image:
    """Image, ground truth and prediction in a row, with borders and a legend of the classes that occur.

    Args:
        image: (H, W, 3) uint8 RGB.
        ground_truth: (H, W) int, class index or ``ignore_label``; None leaves its panel out.
        prediction: (H, W) int, likewise.
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        ignore_label: drawn hatched.

    Returns:
        RGB image; every panel is `PANEL_HEIGHT` pixels high.

    Raises:
        ValueError: if sizes differ, a class has no name or colour, or an array is of the wrong kind.
    """
    return contact_sheet([Example(image, ground_truth, prediction)], classes, palette, ignore_label)


def contact_sheet(
    examples: Sequence[Example], classes: Sequence[str], palette: Sequence[Sequence[int]], ignore_label: int
) -> Image.Image:
    """Several examples below each other, as `side_by_side` draws one, with one line of titles and one legend.

    Args:
        examples: at least one; the ground-truth column is left out if none has any.
        classes: K names.
        palette: (K, 3) colours in [0, 255], RGB.
        ignore_label: drawn hatched.

    Returns:
        RGB image.

    Raises:
        ValueError: as `side_by_side`, or if there is no example.
    """
    if not examples:
        raise ValueError('examples: found none, expected at least one')
    _check_classes(classes, palette)
    with_truth = any(example.ground_truth is not None for example in examples)
    titles = ['image', 'ground truth', 'prediction'] if with_truth else ['image', 'prediction']
    rows, seen = [], set()
    for example in examples:
        rows.append([_enlarge(example.image)])
        for key in ('ground_truth', 'prediction') if with_truth else ('prediction',):
            labels = getattr(example, key)
            if labels is not None and np.shape(labels) != example.image.shape[:2]:
                size = example.image.shape[:2]
                raise ValueError(f'{key}: found size {np.shape(labels)}, expected that of its image, {size}')
            rows[-1].append(None if labels is None else _panel(example.image, labels, palette, ignore_label))
            seen.update([] if labels is None else np.unique(labels).tolist())
    return _assemble(rows, titles, classes, palette, sorted(seen - {ignore_label}), ignore_label in seen)


def _panel_size(height: int, width: int) -> tuple[int, int]:
    return max(1, round(width * PANEL_HEIGHT / height)), PANEL_HEIGHT


def _enlarge(image: np.ndarray) -> Image.Image:
    """Bring an image to the height of a panel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'image: found shape {image.shape} of {image.dtype}, expected (H, W, 3) uint8')
    return Image.fromarray(image).resize(_panel_size(*image.shape[:2]), Image.Resampling.BICUBIC)


def _panel(image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]], ignore_label: int) -> Image.Image:
    """Labels over the image, at the height of a panel."""
    width, height = _panel_size(*labels.shape)
    # Colours, hatching and borders are drawn at the final size, so that they are crisp at any enlargement.
    rows = (np.arange(height) + 0.5) * labels.shape[0] // height
    columns = (np.arange(width) + 0.5) * labels.shape[1] // width
    large = labels[np.ix_(rows.astype(int), columns.astype(int))]
    picture = blend(np.asarray(_enlarge(image)), colour_labels(large, palette, ignore_label))
    picture[segment_borders(large)] = INK
    return Image.fromarray(picture)


def _assemble(
    rows: list[list[Image.Image | None]],
    titles: list[str],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    which: list[int],
    ignored: bool,
) -> Image.Image:
    """Set panels, titles and legend on one white page."""
    wide = max(row[0].width for row in rows)
    key = legend(classes, palette, which, len(titles) * (wide + GAP) - GAP, ignored)
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
