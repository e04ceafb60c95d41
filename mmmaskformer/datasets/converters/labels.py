"""Ids of published label files: what they become, and one error for those that should not be there; whole images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mmmaskformer.formats.images import UNREADABLE, any_number_of_pixels, read_header

MAX_IDS = 2**16
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND'}
"""The first two bytes of JPEG and PNG files, and what stands at their end and nowhere in their pixels."""
END_BYTES = 64


def lookup_table(label_of_id: dict[int, int], missing: int) -> np.ndarray:
    """A table for ids of up to 16 bits.

    Args:
        label_of_id: id in a file to label.
        missing: label of all other ids.

    Returns:
        (65536,) int64.
    """
    table = np.full(MAX_IDS, missing, np.int64)
    table[list(label_of_id)] = list(label_of_id.values())
    return table


def ids_and_pixels(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids that occur, ascending, and the number of pixels of each.

    Args:
        ids: integer, any shape; from 0 to 65535 it is counted without sorting.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= MAX_IDS):
        return np.unique(ids, return_counts=True)
    pixels = np.bincount(ids.ravel())
    found = np.flatnonzero(pixels)
    return found, pixels[found]


def require_known_ids(ids: np.ndarray, known: Iterable[int], path: Path, expected: str) -> None:
    """Check that a file holds published ids only.

    Args:
        ids: integer, of the file.
        known: ids that may occur.
        path: of the file.
        expected: what the ids are, for the message.

    Raises:
        ValueError: naming the other ids, with their pixels.
    """
    found, pixels = ids_and_pixels(ids)
    unknown = ~np.isin(found, list(known))
    if unknown.any():
        rows = zip(found[unknown][:8].tolist(), pixels[unknown][:8].tolist(), strict=True)
        named = ', '.join(f'{number} ({count} px)' for number, count in rows)
        raise ValueError(
            f'{path}: found the ids {named}, expected {expected}. Fix: the file is damaged or of another release of '
            'the data set; unpack the archive again.'
        )


def count_labels(labels: np.ndarray, num_classes: int) -> dict[int, int]:
    """Pixels of each class.

    Args:
        labels: (H, W) integer; values from ``num_classes`` on are ignored.
        num_classes: K.

    Returns:
        Label to number of pixels, without zeros.
    """
    counts = np.bincount(np.minimum(labels.ravel(), num_classes), minlength=num_classes + 1)[:num_classes]
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def is_cut_off(image: Path) -> bool:
    """Whether a picture lacks its end, as the last one of an archive that was not fully unpacked.

    Readers of pictures fill the rest with grey and say nothing. Only a file that does not end as JPEG and PNG files do,
    such as one with bytes after the picture, is decoded.

    Args:
        image: path of a file that is a picture by its header.
    """
    with open(image, 'rb') as stream:
        end = ENDS.get(stream.read(2))
        stream.seek(max(0, image.stat().st_size - END_BYTES))
        if end is not None and end in stream.read():
            return False
    try:
        with any_number_of_pixels(), Image.open(image) as picture:
            picture.load()
    except UNREADABLE:
        return True
    return False


def require_same_size(image: Path, annotation: Path, size: tuple[int, int]) -> None:
    """Check that an image is whole, and that an annotation has its size, as stored.

    Args:
        image: path.
        annotation: path.
        size: (height, width) of the annotation.

    Raises:
        ValueError: if the image is no picture, lacks its end, or is of another size.
    """
    header = read_header(str(image))
    if header is None:
        raise ValueError(
            f'{image}: {image.stat().st_size} bytes that are not an image, expected an image. Fix: unpack the archive '
            'again.'
        )
    if is_cut_off(image):
        raise ValueError(
            f'{image}: {image.stat().st_size} bytes, the beginning of an image, expected a whole one. Fix: the archive '
            'was not fully unpacked; unpack it again.'
        )
    if header.stored_size != size:
        raise ValueError(
            f'{annotation}: {size[0]} x {size[1]} pixels (height x width), but its image {image} has '
            f'{header.stored_size[0]} x {header.stored_size[1]}. Expected one size. Fix: one of the two is of another '
            'release or damaged; unpack the archives again.'
        )
