"""Image files: reading bytes and headers, lossless decoding, and atomic writing."""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from mmmaskformer.formats.png_chunks import find_damage, is_png
from mmmaskformer.formats.whole_files import write_whole

PNG_DEPTH = 24
"""Position of the bits per band in a PNG file."""
TIFF_STARTS = (b'II*\x00', b'MM\x00*', b'II+\x00', b'MM\x00+')
TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_ORIENTATION, TIFF_BANDS = 256, 257, 258, 262, 274, 277
TIFF_SUBFILE, TIFF_NO_PAGE = 254, 0b101
"""The tag that marks overviews (1) and transparency masks (4)."""
TIFF_COLOURS = (2, 5, 6)
"""Photometric interpretations: RGB, CMYK, YCbCr."""
ORIENTATION = 0x0112
"""The EXIF tag: 1 upright, 2 to 4 mirrored or turned by 180 degrees, 5 to 8 turned by 90 degrees."""
LOSSY_FORMATS = {'JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF'}
LOSSY_TIFF = {'jpeg', 'tiff_jpeg', 'webp'}
MAX_PIXELS = 1 << 30
"""OpenCV's limit, which applies to images as well."""
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    struct.error,
    Image.DecompressionBombError,
)
"""Errors of Pillow for files that it cannot read."""

_pixel_limit = threading.Lock()


class ImageHeader(NamedTuple):
    """Facts of an image file that are available without decoding.

    Attributes:
        stored_size: (height, width) of the stored pixels.
        upright_size: (height, width) after the EXIF orientation is applied.
        orientation: the EXIF orientation, 1 to 8; 1 if there is none.
        bits: per band.
        bands: number of bands; 1 for grey and palette files.
        is_colour: whether the first three bands are red, green and blue; False for the bands of other instruments, of
            which OpenCV silently reads only one.
        tiff_orientation: the same tag of a TIFF file, which OpenCV and Pillow always apply; the sizes and
            ``orientation`` are those of the upright image.
    """

    stored_size: tuple[int, int]
    upright_size: tuple[int, int]
    orientation: int
    bits: int
    bands: int
    is_colour: bool = True
    tiff_orientation: int = 1


def read_content(path: str, *, what: str, expected: str, where: str, backend_args: dict | None = None) -> bytes:
    """The bytes of an annotation file.

    Args:
        path: of the file.
        what: kind of file, for messages.
        expected: expected format, for messages.
        where: settings to check if the file is missing, for the message.
        backend_args: as in `mmengine.fileio.get`, for files that are not on disk.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{what} {path}: not found. Expected: one for each image. Fix: check {where}.'
        ) from None
    if not content:
        raise ValueError(f'{what} {path}: empty (0 bytes), expected {expected}. Fix: copy or convert it again.')
    return content


def decode_picture(content: bytes, path: str, *, what: str, expected: str) -> tuple[np.ndarray, str]:
    """Decode an annotation file with Pillow, of up to `MAX_PIXELS` pixels.

    Args:
        content: content of the file.
        path: path of the file, for messages.
        what: kind of file, for messages.
        expected: expected format, for messages.

    Returns:
        Its pixels, (H, W) or (H, W, channels), as stored; and its Pillow mode.

    Raises:
        ValueError: if it cannot be decoded, has wrong checksums, has several pages, or is in a format with lossy
            compression, such as JPEG, regardless of its name.
    """
    try:
        damage = find_damage(content) if is_png(content) else None
        if damage is not None:
            raise ValueError(damage)
        with any_number_of_pixels():
            image = Image.open(BytesIO(content))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f'{image.height} x {image.width} pixels, more than {MAX_PIXELS}')
            _require_lossless(image, path, what, expected)
            _require_one_page(image)
            return np.asarray(image), image.mode
    except LossyFormatError:
        raise
    except UNREADABLE as error:
        raise ValueError(
            f'{what} {path}: {len(content)} bytes that cannot be decoded ({error}), expected {expected}. Fix: the file '
            'is damaged or not a single image; copy or convert it again.'
        ) from error


class LossyFormatError(ValueError):
    """An annotation is stored in a format that changes pixels."""


def _require_lossless(image: Image.Image, path: str, what: str, expected: str) -> None:
    compression = str(image.info.get('compression', '')).lower()
    if image.format not in LOSSY_FORMATS and not (image.format == 'TIFF' and compression in LOSSY_TIFF):
        return
    kind = image.format if image.format in LOSSY_FORMATS else f'TIFF with {compression} compression'
    raise LossyFormatError(
        f'{what} {path}: found a {kind} file by its content, expected {expected}. Such compression changes pixels, and '
        'with them class ids. Fix: export the annotation again as PNG; renaming or converting the file does not bring '
        'the lost ids back.'
    )


def _require_one_page(image: Image.Image) -> None:
    """Raise if there is another page of the same size; overviews and masks of GeoTIFF files do not count."""
    pages = 1
    for number in range(1, getattr(image, 'n_frames', 1)):
        size = image.size
        image.seek(number)
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        is_page = not tags.get(TIFF_SUBFILE, 0) & TIFF_NO_PAGE
        pages += is_page and image.size == size
        image.seek(0)
    if pages > 1:
        raise ValueError(f'{pages} pages of {image.height} x {image.width} pixels, of which only one would be read')


@contextmanager
def any_number_of_pixels() -> Iterator[None]:
    """Lift Pillow's limit of 179 million pixels, which aerial and medical images exceed."""
    with _pixel_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def read_header(path: str, backend_args: dict | None = None) -> ImageHeader | None:
    """Read the header of an image file.

    Args:
        path: path of the file.
        backend_args: as in `mmengine.fileio.get`. If the file is on disk, only its beginning is read.

    Returns:
        The header; None if the file is missing or its format is unknown.
    """
    try:
        if backend_args is None and os.path.isfile(path):
            with open(path, 'rb') as stream:
                return header_of(stream)
        return header_of(BytesIO(fileio.get(path, backend_args=backend_args)))
    except UNREADABLE:
        return None


