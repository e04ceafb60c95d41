"""The random draws of the shipped training pipelines follow the published distributions.

The published rules are written here from the description of the official mappers: edges from a list, one crop, colours,
flip. No pixels are resized or padded, which other tests compare; maps of rows and columns record how an image is
transformed.

The published rules are written out here, from the description of the official mappers: edges from a list, one crop,
colours, flip. Pixels are neither resized nor padded, which other tests compare; maps of rows and columns show what
became of an image.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from scipy import stats

from mmmaskformer.datasets.transforms import color, framing, geometry
from mmmaskformer.datasets.transforms.framing import RandomCropRange
from mmmaskformer.registry import TRANSFORMS

BASES = Path(__file__).parents[2] / 'configs/_base_/datasets'
DRAWS = 150
SURE = 1e-4
"""Below this p-value, the distributions differ; the draws are seeded, so that the test is deterministic."""
ADE = [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024]
BY_64 = list(range(320, 1281, 64))
# short edges, longest side, crop (height, width), and padded size
PUBLISHED = {
    'ade20k': (ADE, 2048, (512, 512), (512, 512)),
    'ade20k_full': (ADE, 2048, (512, 512), (512, 512)),
    'ade20k_640': (BY_64, 2560, (640, 640), (640, 640)),
    'ade20k_panoptic': (BY_64, 2560, (640, 640), (640, 640)),
    'cocostuff10k': (BY_64[:11], 2560, (640, 640), (640, 640)),
    'cityscapes': ([1024 * x // 10 for x in range(5, 21)], 4096, (512, 1024), None),
    'cityscapes_panoptic': ([1024 * x // 10 for x in range(5, 21)], 4096, (512, 1024), None),
    'mapillary': ([2048 * x // 10 for x in range(5, 21)], 8192, (1280, 1280), (1280, 1280)),
    'mapillary_panoptic': ([2048 * x // 10 for x in range(5, 21)], 8192, (1280, 1280), (1280, 1280)),
}
SIZES = {'cityscapes': [(1024, 2048)], 'cityscapes_panoptic': [(1024, 2048)]}
OTHER_SIZES = [(512, 683), (700, 512), (300, 1500)]


def published_size(size: tuple[int, int], short: int, longest: int | None) -> tuple[int, int]:
    """The published rule for an image of this (height, width)."""
    scale = short / min(size)
    new = [short, scale * size[1]] if size[0] < size[1] else [scale * size[0], short]
    if longest is not None and max(new) > longest:
        shrink = longest / max(new)
        new = [side * shrink for side in new]
    return int(new[0] + 0.5), int(new[1] + 0.5)


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Replaces resizing, without allocating memory: int32 becomes a map of rows, int64 of columns, images are black."""
    if pixels.dtype == np.int32:
        return np.broadcast_to(np.arange(size[0], dtype=np.int32)[:, None], size)
    if pixels.dtype == np.int64:
        return np.broadcast_to(np.arange(size[1], dtype=np.int64), size)
    return np.broadcast_to(np.zeros(3, np.uint8), (*size, 3))


@pytest.fixture
def drawn(monkeypatch):
    """Draws samples from the pipeline of a base: sizes after each resize, colours, and the final maps."""
    log = SimpleNamespace(sizes=[], colours=[], padded=[])

    def resize_image(image, size):
        log.sizes.append(size)
        return resized(image, size)

    def change_color(image, change):
        log.colours.append(change)
        return image

    def pad(array, size, value):
        log.padded.append((size, value))
        return array

    monkeypatch.setattr(framing, '_pad', pad)
    monkeypatch.setattr(geometry, 'resize_image', resize_image)
    monkeypatch.setattr(geometry, 'resize_labels', resized)
    monkeypatch.setattr(color, 'change_color', change_color)

    def draw(base: str, size: tuple[int, int], count: int):
        config = Config.fromfile(BASES / f'{base}.py')
        changing = [
            step for step in config.train_pipeline if not step.type.rpartition('.')[2].startswith(('Load', 'Pack'))
        ]
        with DefaultScope.overwrite_default_scope('mmseg'):
            steps = [TRANSFORMS.build(step) for step in changing]
        for _ in range(count):
            log.sizes, log.colours, log.padded = [], [], []
            results = {
                'img': resized(np.zeros(1, np.uint8), size),
                'gt_seg_map': resized(np.zeros(1, np.int32), size),
                'gt_columns': resized(np.zeros(1, np.int64), size),
                'seg_fields': ['gt_seg_map', 'gt_columns'],
                'scale_factor': 1,
            }
            for step in steps:
                results = step(results)
            yield results, log

    np.random.seed(0)
    return draw


def require_uniform(values: list, cells: list) -> None:
    """All cells are equally likely, and no other values occur."""
    counts = [values.count(cell) for cell in cells]
    assert sum(counts) == len(values), set(values) - set(cells)
    assert stats.chisquare(counts).pvalue > SURE, dict(zip(cells, counts, strict=True))


