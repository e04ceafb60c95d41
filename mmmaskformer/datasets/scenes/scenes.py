"""Small synthetic scenes with perfect labels: a dataset for experiments that needs no download.

Landscapes of four stuff classes with things of five classes, which overlap, repeat, float and are cut off by the
border; a third of the images have an ignored region. Colour alone does not distinguish the classes (a third of the
balls, stars and rings have a random colour, trees are as green as grass), yet a small network learns them in minutes.

numpy and PIL only; `mmmaskformer.datasets.scenes.files` writes them to disk.
"""

from typing import NamedTuple

import numpy as np

from mmmaskformer.core.segments import VOID
from mmmaskformer.datasets.scenes.painting import Canvas, Shape, coverage, hsv, smooth_noise
from mmmaskformer.datasets.scenes.things import PAINTERS


class SceneClass(NamedTuple):
    """One row of the class table: name, whether it has instances (a thing), and its colour (R, G, B)."""

    name: str
    isthing: bool
    color: tuple[int, int, int]


# The only list of classes; the index is the label. Things and stuff alternate on purpose.
CLASSES = (
    SceneClass('sky', False, (112, 168, 224)),
    SceneClass('house', True, (214, 92, 60)),
    SceneClass('grass', False, (128, 190, 88)),
    SceneClass('ball', True, (240, 196, 48)),
    SceneClass('road', False, (128, 120, 128)),
    SceneClass('tree', True, (28, 112, 64)),
    SceneClass('water', False, (36, 84, 176)),
    SceneClass('star', True, (228, 88, 172)),
    SceneClass('ring', True, (132, 72, 200)),
)
IGNORE_LABEL = 255
METAINFO = {
    'classes': tuple(row.name for row in CLASSES),
    'palette': [list(row.color) for row in CLASSES],
    'isthing': tuple(row.isthing for row in CLASSES),
    'thing_classes': tuple(row.name for row in CLASSES if row.isthing),
    'stuff_classes': tuple(row.name for row in CLASSES if not row.isthing),
}
LABELS = {row.name: label for label, row in enumerate(CLASSES)}

HEIGHTS = (80, 112)
WIDTHS = (112, 144)
# A segment with fewer visible pixels becomes void, since an annotator could not label it.
MIN_AREA = 16
IGNORE_CHANCE = 1 / 3


class SceneSegment(NamedTuple):
    """A segment of a scene: its id in the panoptic map and its class index."""

    id: int
    label: int


class Scene(NamedTuple):
    """One image with its labels; both label maps agree in every pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        semantic: (H, W) uint8 class index, 255 for ignored pixels.
        panoptic: (H, W) int32 segment id, below 2**24, 0 for void (where ``semantic`` is 255).
        segments: one for each id that occurs; each stuff class has at most one.
    """

    image: np.ndarray
    semantic: np.ndarray
    panoptic: np.ndarray
    segments: tuple[SceneSegment, ...]


def make_scene(rng: np.random.Generator, size: tuple[int, int] | None = None) -> Scene:
    """Generate one scene.

    Args:
        rng: random generator; the same state gives the same scene.
        size: (height, width) in pixels, both at least 32; None draws it from `HEIGHTS` and `WIDTHS`.

    Returns:
        The scene.

    Raises:
        ValueError: if ``size`` is too small.
    """
    if size is None:
        size = (int(rng.integers(HEIGHTS[0], HEIGHTS[1] + 1)), int(rng.integers(WIDTHS[0], WIDTHS[1] + 1)))
    if min(size) < 32:
        raise ValueError(f'size: found {tuple(size)}, expected (height, width) of at least 32 pixels each')
    canvas = Canvas(size)
    horizon = _paint_sky_and_grass(rng, canvas)
    _paint_water(rng, canvas, horizon)
    _paint_road(rng, canvas, horizon)
    _paint_things(rng, canvas, horizon)
    if rng.random() < IGNORE_CHANCE:
        _paint_ignored(rng, canvas)
    image = _photograph(rng, canvas.image)
    return _label(rng, image, canvas)


