"""Ids in published label files: lookup tables, counts, and errors for unknown ids and truncated images."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mmmaskformer.formats.images import UNREADABLE, any_number_of_pixels, read_header

MAX_IDS = 2**16
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND'}
"""First bytes of JPEG and PNG files, and the marker at their end, which does not occur in the pixel data."""
END_BYTES = 64


def lookup_table(label_of_id: dict[int, int], missing: int) -> np.ndarray:
    """Build a lookup table for ids of up to 16 bits.

    Args:
        label_of_id: label for each id in the files.
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
        ids: integer, any shape; values from 0 to 65535 are counted without sorting.
    """
    if ids.size and (ids.min() < 0 or ids.max() >= MAX_IDS):
        return np.unique(ids, return_counts=True)
    pixels = np.bincount(ids.ravel())
    found = np.flatnonzero(pixels)
    return found, pixels[found]


def require_known_ids(ids: np.ndarray, known: Iterable[int], path: Path, expected: str) -> None:
    """Check that a file contains only published ids.

    Args:
        ids: integer ids of the file.
        known: ids that may occur.
        path: path of the file.
        expected: description of the ids, for the message.

    Raises:
        ValueError: if there are other ids; names them with their numbers of pixels.
    """
    found, pixels = ids_and_pixels(ids)
    unknown = ~np.isin(found, list(known))
    if unknown.any():
        rows = zip(found[unknown][:8].tolist(), pixels[unknown][:8].tolist(), strict=True)
        named = ', '.join(f'{number} ({count} px)' for number, count in rows)
        raise ValueError(
            f'{path}: found the ids {named}, expected {expected}. Fix: the file is damaged or belongs to another '
            'release of the dataset; unpack the archive again.'
        )


def count_labels(labels: np.ndarray, num_classes: int) -> dict[int, int]:
    """Count the pixels of each class.

    Args:
        labels: (H, W) integer; values from ``num_classes`` on are ignored.
        num_classes: K.

    Returns:
        Number of pixels by label, without zeros.
    """
    counts = np.bincount(np.minimum(labels.ravel(), num_classes), minlength=num_classes + 1)[:num_classes]
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def is_truncated(image: Path) -> bool:
    """Whether an image file ends early, like the last one of an archive that was not fully unpacked.

    Image readers fill the missing part with grey without an error. A file that does not end with the end marker of
    JPEG or PNG is decoded to find out.

    Args:
        image: path of a file whose header can be read.
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
    """Check that an image is complete and that an annotation has its size, as stored.

    Args:
        image: path.
        annotation: path.
        size: (height, width) of the annotation.

    Raises:
        ValueError: if the image cannot be decoded, is truncated or has another size.
    """
    header = read_header(str(image))
    if header is None:
        raise ValueError(
            f'{image}: {image.stat().st_size} bytes that are not an image, expected an image. Fix: unpack the archive '
            'again.'
        )
    if is_truncated(image):
        raise ValueError(
            f'{image}: truncated after {image.stat().st_size} bytes, expected a complete image. Fix: the archive was '
            'not fully unpacked; unpack it again.'
        )
    if header.stored_size != size:
        raise ValueError(
            f'{annotation}: {size[0]} x {size[1]} pixels (height x width), but its image {image} has '
            f'{header.stored_size[0]} x {header.stored_size[1]}. Expected equal sizes. Fix: one of the two is damaged '
            'or belongs to another release; unpack the archives again.'
        )