def header_of(stream: BinaryIO) -> ImageHeader:
    """Read the header of an image from a stream.

    Args:
        stream: the file, at its beginning.

    Raises:
        Exception: one of `UNREADABLE` if its format is unknown.
    """
    start = stream.read(16)
    if start.startswith(TIFF_STARTS):
        return _tiff_header(stream, start)
    stream.seek(0)
    with any_number_of_pixels(), Image.open(stream) as image:
        orientation = orientation_of(image)
        stored = (image.height, image.width)
        upright = stored[::-1] if orientation >= 5 else stored
        return ImageHeader(stored, upright, orientation, _bits(image, stream), len(image.getbands()))


def _tiff_header(stream: BinaryIO, start: bytes) -> ImageHeader:
    """Read the header from the tags, since Pillow supports few combinations of bands and bits."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(start if start[2:3] == b'+' or start[3:4] == b'+' else start[:8])
    stream.seek(tags.next)
    tags.load(stream)
    size = (tags[TIFF_HEIGHT], tags[TIFF_WIDTH])
    # Every reader applies the orientation of TIFF files itself.
    turned = tags.get(TIFF_ORIENTATION, 1)
    size = size[::-1] if turned >= 5 else size
    bits, bands = max(np.atleast_1d(tags.get(TIFF_BITS, 1)).tolist()), tags.get(TIFF_BANDS, 1)
    is_colour = bands == 1 or tags.get(TIFF_PHOTOMETRIC) in TIFF_COLOURS
    return ImageHeader(size, size, 1, bits, bands, is_colour, turned)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 to 8; 1 if it is absent or out of range."""
    # Pillow would decode the whole PNG to find EXIF data behind the pixels.
    known = image.format != 'PNG' or 'exif' in image.info
    orientation = image.getexif().get(ORIENTATION, 1) if known else 1
    return orientation if orientation in range(1, 9) else 1


def _bits(image: Image.Image, stream: BinaryIO) -> int:
    """Bits per band in the file; Pillow decodes colours of 16 bits to 8 silently."""
    if image.format == 'PNG':
        stream.seek(0)
        return stream.read(PNG_DEPTH + 1)[PNG_DEPTH]
    return 16 if image.mode.startswith('I') else 32 if image.mode == 'F' else 8


def stored_bits(content: bytes) -> int:
    """Bits per band in a picture file.

    Args:
        content: of a file that Pillow can read.
    """
    return header_of(BytesIO(content)).bits


def grey_levels(path: str) -> tuple[int, int] | None:
    """Number of distinct values of the pixels of a file, and the number that remains when it is read with 8 bits.

    Args:
        path: of the file.

    Returns:
        None if the file is not on disk or OpenCV cannot decode it.
    """
    if not os.path.isfile(path):
        return None
    content = np.fromfile(path, np.uint8)
    whole, cut = (cv2.imdecode(content, flag) for flag in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_COLOR))
    return None if whole is None or cut is None else (np.unique(whole).size, np.unique(cut).size)


def require_map(values: np.ndarray) -> None:
    """Check that values can be written as a map; OpenCV would write floats or several channels as something else.

    Args:
        values: anything.

    Raises:
        ValueError: unless they are (H, W) integer or bool, with at least one pixel.
    """
    if not isinstance(values, np.ndarray):
        raise ValueError(f'found a {type(values).__name__}, expected a numpy array (H, W) of whole numbers')
    if values.ndim != 2 or not values.size or values.dtype.kind not in 'iub':
        raise ValueError(
            f'found an array of shape {values.shape} and type {values.dtype}, expected a map (H, W) of whole numbers'
        )


def write_content(file: str | Path, content: bytes) -> None:
    """Write a file atomically.

    Args:
        file: path of the file; its folder is created.
        content: content of the file.
    """
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content)
