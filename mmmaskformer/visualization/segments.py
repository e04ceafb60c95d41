"""An image divided into segments: the form in which semantic, panoptic and instance results are drawn.

numpy only. Class indices may be of any integer type, so 847 classes work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmmaskformer.core.segments import Segments

IGNORED_NAME, VOID_NAME = 'ignored', 'void'


@dataclass(frozen=True, eq=False)
class Overlay(Segments[np.ndarray]):
    """Segments to draw, with ids 1 to S; a segment may have no pixels.

    Attributes:
        void: name in the legend for pixels without a segment, which are hatched; None does not mark them.
    """

    void: str | None = VOID_NAME


def segments_of_labels(labels: np.ndarray, ignore_label: int, void: str | None = IGNORED_NAME) -> Overlay:
    """Segments of a label map, one per class present.

    Args:
        labels: (H, W) int, class index or ``ignore_label``.
        ignore_label: label of pixels without a segment.
        void: see `Overlay`.

    Returns:
        Segments in ascending order of their class.

    Raises:
        ValueError: if ``labels`` is not a map of integers.
    """
    labels = require_integer_map('labels', labels)
    present = np.unique(labels)
    present = present[present != ignore_label].astype(np.int64)
    ids = np.searchsorted(present, labels) + 1
    ids[labels == ignore_label] = 0
    return Overlay(ids, present, void=void)


def segments_of_masks(masks: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Overlay:
    """Segments of masks that may overlap: the one with the highest score is on top.

    Args:
        masks: (S, H, W) bool.
        labels: (S,) int.
        scores: (S,) float.

    Returns:
        Segments in the order of the masks; pixels without a mask are not marked.
    """
    ids = np.zeros(masks.shape[1:], np.int32)
    for index in np.argsort(scores, kind='stable'):
        ids[masks[index]] = index + 1
    return Overlay(ids, labels, void=None)


def merge_classes(segments: Segments, void: str | None = IGNORED_NAME) -> Overlay:
    """One segment for all segments of a class, as in semantic segmentation."""
    present, merged = np.unique(segments.labels, return_inverse=True)
    return Overlay(np.append(0, merged + 1)[segments.ids], present, void=void)


def keep_classes(segments: Segments, kept: Sequence[bool]) -> Overlay:
    """Only the segments of some classes; all other pixels are not marked.

    Args:
        segments: segments of any classes.
        kept: (K,) whether to keep each class.
    """
    chosen = np.asarray(kept, bool)[segments.labels]
    numbers = np.append(0, np.cumsum(chosen) * chosen)
    return Overlay(numbers[segments.ids], segments.labels[chosen], void=None)


def require_integer_map(key: str, values: np.ndarray) -> np.ndarray:
    """Check that an array is a map of integers.

    Raises:
        ValueError: if it is not (H, W) or not of integers.
    """
    values = np.asarray(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f'{key}: found shape {values.shape} of {values.dtype}, expected (H, W) integers')
    return values


def require_segments(segments: Segments, num_classes: int) -> None:
    """Check that a map contains only segments that its labels list, with known classes.

    Raises:
        ValueError: if it does not.
    """
    ids, labels = require_integer_map('ids', segments.ids), np.asarray(segments.labels)
    if ids.size and (ids.min() < 0 or ids.max() > len(labels)):
        found = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f'ids: found {found}, expected 0 to {len(labels)}, the number of labels')
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if unknown.size:
        raise ValueError(
            f'labels: found class {unknown[0]}, expected 0 to {num_classes - 1}. Fix: give palette a colour for every '
            'class, and pixels of no class the ignored label'
        )
