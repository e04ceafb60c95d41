"""MMDetection's form of panoptic predictions: one number per pixel that tells class and instance."""

from collections.abc import Sequence

import numpy as np

from mmmaskformer.core.quality.panoptic_map import joint_runs

INSTANCE_OFFSET = 1000
"""MMDetection's panoptic maps hold label + 1000 * instance; K is void."""


def decode_panoptic(encoded: np.ndarray, num_classes: int, what: str = 'panoptic map') -> tuple[np.ndarray, np.ndarray]:
    """Segments of a map in MMDetection's form.

    Args:
        encoded: (H, W) integer, label + 1000 * instance; labels of K and above are void.
        num_classes: K.
        what: is decoded, for messages.

    Returns:
        Segments (H, W) int32 numbered from 1 in ascending order of their encoded value, 0 for void; and the label of
        each, (S,) int64.

    Raises:
        ValueError: if a value is negative.
    """
    values, _, lengths = joint_runs(encoded, encoded)
    numbers, labels = number_codes(values, num_classes, what)
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


def number_codes(values: np.ndarray, num_classes: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Number the segments that values in MMDetection's form stand for.

    Args:
        values: (R,) int64, label + 1000 * instance; labels of K and above are void.
        num_classes: K.
        what: is decoded, for messages.

    Returns:
        (R,) int64 number of each, 0 for void; and the label of each segment, (S,) int64, in ascending order of values.

    Raises:
        ValueError: if a value is negative.
    """
    codes = np.unique(values)
    if (codes < 0).any():
        raise ValueError(f'{what}: found {codes[0]}, expected label + {INSTANCE_OFFSET} * instance, never < 0')
    labels = codes % INSTANCE_OFFSET
    is_segment = labels < num_classes
    numbers = np.where(is_segment, np.cumsum(is_segment), 0)
    return numbers[np.searchsorted(codes, values)], labels[is_segment]
