"""Photographs to draw on."""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from mmmaskformer.formats.images import (
    ORIENTATION,
    UNREADABLE,
    any_number_of_pixels,
    header_of,
    read_content,
)


def read_photo(path: str, backend_args: dict | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a photograph to draw on: upright according to its EXIF orientation, in colour, 8 bits.

    Images of more bits are stretched from their smallest to their largest value, since 12-bit data in 16 bits would be
    almost black.

    Args:
        path: of the file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.
        size: (height, width) of the map to draw. If only the stored pixels have this size, they are not rotated.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be decoded.
    """
    form = dict(what='image', expected='a picture of one to four bands')
    content = read_content(path, where='the path', backend_args=backend_args, **form)
    try:
        header = header_of(BytesIO(content))
    except UNREADABLE:
        header = None
    is_known = header is not None and header.bits <= 8 and header.is_colour
    is_turned = header is not None and (size != header.stored_size or size == header.upright_size)
    if is_known:
        try:
            with any_number_of_pixels():
                image = Image.open(BytesIO(content))
                return np.asarray((ImageOps.exif_transpose(image) if is_turned else image).convert('RGB'))
        except UNREADABLE as error:
            raise ValueError(
                f'image {path}: {len(content)} bytes that cannot be decoded ({error}), expected {form["expected"]}. '
                'Fix: the file is damaged; copy it again.'
            ) from error
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(
            f'image {path}: {len(content)} bytes that OpenCV cannot decode, expected {form["expected"]}. Fix: convert '
            'the file, for example to PNG.'
        )
    return _turned(_as_colours(pixels), header.orientation if header is not None and is_turned else 1)


def _as_colours(pixels: np.ndarray) -> np.ndarray:
    """Convert an image with any bands and bits in OpenCV's order to 8-bit RGB."""
    bands = pixels.reshape(*pixels.shape[:2], -1)
    bands = bands[..., 2::-1] if bands.shape[2] >= 3 else bands[..., [0, 0, 0]]
    low, high = np.nanmin(bands), np.nanmax(bands)
    stretched = (np.nan_to_num(bands.astype(np.float64), nan=float(low)) - low) * (255 / max(float(high - low), 1e-12))
    return np.ascontiguousarray(stretched.round().astype(np.uint8))


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the EXIF orientation to stored pixels."""
    if orientation == 1:
        return pixels
    image, tag = Image.fromarray(pixels), Image.Exif()
    tag[ORIENTATION] = orientation
    image.info['exif'] = tag.tobytes()
    return np.asarray(ImageOps.exif_transpose(image))