def require_half(number: int, count: int) -> None:
    assert stats.binomtest(number, count, 0.5).pvalue > SURE, f'{number} of {count}'


def require_places(places: list[tuple[int, int]]) -> None:
    """Each offset is uniform between 0 and its margin, inclusive."""
    assert all(0 <= place <= margin for place, margin in places)
    free = [(place + np.random.uniform()) / (margin + 1) for place, margin in places if margin]
    if free:
        assert stats.kstest(free, 'uniform').pvalue > SURE


def flipped_start(line: np.ndarray, count: int) -> tuple[int, bool]:
    """First column of a crop, and whether it was flipped."""
    first, last = int(line[0]), int(line[count - 1])
    assert abs(last - first) == count - 1
    return min(first, last), last < first


@pytest.mark.parametrize('base', PUBLISHED)
def test_sizes_crops_flips_and_colours(drawn, base):
    edges, longest, crop, padded = PUBLISHED[base]
    found_edges, rows, columns, flips, colours, count = [], [], [], 0, [], 0
    for size in SIZES.get(base, OTHER_SIZES):
        edge_of = {}
        for edge in edges:
            edge_of.setdefault(published_size(size, edge, longest), []).append(edge)
        for results, log in drawn(base, size, DRAWS):
            [scaled] = log.sizes
            same = edge_of[scaled]
            # because of the limit, several edges may give the same size: any of these
            found_edges.append(same[np.random.randint(len(same))])
            height, width = (min(side, limit) for side, limit in zip(scaled, crop, strict=True))
            assert results['img'].shape[:2] == (height, width) == results['gt_seg_map'].shape
            assert log.padded == ([(padded, 255), (padded, 255), (padded, 128)] if padded else [])
            top = int(results['gt_seg_map'][0, 0])
            left, flipped = flipped_start(results['gt_columns'][0], width)
            assert int(results['gt_seg_map'][-1, 0]) == top + height - 1, 'never upside down'
            rows.append((top, scaled[0] - height))
            columns.append((left, scaled[1] - width))
            flips += flipped
            colours += log.colours
            count += 1
    assert len(colours) == count
    require_uniform(found_edges, edges)
    require_places(rows)
    require_places(columns)
    require_half(flips, count)
    require_colours(colours)


def require_colours(changes: list) -> None:
    """Each operation is applied half of the time, in one of two orders, with uniform strength, all independent."""
    ranges = dict(brightness=(-32, 32), contrast=(0.5, 1.5), saturation=(0.5, 1.5))
    used = {name: [getattr(change, name) is not None for change in changes] for name in (*ranges, 'hue')}
    for name, (low, high) in ranges.items():
        values = [getattr(change, name) for change in changes if getattr(change, name) is not None]
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > SURE, name
    require_uniform([change.hue for change in changes if change.hue is not None], list(range(-18, 19)))
    for name, flags in used.items():
        require_half(sum(flags), len(changes))
        for other, others in used.items():
            if name < other:
                require_half(sum(a == b for a, b in zip(flags, others, strict=True)), len(changes))
    require_half(sum(change.contrast_first for change in changes), len(changes))


def test_coco_panoptic(drawn, monkeypatch):
    """As for DETR: flip; half of the time a resize and a crop of free shape; then the final resize."""
    crops = []
    method = vars(RandomCropRange)['_draw']
    draw = method.func

    def record(self, height, width):
        spans = draw(self, height, width)
        crops.append(spans)
        return spans

    monkeypatch.setattr(method, 'func', record)
    first, last, lengths, places, flips, cropped, count = [], [], [], [], 0, 0, 0
    for size in [(480, 640), (640, 427), (300, 640)]:
        for results, log in drawn('coco_panoptic', size, 2 * DRAWS):
            count += 1
            flips += bool(results['flip'])
            before = size
            if len(log.sizes) == 2:
                cropped += 1
                first += [edge for edge in (400, 500, 600) if published_size(size, edge, None) == log.sizes[0]]
                spans = crops.pop()
                before = tuple(span.stop - span.start for span in spans)
                for side, length, span in zip(log.sizes[0], before, spans, strict=True):
                    least = min(384, side)
                    lengths.append((length - least, min(600, side) - least))
                    places.append((span.start, side - length))
            edges = [edge for edge in range(480, 801, 32) if published_size(before, edge, 1333) == log.sizes[-1]]
            last.append(edges[np.random.randint(len(edges))])
            assert results['img'].shape[:2] == log.sizes[-1] and log.colours == []
    assert not crops
    require_half(flips, count)
    require_half(cropped, count)
    require_uniform(first, [400, 500, 600])
    require_uniform(last, list(range(480, 801, 32)))
    require_places(lengths)
    require_places(places)
