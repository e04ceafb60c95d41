"""Conventions of several transforms: the ignored label, the encoding of segment maps, the keys of label maps."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmmaskformer.formats.label_maps import IGNORE_INDEX_8BIT

PANOPTIC_MAP = 'gt_seg_map'
"""Key of the segment map of a panoptic sample, (H, W) int16: the key that the hosts' transforms move.

A pixel of segment i has the value `FIRST_SEGMENT` + i, a pixel without a segment has `FILL`. The hosts fill uncovered
pixels with 255 or 0; neither is ever the number of a segment.
"""
FILL = 255
FIRST_SEGMENT = 256
SEGMENT_LABELS = 'gt_segment_labels'
"""Key of the labels (M,) int64 of the segments; a sample that has it is a panoptic one."""


class LoadedPair(NamedTuple):
    """The state when the segments were loaded, with which `require_together` compares.

    Attributes:
        segments: the segment map itself, not a copy, since a transform that moves it replaces the array.
        image: `image_geometry` at that time.
    """

    segments: np.ndarray
    image: tuple


def image_geometry(results: Mapping, segments: np.ndarray) -> tuple:
    """The recorded geometry of an image.

    Args:
        results: results dict of the pipeline.
        segments: (H, W) segment map; its size is used if the image is not loaded yet.

    Returns:
        (height, width); the direction of the flip or None; the 9 numbers of MMDetection's ``homography_matrix``,
        rounded, or the identity.
    """
    size = tuple(results.get('img', segments).shape[:2])
    direction = results.get('flip_direction') if results.get('flip') else None
    matrix = results.get('homography_matrix')
    matrix = np.eye(3) if matrix is None else np.asarray(matrix, np.float64)
    return size, direction, tuple(np.round(matrix, 4).ravel().tolist())


def require_together(results: Mapping, transform: str) -> None:
    """Check that image and segment map were moved together since the map was loaded.

    A map that was loaded after the image was resized has the size of the file; then neither may be moved afterwards.
    Changes without a record, such as a rotation that keeps the size, are found by `mmmaskformer.datasets.pipelines`
    from the name of the transform.

    Args:
        results: with `PANOPTIC_MAP` and, if our loader wrote it, 'loaded_pair'.
        transform: name of the calling class, for the message.

    Raises:
        ValueError: if only one of the two was moved, or both were and differ in size.
    """
    loaded, segments, now = (
        results.get('loaded_pair'),
        results[PANOPTIC_MAP],
        image_geometry(results, results[PANOPTIC_MAP]),
    )
    moved_map = loaded is None or segments is not loaded.segments
    if tuple(segments.shape[:2]) == now[0] if moved_map else now == loaded.image:
        return
    flip = f', flipped ({now[1]})' if now[1] else ''
    raise ValueError(
        f'{transform}: image {results.get("img_path")} is {now[0]} (height, width){flip}, its segment map '
        f'{tuple(segments.shape[:2])}, {"moved" if moved_map else "as it was loaded"}; expected both to be moved '
        'together. Fix: remove the transform from the pipeline that moves the image but not gt_seg_map, or put '
        'LoadPanopticAnnotations before the transforms for training and after them for testing.'
    )


def agreed_value(key: str, argument: int | None, results: Mapping, transform: str) -> int | None:
    """A value that may be given by an argument of the transform, by the dataset, or by both.

    Args:
        key: its name, in the results and as argument: 'num_classes' or 'ignore_index'.
        argument: the argument of the transform; None if it is not given.
        results: the results dict; our datasets store ``key`` in it.
        transform: name of the calling class, for the message.

    Returns:
        The value; None if it is not given.

    Raises:
        ValueError: if both are given and differ.
    """
    provided = results.get(key)
    if argument is not None and provided is not None and argument != provided:
        raise ValueError(
            f'{transform}: {key}={argument} in the pipeline, but the dataset has {key}={provided}. '
            f'Fix: remove {key} from the pipeline; the dataset provides it.'
        )
    return provided if argument is None else argument


def ignore_index_of(argument: int | None, results: Mapping, transform: str) -> int:
    """The label of ignored pixels: the argument, else the dataset's, else 255.

    Raises:
        ValueError: if argument and dataset differ.
    """
    value = agreed_value('ignore_index', argument, results, transform)
    return IGNORE_INDEX_8BIT if value is None else value


def is_panoptic(results: Mapping) -> bool:
    """Whether `PANOPTIC_MAP` contains segments instead of labels."""
    return SEGMENT_LABELS in results


def label_map_keys(results: Mapping, transform: str) -> list[str]:
    """Keys of the label maps that must be moved with the image: ``results['seg_fields']``.

    Raises:
        ValueError: if the results contain boxes, instance masks or key points, which would not be moved.
    """
    left_behind = [key for key in ('gt_bboxes', 'gt_masks', 'gt_keypoints') if results.get(key) is not None]
    if left_behind:
        raise ValueError(
            f'{transform} moves images and label maps only, but the results also contain {left_behind}. Fix: use it '
            'before such annotations are loaded, or use the transforms of MMDetection in this pipeline.'
        )
    return [key for key in results.get('seg_fields', []) if results.get(key) is not None]
