"""MMDetection's encoding of panoptic results: one number per pixel, label + 1000 * instance, K for void.

Its metric and drawing require it in ``sem_seg`` of a data sample. Only this module encodes and decodes it; everything
else works with `mmmaskformer.core.segments.Segments`.

The encoding is limited to 999 classes. With more, the factor is the next power of ten above K, 10,000 for 1,000 to
9,999 classes, which MMDetection's own metric and drawing cannot read.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.quality.panoptic_map import distinct_values, numbered, shorten
from mmmaskformer.core.segments import VOID, Segments

INSTANCE_OFFSET = 1000
MOST_CLASSES = INSTANCE_OFFSET - 1
"""Largest number of classes for which all labels, and K for void, are below `INSTANCE_OFFSET`."""


def instance_offset(num_classes: int) -> int:
    """The factor of the instance in a code: 1000, or the next power of ten above K if K is too large for it.

    Args:
        num_classes: K.
    """
    return INSTANCE_OFFSET if num_classes <= MOST_CLASSES else 10 ** len(str(num_classes))


def panoptic_codes(segments: QuerySegments, is_thing: Tensor) -> Tensor:
    """The codes of segments in MMDetection's panoptic maps.

    Args:
        segments: of one image.
        is_thing: (K,) bool.

    Returns:
        (n,) int32, or int64 if codes are too large: label + offset * instance, see `instance_offset`. Things are
        numbered 1, 2, … in their order; stuff has instance 0, except stuff of class 0, which has instance 1, since
        MMDetection's metric treats the code 0 as void. Values of rows without a segment are undefined.
    """
    thing = is_thing[segments.labels] & segments.starts
    offset = instance_offset(len(is_thing))
    codes = segments.labels + offset * thing.cumsum(0) * thing
    highest = offset * (len(codes) + 2)
    return torch.where(codes == 0, offset, codes).to(torch.int32 if highest < 2**31 else torch.int64)


def encode_panoptic(segments: QuerySegments, is_thing: Tensor) -> tuple[Tensor, Tensor]:
    """Encode a panoptic result in MMDetection's form; does not synchronise with a GPU.

    Args:
        segments: of one image.
        is_thing: (K,) bool.

    Returns:
        The map (H, W), K for void; and the code (n,) of each row, see `panoptic_codes`.
    """
    codes = panoptic_codes(segments, is_thing)
    return segments.painted(codes, len(is_thing)), codes


def _wide(encoded: np.ndarray) -> np.ndarray:
    """The same codes in a type that holds K and the factor of the instance; the map itself if its type does.

    Raises:
        ValueError: if they are not whole numbers.
    """
    if encoded.dtype.kind not in 'iu':
        raise ValueError(f'panoptic map: found {encoded.dtype}, expected whole numbers, label + factor * instance')
    return encoded if encoded.dtype in (np.int32, np.uint32, np.int64) else encoded.astype(np.int64)


def segments_of_codes(
    encoded: np.ndarray, num_classes: int, listed: Sequence[int] | None = None, what: str = 'panoptic map'
) -> Segments[np.ndarray]:
    """Segments of a map in MMDetection's encoding; the map is not changed, its codes are the ids.

    MMDetection's ``CocoPanopticMetric`` replaces void by 0 in a map, in place. If the codes of the segments are known,
    a 0 is read as void.

    Args:
        encoded: (H, W) integer, label + offset * instance, see `instance_offset`; label K is void. It is not modified.
        num_classes: K.
        listed: codes of the segments in the map; None if unknown, as for MMDetection's own heads, whose map is used
            unchanged.
        what: description of the map, for messages.

    Returns:
        The segments that have pixels, in ascending order of their codes. The map is copied only if 0 is the code of a
        segment, or if its type is narrower than 32 bits.

    Raises:
        ValueError: if a value is negative or not whole, or its label above K.
    """
    encoded = _wide(encoded)
    codes = distinct_values(encoded)
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
    if 0 in codes and listed is not None and 0 not in listed:
        is_segment[0] = False
    elif 0 in codes:
        unused = codes[-1] + 1
        encoded, codes = (np.where(values == VOID, unused, values) for values in (encoded, codes))
    return Segments(encoded, labels[is_segment], listed_ids=codes[is_segment], void_ids=codes[~is_segment])


def decode_panoptic(
    encoded: np.ndarray, num_classes: int, listed: Sequence[int] | None = None, what: str = 'panoptic map'
) -> Segments[np.ndarray]:
    """Like `segments_of_codes`, with ids 1 to S in a new int32 map; for arguments and errors see there."""
    return numbered(segments_of_codes(encoded, num_classes, listed, what), num_classes=num_classes, name=what)


def with_void_restored(encoded: np.ndarray, listed: Sequence[int] | None, num_classes: int) -> np.ndarray:
    """Restore void in a map for MMDetection's drawing, after its ``CocoPanopticMetric`` may have replaced it by 0.

    Args:
        encoded: any shape, as in `segments_of_codes`.
        listed: as in `segments_of_codes`.
        num_classes: K.

    Returns:
        The map itself, or a copy with K in place of each 0 that is not the code of a segment.
    """
    if listed is None or encoded.all() or 0 in listed:
        return encoded
    return np.where(encoded == 0, num_classes, _wide(encoded))


def encode_index_map(segment_map: np.ndarray, labels: Sequence[int], num_classes: int) -> np.ndarray:
    """Encode ground truth for MMDetection's drawing; every segment is an instance.

    Args:
        segment_map: integer, of any shape: index of the segment at each pixel, negative for none.
        labels: (M,) class of each segment.
        num_classes: K.

    Returns:
        int64 of the same shape: label + offset * (index + 1), see `instance_offset`; K for void.
    """
    classes = np.array(labels, np.int64)
    codes = np.append(classes + instance_offset(num_classes) * np.arange(1, len(classes) + 1), num_classes)
    return codes[np.where(segment_map < 0, -1, segment_map)]


def has_segments(encoded: np.ndarray, num_classes: int) -> bool:
    """Whether a map of codes is not void everywhere."""
    return bool((_wide(encoded) % instance_offset(num_classes) < num_classes).any())


def with_present_classes(encoded: np.ndarray, num_classes: int) -> tuple[np.ndarray, list[int]]:
    """A map with the factor 1000, which MMDetection's drawing can read, of a map with any number of classes.

    Args:
        encoded: integer, of any shape: label + offset * instance, see `instance_offset`; label K is void.
        num_classes: K.

    Returns:
        int64 of the same shape: n + 1000 * instance, where n is the position of the label in the list of those that
        occur, and the length of the list for void; and that list.

    Raises:
        ValueError: if more than `MOST_CLASSES` classes occur.
    """
    codes, position = np.unique(_wide(encoded), return_inverse=True)
    labels = codes % instance_offset(num_classes)
    is_segment = labels < num_classes
    present = np.unique(labels[is_segment])
    if len(present) > MOST_CLASSES:
        raise ValueError(
            f"panoptic map: found {len(present)} classes, expected at most {MOST_CLASSES} for MMDetection's drawing. "
            'Fix: draw with mmmaskformer draw.'
        )
    numbers = np.searchsorted(present, labels) + INSTANCE_OFFSET * np.arange(1, len(codes) + 1)
    return np.where(is_segment, numbers, len(present))[position].reshape(encoded.shape), present.tolist()
