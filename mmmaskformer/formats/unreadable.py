"""Messages for image files that cannot be decoded, with file name and reason."""

from collections.abc import Mapping

import cv2
from mmengine import fileio
from PIL import UnidentifiedImageError

from mmmaskformer.formats.png_chunks import find_damage, is_png

NOT_LOADED = 'failed to load image'
"""Beginning of the error of mmcv's LoadImageFromFile if OpenCV returns nothing."""


def is_decoding_error(error: BaseException) -> bool:
    """Whether an error is from mmcv's loader, which names neither the file nor the reason."""
    if isinstance(error, cv2.error):
        return 'imdecode' in str(error)
    return isinstance(error, UnidentifiedImageError) or (
        isinstance(error, AssertionError) and str(error).startswith(NOT_LOADED)
    )


def describe_unreadable(path: str, backend_args: Mapping | None = None) -> str:
    """A message for an image that could not be decoded.

    Args:
        path: of the file, which exists.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.
    """
    content = fileio.get(path, backend_args=backend_args)
    if not content:
        found, fix = 'empty (0 bytes)', 'copy it again, or remove it from the dataset'
    elif content.lstrip()[:1] == b'<' or content.startswith(b'version https://git-lfs'):
        found = f'{len(content)} bytes of text, as when a download failed or a Git LFS file is not fetched'
        fix = 'download it again'
    else:
        damage = find_damage(content) if is_png(content) else None
        found = f'{len(content)} bytes that cannot be decoded{f" ({damage})" if damage else ""}'
        fix = 'it is truncated, damaged or of another format; copy or convert it again, or remove it from the dataset'
    return f'image {path}: {found}, expected a picture. Fix: {fix}.'
