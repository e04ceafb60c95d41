"""Synthetic panoptic maps for `panoptic_quality.py`: ground truth and prediction, of COCO's size, rough outlines."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NUM_CLASSES = 133
PARTS = ('truth', 'result')
"""Folders of ground truth and prediction."""

Pair = tuple[dict, dict]
"""Entries of ground truth and prediction of one image."""


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    """(2, H, W) displacements with a standard deviation of about a third of ``cell`` pixels."""
    coarse = rng.normal(0, cell / 2, (2, size[0] // cell + 2, size[1] // cell + 2)).astype(np.float32)
    return np.stack([cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC) for part in coarse])


def draw(centres: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Index of the nearest centre of each displaced pixel, (H, W)."""
    grid = np.indices(noise.shape[1:]) + noise
    return np.argmin([np.square(grid - centre[:, None, None]).sum(axis=0) for centre in centres], axis=0)


def describe(regions: np.ndarray, ids: np.ndarray, labels: np.ndarray, is_crowd: np.ndarray) -> list[dict]:
    """``segments_info`` of the regions that have pixels and are not void (id 0)."""
    areas = np.bincount(regions.ravel(), minlength=len(ids))
    return [
        {'id': int(ids[i]), 'category_id': int(labels[i]) + 1, 'iscrowd': int(is_crowd[i]), 'area': int(areas[i])}
        for i in range(len(ids))
        if ids[i] and areas[i]
    ]


def save(file: Path, ids: np.ndarray) -> None:
    """Write a panoptic PNG with Pillow, like those of COCO; it compresses better than OpenCV's default."""
    Image.fromarray(np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)).save(file)


def make_image(rng: np.random.Generator, size: tuple[int, int], name: str, folder: Path) -> Pair:
    """Write ground truth and prediction of one image; returns the entries of their JSON files."""
    count = int(rng.integers(16, 27))
    centres = rng.uniform(0, 1, (count, 2)) * size
    noise = smooth_noise(rng, size, 48) + smooth_noise(rng, size, 6)
    labels, is_crowd = rng.integers(0, NUM_CLASSES, count), rng.random(count) < 0.03
    entries = []
    for part, moved in zip(PARTS, (noise, noise + smooth_noise(rng, size, 10)), strict=True):
        ids = rng.choice(2**24 - 1, count, replace=False) + 1
        ids[rng.random(count) < 0.05] = 0
        regions = draw(centres, moved)
        save(folder / part / name, ids[regions])
        entries.append({'image_id': name, 'file_name': name, 'segments_info': describe(regions, ids, labels, is_crowd)})
        labels = np.where(rng.random(count) < 0.8, labels, rng.integers(0, NUM_CLASSES, count))
    return tuple(entries)
