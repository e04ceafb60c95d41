"""The masks of queries over their image: a row for each image and model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmmaskformer.visualization.draw import INK, PAPER, draw_segments, enlarge
from mmmaskformer.visualization.segments import Overlay

HEIGHT, FONT_SIZE, GAP = 180, 14, 8
MAX_MASKS = 8
"""Largest number of masks in a row; the title counts the others."""


class QueryMask(NamedTuple):
    """The mask of one query.

    Attributes:
        query: index of the query.
        score: probability of the class.
        mask: (H, W) bool.
    """

    query: int
    score: float
    mask: np.ndarray


class MaskRow(NamedTuple):
    """The masks that a model predicts in an image.

    Attributes:
        title: name of the model.
        image: (H, W, 3) uint8 RGB.
        masks: of the queries that predict the class, the most probable first.
    """

    title: str
    image: np.ndarray
    masks: Sequence[QueryMask]


def mask_sheet(rows: Sequence[MaskRow], name: str, colour: Sequence[int]) -> Image.Image:
    """Image and masks of each row side by side, below the title of the row.

    Args:
        rows: at least one.
        name: of the class.
        colour: of the masks, [R, G, B] in [0, 255].

    Returns:
        RGB image on white.

    Raises:
        ValueError: if there is no row, or a mask has another size than its image.
    """
    if not rows:
        raise ValueError('rows: found none, expected at least one')
    strips = [_strip(row, name, colour) for row in rows]
    page = Image.new('RGB', (max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    return page


def _strip(row: MaskRow, name: str, colour: Sequence[int]) -> Image.Image:
    shown = row.masks[:MAX_MASKS]
    panels = [('image', enlarge(row.image, HEIGHT))]
    for query, score, mask in shown:
        if mask.shape != row.image.shape[:2]:
            raise ValueError(f'mask: found size {mask.shape}, expected that of its image, {row.image.shape[:2]}')
        overlay = Overlay(mask.astype(np.int32), np.zeros(1, np.int64), void=None)
        caption = f'query {query}, {score:.2f}' + ('' if mask.any() else ', empty')
        panels.append((caption, draw_segments(row.image, overlay, [name], [colour], HEIGHT)))
    font = ImageFont.load_default(FONT_SIZE)
    number = f'{len(row.masks)} quer{"y predicts" if len(row.masks) == 1 else "ies predict"} {name}'
    title = f'{row.title}: {number}' + (f', {len(shown)} shown' if len(shown) < len(row.masks) else '')
    line = FONT_SIZE + GAP
    widths = [max(panel.width, math.ceil(font.getlength(caption))) + GAP for caption, panel in panels]
    width = max(sum(widths), math.ceil(font.getlength(title)) + GAP) + GAP
    strip = Image.new('RGB', (width, GAP + 2 * line + HEIGHT), PAPER)
    brush = ImageDraw.Draw(strip)
    brush.text((GAP, GAP), title, fill=INK, font=font)
    left = GAP
    for (caption, panel), column in zip(panels, widths, strict=True):
        brush.text((left, GAP + line), caption, fill=INK, font=font)
        strip.paste(panel, (left, GAP + 2 * line))
        left += column
    return strip
