"""Shapes of the synthetic things: each function returns the parts of one thing, from back to front.

All take the random generator, the point (x, y) at the middle of the base, and the height, in pixels.
"""

from collections.abc import Callable

import numpy as np

from mmmaskformer.datasets.scenes.painting import Part, Shape, hsv


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def _disc(x: float, y: float, radius: float, hole: bool = False) -> Shape:
    return Shape('ellipse', np.array([(x - radius, y - radius), (x + radius, y + radius)]), hole)


def _toy_colour(rng: np.random.Generator, hue: float) -> np.ndarray:
    """A bright colour near the usual hue; in one of ten cases a random hue, so that the shape matters."""
    chosen = hue + rng.uniform(-0.06, 0.06) if rng.random() < 0.9 else rng.random()
    return hsv(chosen, rng.uniform(0.6, 1), rng.uniform(0.65, 1))


def house(rng: np.random.Generator, x: float, y: float, height: float) -> list[Part]:
    """Walls with a gable or flat roof, a door and windows."""
    half = height * rng.uniform(0.35, 0.6)
    eaves = y - height * rng.uniform(0.55, 0.7)
    wall = hsv(rng.choice([0.02, 0.1, 0.13, 0.6]), rng.uniform(0.05, 0.5), rng.uniform(0.6, 0.95))
    roof = hsv(rng.choice([0.0, 0.04, 0.6, 0.08]), rng.uniform(0.3, 0.75), rng.uniform(0.3, 0.65))
    over = half * 1.12
    if rng.random() < 0.75:
        top = np.array([(x - over, eaves), (x + over, eaves), (x + half * rng.uniform(-0.4, 0.4), y - height)])
    else:
        top = _box(x - over, eaves - height * 0.12, x + over, eaves)
    parts = [Part([Shape('polygon', _box(x - half, eaves, x + half, y))], wall), Part([Shape('polygon', top)], roof)]
    door = x + half * rng.uniform(-0.15, 0.15)
    opening = _box(door - half * 0.16, y - height * 0.33, door + half * 0.16, y)
    parts.append(Part([Shape('polygon', opening)], roof * 0.7))
    glass = hsv(0.58, 0.25, rng.uniform(0.3, 0.9))
    for side in (-0.6, 0.6):
        middle = x + half * side
        pane = _box(middle - half * 0.17, y - height * 0.45, middle + half * 0.17, y - height * 0.25)
        parts.append(Part([Shape('polygon', pane)], glass, grain=0.02))
    return parts


def tree(rng: np.random.Generator, x: float, y: float, height: float) -> list[Part]:
    """A trunk with a crown of leaves, or the tiers of a fir; green like grass, or in autumn colours."""
    bark = hsv(0.07, rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.45))
    leaves = hsv(rng.uniform(0.06, 0.4), rng.uniform(0.5, 0.85), rng.uniform(0.3, 0.65))
    thick = height * 0.06
    parts = [Part([Shape('polygon', _box(x - thick, y - height * 0.5, x + thick, y))], bark)]
    if rng.random() < 0.4:
        tiers = []
        for low, high, half in ((0.15, 0.6, 0.32), (0.4, 0.8, 0.25), (0.6, 1.0, 0.17)):
            corners = [(x - half * height, y - low * height), (x + half * height, y - low * height)]
            tiers.append(Shape('polygon', np.array([*corners, (x, y - high * height)])))
        return [*parts, Part(tiers, leaves, grain=0.16)]
    radius = height * rng.uniform(0.24, 0.3)
    lumps = [_disc(x, y - height + radius, radius)]
    for angle in rng.uniform(0, 2 * np.pi, 5):
        centre_x, centre_y = x + radius * 0.75 * np.cos(angle), y - height * 0.66 + radius * 0.6 * np.sin(angle)
        lumps.append(_disc(centre_x, centre_y, radius * rng.uniform(0.6, 0.9)))
    return [*parts, Part(lumps, leaves, grain=0.16)]


def ball(rng: np.random.Generator, x: float, y: float, height: float) -> list[Part]:
    """Mostly red: a disc with a highlight, sometimes with a smaller disc of another colour on it."""
    radius = height / 2
    colour = _toy_colour(rng, 0.0)
    parts = [Part([_disc(x, y - radius, radius)], colour)]
    if rng.random() < 0.5:
        parts.append(Part([_disc(x, y - radius, radius * 0.55)], _toy_colour(rng, 0.0)))
    shine = colour + 0.6 * (255 - colour)
    parts.append(Part([_disc(x - radius * 0.4, y - radius * 1.4, radius * 0.18)], shine, grain=0))
    return parts


def star(rng: np.random.Generator, x: float, y: float, height: float) -> list[Part]:
    """Mostly yellow: a star of five or six points, turned by a random angle."""
    points = int(rng.integers(5, 7))
    angles = rng.uniform(0, 2 * np.pi) + np.arange(2 * points) * np.pi / points
    radii = np.where(np.arange(2 * points) % 2, rng.uniform(0.4, 0.5), 1) * height * 0.55
    corners = np.stack([x + radii * np.cos(angles), y - height / 2 + radii * np.sin(angles)], axis=1)
    return [Part([Shape('polygon', corners)], _toy_colour(rng, 0.14))]


def ring(rng: np.random.Generator, x: float, y: float, height: float) -> list[Part]:
    """Mostly violet: a ring; the background is visible through its hole."""
    radius = height / 2
    hole = _disc(x, y - radius, radius * rng.uniform(0.4, 0.55), hole=True)
    return [Part([_disc(x, y - radius, radius), hole], _toy_colour(rng, 0.77))]


PAINTERS: dict[str, Callable[..., list[Part]]] = {
    'house': house, 'tree': tree, 'ball': ball, 'star': star, 'ring': ring,
}  # fmt: skip
