"""Drawing tools of the synthetic scenes: soft shapes, noise, and a canvas that updates image and segment ids together.

numpy and PIL only. Lengths are pixels, colours float RGB in [0, 255], points (x, y) with y pointing down.
"""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mmmaskformer.core.segments import VOID

SUPERSAMPLING = 4


class Shape(NamedTuple):
    """One filled outline; a shape with ``hole`` is cut out of the shapes before it.

    Attributes:
        kind: 'polygon' or 'ellipse'.
        points: (N, 2) float, the corners; of an ellipse the top-left and bottom-right of its box.
        hole: whether it removes instead of adding.
    """

    kind: str
    points: np.ndarray
    hole: bool = False


class Part(NamedTuple):
    """Some shapes of one colour, such as the roof of a house.

    Attributes:
        shapes: the shapes that it covers.
        colour: (3,) float RGB in [0, 255].
        grain: strength of its texture as a fraction of the colour, 0 for a flat fill.
    """

    shapes: Sequence[Shape]
    colour: np.ndarray
    grain: float = 0.06


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Colour from hue (any float, 1 is a full turn), saturation and value in [0, 1].

    Returns:
        (3,) float64 RGB in [0, 255].
    """
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: float, stretch: float = 1) -> np.ndarray:
    """Cloudy noise: a coarse random grid, enlarged.

    Args:
        rng: random generator.
        size: (height, width) in pixels.
        cell: height of a lump in pixels.
        stretch: ratio of width to height of a lump.

    Returns:
        (height, width) float32 in [-1, 1].
    """
    grid = rng.uniform(-1, 1, (int(size[0] / cell) + 2, int(size[1] / cell / stretch) + 2)).astype(np.float32)
    enlarged = Image.fromarray(grid).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), -1, 1)


def coverage(size: tuple[int, int], shapes: Sequence[Shape]) -> np.ndarray:
    """The fraction of each pixel that the shapes cover.

    Args:
        size: (height, width) in pixels.
        shapes: drawn in order; parts outside of the image are cut off.

    Returns:
        (height, width) float32 in [0, 1].
    """
    height, width = size
    mask = Image.new('L', (width * SUPERSAMPLING, height * SUPERSAMPLING))
    brush = ImageDraw.Draw(mask)
    for shape in shapes:
        points = [tuple(point) for point in np.asarray(shape.points, float) * SUPERSAMPLING]
        draw = brush.ellipse if shape.kind == 'ellipse' else brush.polygon
        draw(points, fill=0 if shape.hole else 255)
    return np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32) / 255


class Canvas:
    """An image that is painted from far to near, with the id of the visible segment at each pixel.

    Attributes:
        image: (H, W, 3) float32 RGB, nominally in [0, 255].
        ids: (H, W) int32; 0 is void, segment i + 1 has the class ``labels[i]``.
        labels: class index of each segment.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """Start black and void; ``size`` is (height, width) in pixels."""
        self.size = size
        self.image = np.zeros((*size, 3), np.float32)
        self.ids = np.full(size, VOID, np.int32)
        self.labels: list[int] = []

    def new_segment(self, label: int) -> int:
        """Register a segment of class ``label`` and return its id."""
        self.labels.append(label)
        return len(self.labels)

    def tint(self, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Blend ``colour``, (3,) or (H, W, 3), into the image by ``alpha``, (H, W) in [0, 1]; ids do not change."""
        self.image += alpha[..., None] * (colour - self.image)

    def paint(self, alpha: np.ndarray, colour: np.ndarray, segment: int) -> None:
        """Blend as `tint` does and assign pixels that are covered by at least half to ``segment``."""
        self.tint(alpha, colour)
        self.ids[alpha >= 0.5] = segment

    def paint_parts(self, rng: np.random.Generator, parts: Sequence[Part], segment: int) -> None:
        """Paint a thing made of several parts, lit from the upper left; all its pixels belong to ``segment``."""
        height, width = self.size
        for part in parts:
            alpha = coverage(self.size, part.shapes)
            light = 1 + part.grain * rng.standard_normal(self.size)
            rows, columns = np.nonzero(alpha)
            if rows.size:
                # a gradient from bright to dark across the part, so that a fill is not flat
                slope = (np.arange(height)[:, None] - rows.mean()) / (np.ptp(rows) + 1)
                slope = slope + (np.arange(width)[None] - columns.mean()) / (np.ptp(columns) + 1)
                light = light - 0.18 * slope
            self.paint(alpha, part.colour * light[..., None], segment)