def _paint_sky_and_grass(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Fill the image; return the row of the horizon at each column, (W,) float."""
    height, width = canvas.size
    rows = np.arange(height)[:, None]
    zenith = hsv(rng.choice([0.57, 0.6, 0.62, 0.9, 0.08]), rng.uniform(0.1, 0.6), rng.uniform(0.5, 1))
    haze = zenith + rng.uniform(0.3, 0.8) * (np.array([255, 240, 225]) - zenith)
    fade = np.broadcast_to(np.clip(rows / (0.6 * height), 0, 1), canvas.size)[..., None]
    canvas.paint(np.ones(canvas.size), zenith + fade * (haze - zenith), canvas.new_segment(LABELS['sky']))
    puffs = smooth_noise(rng, canvas.size, 11, stretch=2.5) + 0.5 * smooth_noise(rng, canvas.size, 5, stretch=2)
    clouds = np.clip(1.4 * puffs - rng.uniform(0.1, 1.2), 0, 1)
    canvas.tint(clouds * 0.8, np.array([245, 245, 245]))

    columns = np.linspace(0, 1, width)
    horizon = height * rng.uniform(0.22, 0.55) + np.zeros(width)
    for waves in (1, 2, 4):
        bend = height * rng.uniform(0, 0.09) / waves
        horizon += bend * np.sin(2 * np.pi * (waves * columns + rng.random()))
    meadow = hsv(rng.uniform(0.17, 0.36), rng.uniform(0.35, 0.7), rng.uniform(0.4, 0.75))
    patches = 1 + 0.16 * smooth_noise(rng, canvas.size, 14) + 0.09 * rng.standard_normal(canvas.size)
    canvas.paint(_below(rows, horizon), meadow * patches[..., None], canvas.new_segment(LABELS['grass']))
    return horizon


def _below(rows: np.ndarray, horizon: np.ndarray) -> np.ndarray:
    """Coverage, (H, W) in [0, 1], of the ground below the horizon."""
    return np.clip(rows - horizon + 0.5, 0, 1)


def _wander(rng: np.random.Generator, count: int, middle: float, swing: float) -> np.ndarray:
    """A smooth random curve of ``count`` values around ``middle``, at most ``swing`` away from it."""
    along = np.linspace(0, 1, count)
    return middle + swing * np.sin(2 * np.pi * (rng.uniform(0.3, 1.1) * along + rng.random()))


def _band(rng: np.random.Generator, canvas: Canvas, horizon: np.ndarray, wide: float, across: bool) -> np.ndarray:
    """Coverage, (H, W) in [0, 1], of a band: from side to side, or widening from the horizon to the bottom."""
    height, width = canvas.size
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    if across:
        low = horizon.max()
        middle = _wander(rng, width, rng.uniform(low + 0.15 * (height - low), height * 0.92), height * 0.06)
        band = wide * height / 2 - np.abs(rows - middle)
    else:
        nearness = np.clip((rows - horizon.min()) / (height - horizon.min()), 0, 1)
        far_x, near_x = width * rng.uniform(0.2, 0.8), width * rng.uniform(0.1, 0.9)
        middle = far_x + (near_x - far_x) * nearness + _wander(rng, height, 0, width * 0.08)[:, None] * nearness
        band = wide * width * (0.06 + nearness) / 2 - np.abs(columns - middle)
    return np.clip(band + 0.5, 0, 1) * _below(rows, horizon)


def _paint_water(rng: np.random.Generator, canvas: Canvas, horizon: np.ndarray) -> None:
    """Paint nothing, a lake below the horizon, or a river; blue to green like sky and grass, but with waves."""
    kind = rng.choice(['none', 'lake', 'river'], p=[0.35, 0.35, 0.3])
    if kind == 'none':
        return
    height, width = canvas.size
    rows = np.arange(height)[:, None]
    if kind == 'lake':
        shore = horizon.max() + _wander(rng, width, height * rng.uniform(0.1, 0.3), height * 0.05)
        alpha = np.clip(shore - rows + 0.5, 0, 1) * _below(rows, horizon)
    else:
        alpha = _band(rng, canvas, horizon, rng.uniform(0.25, 0.5), across=rng.random() < 0.4)
    colour = hsv(rng.uniform(0.48, 0.64), rng.uniform(0.3, 0.75), rng.uniform(0.4, 0.8))
    ripple = np.sin(rows * rng.uniform(1.2, 2.0) + 2.5 * smooth_noise(rng, canvas.size, 12))
    canvas.paint(alpha, colour * (1 + 0.2 * ripple)[..., None], canvas.new_segment(LABELS['water']))


def _paint_road(rng: np.random.Generator, canvas: Canvas, horizon: np.ndarray) -> None:
    """Paint nothing, or a road of asphalt or sand with a light edge on both sides."""
    if rng.random() < 0.35:
        return
    alpha = _band(rng, canvas, horizon, rng.uniform(0.16, 0.4), across=rng.random() < 0.5)
    warm = rng.random() < 0.4
    asphalt = hsv(0.09, rng.uniform(0.2, 0.45) if warm else 0.05, rng.uniform(0.35, 0.8))
    grain = 1 + 0.04 * rng.standard_normal(canvas.size)
    canvas.paint(alpha, asphalt * grain[..., None], canvas.new_segment(LABELS['road']))
    padded = np.pad(alpha, 2, mode='edge')
    inner = np.minimum.reduce([alpha, padded[:-4, 2:-2], padded[4:, 2:-2], padded[2:-2, :-4], padded[2:-2, 4:]])
    canvas.tint(0.45 * (alpha - inner), np.array([250, 245, 230]))


def _paint_things(rng: np.random.Generator, canvas: Canvas, horizon: np.ndarray) -> None:
    """Paint three to nine things of a few classes, from far (small, high up) to near (large, low down)."""
    height, width = canvas.size
    names = rng.choice(list(PAINTERS), size=int(rng.integers(2, 5)), replace=False)
    for depth in np.sort(rng.random(int(rng.integers(3, 10)))):
        name = str(rng.choice(names))
        tall = height * (0.2 + 0.34 * depth) * rng.uniform(0.8, 1.25)
        x = rng.uniform(-0.03, 1.03) * width
        floor = horizon[int(np.clip(x, 0, width - 1))]
        y = floor + (height * 1.06 - floor) * (0.06 + 0.94 * depth)
        if name in ('star', 'ring', 'ball'):
            tall *= 0.95
            if rng.random() < 0.5:
                y = rng.uniform(0.15, 0.9) * height
        else:
            tall *= 1.3
            shadow = np.array([(x - tall * 0.45, y - tall * 0.06), (x + tall * 0.45, y + tall * 0.08)])
            canvas.tint(0.35 * coverage(canvas.size, [Shape('ellipse', shadow)]), np.array([20, 25, 30]))
        canvas.paint_parts(rng, PAINTERS[name](rng, x, y, tall), canvas.new_segment(LABELS[name]))


def _paint_ignored(rng: np.random.Generator, canvas: Canvas) -> None:
    """Cover a region with a texture that belongs to no class: a smear, or a bar along the border."""
    height, width = canvas.size
    texture = hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.1, 0.9)) * np.ones((height, width, 1))
    if rng.random() < 0.5:
        rows, columns = np.mgrid[:height, :width]
        y, x = rng.uniform(0.15, 0.85) * height, rng.uniform(0.15, 0.85) * width
        distance = np.hypot((rows - y) / (0.22 * height), (columns - x) / (0.2 * width))
        alpha = np.clip(4 * (1 + 0.45 * smooth_noise(rng, canvas.size, 12) - distance), 0, 1)
        texture = texture * (1 + 0.5 * rng.choice([-1, 1], canvas.size)[..., None])
    else:
        deep, long = int(height * rng.uniform(0.1, 0.18)), int(width * rng.uniform(0.4, 1))
        alpha = np.zeros(canvas.size)
        alpha[-deep:, -long:] = 1
        letters = np.kron(rng.random((height // 2 + 1, width // 2 + 1)) < 0.45, np.ones((2, 2)))[:height, :width]
        letters[: height - deep + 3] = letters[-3:] = 0
        texture = np.where(letters[..., None] > 0, 255 - texture, texture)
        if rng.random() < 0.5:
            alpha, texture = alpha[::-1, ::-1], texture[::-1, ::-1]
    canvas.paint(alpha, texture, VOID)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Simulate a camera's light, colour cast, exposure and noise; converts float to (H, W, 3) uint8."""
    height, width = image.shape[:2]
    rows, columns = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None]
    light = 1 + rng.uniform(-0.25, 0.25) * rows + rng.uniform(-0.25, 0.25) * columns
    exposed = image * light[..., None] * rng.uniform(0.92, 1.08, 3) * rng.uniform(0.65, 1.15)
    noisy = exposed + rng.uniform(2, 6) * rng.standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _label(rng: np.random.Generator, image: np.ndarray, canvas: Canvas) -> Scene:
    """Drop barely visible segments and number the others close to the colours of their classes, as COCO does."""
    semantic = np.full(canvas.size, IGNORE_LABEL, np.uint8)
    panoptic = np.full(canvas.size, VOID, np.int32)
    segments: list[SceneSegment] = []
    for number, label in enumerate(canvas.labels, start=1):
        seen = canvas.ids == number
        if np.count_nonzero(seen) < MIN_AREA:
            continue
        taken = {segment.id for segment in segments}
        identity = _new_id(rng, label, taken)
        semantic[seen], panoptic[seen] = label, identity
        segments.append(SceneSegment(identity, label))
    return Scene(image, semantic, panoptic, tuple(segments))


def _new_id(rng: np.random.Generator, label: int, taken: set[int]) -> int:
    """An id that, read as R + 256 G + 65536 B, is the colour of the class; for things a variation of it."""
    color = np.array(CLASSES[label].color)
    while True:
        varied = np.clip(color + rng.integers(-28, 29, 3), 1, 255) if CLASSES[label].isthing else color
        identity = int(varied @ [1, 256, 65536])
        if identity not in taken:
            return identity
