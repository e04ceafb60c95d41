"""Panoptic PNG files in COCO's format: the colour of a pixel is its segment id, R + 256 G + 65536 B, 0 for void."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from mmmaskformer.core.segments import VOID
from mmmaskformer.core.structures import NO_SEGMENT
from mmmaskformer.formats.images import decode_picture, read_content, require_map
from mmmaskformer.formats.png_chunks import find_damage, is_png, read_header
from mmmaskformer.formats.whole_files import explaining

VOID_ID = VOID
FORM = dict(what='panoptic PNG', expected='an RGB PNG')
MAX_ID = 2**24 - 1
READ_COLOURS, COLOURS_TO_RGBA = (
    # Before 4.11 OpenCV returns BGR, for which it swaps the colours of every pixel.
    (cv2.IMREAD_COLOR_RGB, cv2.COLOR_RGB2RGBA)
    if hasattr(cv2, 'IMREAD_COLOR_RGB')
    else (cv2.IMREAD_COLOR, cv2.COLOR_BGR2RGBA)
)


def read_ids(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Read a panoptic PNG, after verifying its checksums.

    Args:
        path: of the file. Other lossless formats of 8-bit RGB are read as well.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        (H, W) int32 segment ids; 0 is void. A rotation in the file's EXIF data is not applied.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty or damaged, cannot be decoded or is not RGB of 8 bits.
    """
    where = "data_root and data_prefix['seg'] of the dataset"
    content = read_content(str(path), where=where, backend_args=backend_args, **FORM)
    return decode_ids(content, path)


def decode_ids(content: bytes, path: str | Path) -> np.ndarray:
    """Segment ids of the bytes of a panoptic PNG; see `read_ids`.

    Args:
        content: of the file, at least one byte.
        path: of the file, for messages.
    """
    header = read_header(content)
    damage = find_damage(content) if is_png(content) else None
    if damage is not None:
        raise _not_decodable(content, path, damage)
    if header is not None and (header.bits, header.colour) == (8, 'RGB'):
        # OpenCV decodes faster than Pillow, and has a higher limit on the number of pixels.
        try:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), READ_COLOURS | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise _not_decodable(content, path, f'{header.height} x {header.width} pixels: {error.err}') from error
        if pixels is None:
            raise _not_decodable(content, path, f'OpenCV does not read its {header.height} x {header.width} pixels')
        return ids_of_colours(pixels, COLOURS_TO_RGBA)
    pixels, mode = decode_picture(content, str(path), **FORM)
    # Pillow reduces 16-bit channels to 8 bits without a change of mode.
    if mode != 'RGB' or header is not None:
        raise ValueError(
            f'panoptic PNG {path}: found a picture of shape {pixels.shape} (Pillow mode {mode!r}, '
            f'{header.bits if header else 8} bits), expected RGB of 8 bits with id = R + 256 G + 65536 B. Fix: set '
            "data_prefix['seg'] to the folder of the panoptic PNG files."
        )
    return ids_of_colours(pixels)


def _not_decodable(content: bytes, path: str | Path, reason: object) -> ValueError:
    return ValueError(
        f'panoptic PNG {path}: {len(content)} bytes that cannot be decoded ({reason}), expected an RGB PNG. Fix: the '
        'file is damaged or not an image; copy or convert it again.'
    )


def ids_of_colours(pixels: np.ndarray, conversion: int = cv2.COLOR_RGB2RGBA) -> np.ndarray:
    """Segment ids of the colours of a panoptic PNG.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        conversion: OpenCV's code for another order of the channels than RGB.

    Returns:
        (H, W) int32, R + 256 G + 65536 B.
    """
    # Three bytes and a zero byte form a little-endian integer.
    ids = cv2.cvtColor(pixels, conversion).view('<i4')[..., 0]
    ids &= 0xFFFFFF
    return ids


def colours_of_ids(ids: np.ndarray) -> np.ndarray:
    """Colours of segment ids, the inverse of `ids_of_colours`.

    Args:
        ids: (H, W) integer in [0, 2**24).

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: if an id is out of range, or they are not a map of whole numbers.
    """
    require_map(ids)
    if ids.min() < 0 or ids.max() > MAX_ID:
        raise ValueError(f'panoptic map: found ids from {ids.min()} to {ids.max()}, expected 0 to {MAX_ID}')
    return np.ascontiguousarray(ids.astype('<u4')[..., None].view(np.uint8)[..., :3])


def encode_ids(ids: np.ndarray) -> bytes:
    """The bytes of a panoptic PNG.

    Args:
        ids: (H, W) integer in [0, 2**24).

    Raises:
        ValueError: if an id is out of range.
    """
    return cv2.imencode('.png', colours_of_ids(ids)[..., ::-1])[1].tobytes()


def write_ids(path: str | Path, ids: np.ndarray) -> None:
    """Write a panoptic PNG. For a set of files use `mmmaskformer.formats.whole_files.whole_folder`.

    Args:
        path: the file; its folder must exist.
        ids: (H, W) integer in [0, 2**24).

    Raises:
        ValueError: if an id is out of range.
        OSError: if the file cannot be written.
    """
    try:
        content = encode_ids(ids)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    with explaining(path):
        Path(path).write_bytes(content)


def replace_ids(
    ids: np.ndarray, numbers: Mapping[int, int], missing: int = NO_SEGMENT
) -> tuple[np.ndarray, dict[int, int]]:
    """Replace every segment id by a number.

    It works on runs of equal pixels, of which a segmentation has few, without sorting or looping over pixels.

    Args:
        ids: (H, W) int32 segment ids.
        numbers: number by id, in the range of int32.
        missing: number for ids that are not in ``numbers``, in the range of int16.

    Returns:
        (H, W) int16 numbers, int32 if one is too large for it; and the number of pixels of each id that occurs.
    """
    pixels = ids.ravel()
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    lengths = np.diff(starts, append=pixels.size)
    found, id_of_run = np.unique(pixels[starts], return_inverse=True)
    areas = np.bincount(id_of_run, weights=lengths).astype(np.int64)
    dtype = np.int16 if max(numbers.values(), default=0) <= np.iinfo(np.int16).max else np.int32
    number_of_id = np.array([numbers.get(number, missing) for number in found.tolist()], dtype)
    replaced = np.repeat(number_of_id[id_of_run], lengths).reshape(ids.shape)
    return replaced, dict(zip(found.tolist(), areas.tolist(), strict=True))
