"""MMDetection's form of panoptic results: one number per pixel, label + 1000 * instance, K for void.

That form holds 999 classes. With more, the factor is the next power of ten above K, 10,000 for 1,000 to 9,999 classes,
which MMDetection's own metric and drawing cannot read.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.quality.panoptic_map import PanopticMap, joint_runs, shorten
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_values

INSTANCE_OFFSET = 1000
MOST_CLASSES = INSTANCE_OFFSET - 1
"""Most classes whose labels, and K for void, stay below `INSTANCE_OFFSET`."""


def instance_offset(num_classes: int) -> int:
    """What an instance counts in a code: 1000, or with more classes than fit below it the next power of ten above K.

    Args:
        num_classes: K.
    """
    return INSTANCE_OFFSET if num_classes <= MOST_CLASSES else 10 ** len(str(num_classes))


def panoptic_codes(segments: QuerySegments, is_thing: Tensor) -> Tensor:
    """The numbers by which MMDetection's panoptic maps tell segments apart.

    Args:
        segments: of one image.
        is_thing: (K,) bool.

    Returns:
        (n,) int32, or int64 if codes are too large: label + offset * instance, see `instance_offset`. Things are
        numbered 1, 2, … in their order here; stuff has instance 0, but stuff of class 0 has instance 1: MMDetection's
        metric takes a code of 0 for void. Rows that are no segment have no meaning.
    """
    thing = is_thing[segments.labels] & segments.starts
    offset = instance_offset(len(is_thing))
    codes = segments.labels + offset * thing.cumsum(0) * thing
    highest = offset * (len(codes) + 2)
    return torch.where(codes == 0, offset, codes).to(torch.int32 if highest < 2**31 else torch.int64)


def decode_panoptic(encoded: np.ndarray, num_classes: int, what: str = 'panoptic map') -> tuple[np.ndarray, np.ndarray]:
    """Segments of a map in MMDetection's form.

    Args:
        encoded: (H, W) integer, label + offset * instance, see `instance_offset`; label K is void.
        num_classes: K.
        what: is decoded, for messages.

    Returns:
        Segments (H, W) int32 numbered from 1 in ascending order of their encoded value, 0 for void; and the label of
        each, (S,) int64.

    Raises:
        ValueError: if a value is negative, or its label above K.
    """
    values, _, lengths = joint_runs(encoded, encoded)
    numbers, labels = number_codes(values, num_classes=num_classes, what=what)
    return np.repeat(numbers.astype(np.int32), lengths).reshape(encoded.shape), labels


def with_void_restored(encoded: np.ndarray, codes: Sequence[int] | None, num_classes: int) -> np.ndarray:
    """Undo what MMDetection's ``CocoPanopticMetric`` does to a map in place: it writes 0 where there was void.

    Args:
        encoded: (H, W) integer, label + 1000 * instance.
        codes: of the segments in the map; None if they are not known, as for MMDetection's own heads, whose map is
            then taken as it is.
        num_classes: K.

    Returns:
        The map itself, or a copy with K in place of each 0 that no segment has.
    """
    if codes is None or encoded.all() or 0 in codes:
        return encoded
    return np.where(encoded == 0, num_classes, encoded)


def count_codes(truth: PanopticMap, encoded: np.ndarray, *, num_classes: int, name: str = 'image') -> SegmentCounts:
    """`mmmaskformer.core.quality.panoptic_quality.count_segments` for a prediction in MMDetection's form.

    Only the values that occur are decoded, not the map.

    Args:
        truth: as there.
        encoded: (H, W) integer, label + offset * instance; label K is void.
        num_classes: K.
        name: of the image or file, for messages.

    Raises:
        ValueError: as there, or if a value is negative, or its label above K.
    """
    number = partial(number_codes, num_classes=num_classes, what=f'{name}: panoptic map')
    return count_values(truth, encoded, number, num_classes=num_classes, name=name)


def number_codes(values: np.ndarray, *, num_classes: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Number the segments that values in MMDetection's form stand for.

    Args:
        values: (R,) int64, label + offset * instance; label K is void.
        num_classes: K.
        what: is decoded, for messages.

    Returns:
        (R,) int64 number of each, 0 for void; and the label of each segment, (S,) int64, in ascending order of values.

    Raises:
        ValueError: if a value is negative, or its label above K.
    """
    codes = np.unique(values)
    offset = instance_offset(num_classes)
    labels = codes % offset
    unknown = (codes < 0) | (labels > num_classes)
    if unknown.any():
        raise ValueError(
            f'{what}: found {shorten(codes[unknown])}, expected label + {offset} * instance with labels from '
            f'0 to {num_classes - 1}, or {num_classes} for void. Fix: evaluate with the class list that the model was '
            'trained with.'
        )
    is_segment = labels < num_classes
    numbers = np.where(is_segment, np.cumsum(is_segment), 0)
    return numbers[np.searchsorted(codes, values)], labels[is_segment]
