"""Semantic label maps of 8 and 16 bits as files, and the valid range of labels."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePath

import cv2
import numpy as np
from PIL import Image

from mmmaskformer.core.checks import whole
from mmmaskformer.formats.images import (
    ORIENTATION,
    decode_picture,
    read_content,
    require_map,
    stored_bits,
    write_content,
)
from mmmaskformer.formats.messages import some

IGNORE_INDEX_8BIT = 255
IGNORE_INDEX_16BIT = 65535
MAX_LABEL = 65535
BIT_MODES = {'1', 'L', 'P'}
WIDE_MODES = {'I', 'I;16', 'I;16L', 'I;16B', 'I;16N'}
SHOWN = 8
"""Number of items that a message names."""
FORM = dict(what='label file', expected='a one-channel PNG or TIFF')


def read_label_map(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read a one-channel label map; a palette ('P' mode) file gives its indices.

    Args:
        path: file of any format Pillow reads without loss, such as PNG or TIFF.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        (H, W) uint8 for files of up to 8 bits, int32 in [0, 65535] for wider ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: see `decode_label_map`.
    """
    where = "data_root, data_prefix['seg_map_path'] and seg_map_suffix of the dataset"
    return decode_label_map(read_content(path, where=where, backend_args=backend_args, **FORM), path)


def decode_label_map(content: bytes, path: str) -> np.ndarray:
    """The label map in the bytes of a file; see `read_label_map`.

    Raises:
        ValueError: if the content cannot be decoded, is of a format that changes pixels (JPEG), has several pages or
            channels, an EXIF orientation, grey levels of 2 or 4 bits, or values that are not labels.
    """
    pixels, mode = decode_picture(content, path, **FORM)
    _require_no_orientation(content, path)
    if mode == 'L':
        _require_unscaled(content, path)
    if mode in BIT_MODES:
        return pixels.astype(np.uint8)
    if mode not in WIDE_MODES:
        fix = 'if it shows palette colours, convert the colours to class ids first'
        raise ValueError(
            f'label file {path}: found a picture of shape {pixels.shape} (Pillow mode {mode!r}), expected one channel '
            f'of class ids (8 or 16 bit). Fix: {"write whole numbers, not floats" if mode == "F" else fix}.'
        )
    if pixels.min() < 0 or pixels.max() > MAX_LABEL:
        raise ValueError(
            f'label file {path}: found values from {pixels.min()} to {pixels.max()}, expected class ids from 0 to '
            f'{MAX_LABEL}. Fix: write the map with 8 or 16 bits, the ignored pixels as 255 or 65535.'
        )
    return pixels.astype(np.int32)


def _require_unscaled(content: bytes, path: str) -> None:
    """Raise for grey levels of 2 or 4 bits, which readers stretch to 0 to 255: 15 of 15 becomes 255."""
    bits = stored_bits(content)
    if bits in (2, 4):
        raise ValueError(
            f'label file {path}: found grey levels of {bits} bits, expected class ids of 8 or 16 bits (or a palette). '
            f'Readers stretch them, so that id 1 would become {255 // (2**bits - 1)}, and {2**bits - 1} become 255, '
            'usually the ignored label. Fix: save the ids again with 8 bits.'
        )


def _require_no_orientation(content: bytes, path: str) -> None:
    """Raise if viewers rotate the map on display, unlike programs that read the stored pixels."""
    if b'eXIf' not in content:
        return
    orientation = Image.open(BytesIO(content)).getexif().get(ORIENTATION, 1)
    if orientation != 1:
        raise ValueError(
            f'label file {path}: found the EXIF orientation {orientation}, expected none: viewers rotate such a map, '
            'but programs read the stored pixels. Fix: save it without EXIF, in the orientation of its image.'
        )


def encode_label_map(labels: np.ndarray, wide: bool) -> bytes:
    """The bytes of a PNG file with a label map.

    Args:
        labels: (H, W) integer in [0, 255], or in [0, 65535] if ``wide``.
        wide: whether to use 16 bits.

    Raises:
        ValueError: if a label does not fit, or they are not a map of whole numbers.
    """
    require_map(labels)
    dtype = np.uint16 if wide else np.uint8
    if labels.min() < 0 or labels.max() > np.iinfo(dtype).max:
        raise ValueError(
            f'found labels from {labels.min()} to {labels.max()}, expected 0 to {np.iinfo(dtype).max} in a label file '
            f'of {np.iinfo(dtype).bits} bits'
        )
    return cv2.imencode('.png', labels.astype(dtype))[1].tobytes()


def write_label_map(file: str | Path, labels: np.ndarray, *, wide: bool = False) -> None:
    """Write a label map as PNG, atomically.

    Args:
        file: path of the file; its folder is created.
        labels: (H, W) integer.
        wide: whether to use 16 bits.

    Raises:
        ValueError: if a label does not fit.
    """
    write_content(file, encode_label_map(labels, wide))


def result_name(image: str, image_root: str | None = None) -> str:
    """Name of the label map of an image, relative to the folder of results.

    Args:
        image: path of the image.
        image_root: folder of all images; the folders below it are kept. With None, or for an image outside of it, only
            the name is used.

    Returns:
        The name, such as 'val/berlin/000001.png', always with '/'.
    """
    path = PurePath(image)
    if image_root is not None and path.is_relative_to(image_root):
        return path.relative_to(image_root).with_suffix('.png').as_posix()
    return PurePath(path.name).with_suffix('.png').as_posix()


def shift_labels(labels: np.ndarray, ignore_index: int) -> np.ndarray:
    """Subtract 1 from every label; 0 becomes ``ignore_index``, which is not changed (``reduce_zero_label``).

    Args:
        labels: (H, W) uint8 or int32.
        ignore_index: label of ignored pixels.

    Returns:
        A new map, int32 if the dtype of ``labels`` does not hold ``ignore_index``.
    """
    if ignore_index > np.iinfo(labels.dtype).max:
        labels = labels.astype(np.int32)
    ignored = (labels == 0) | (labels == ignore_index)
    shifted = labels - np.ones((), labels.dtype)
    shifted[ignored] = ignore_index
    return shifted


def replace_labels(labels: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """Replace every label that is a key of ``label_map`` by its value, simultaneously; others are not changed.

    Args:
        labels: (H, W) uint8 or int32, not negative.
        label_map: old to new label, both from 0 to 65535; an empty one changes nothing.

    Returns:
        A new map, int32 if a new label does not fit the dtype of ``labels``.

    Raises:
        ValueError: if a label of ``label_map`` is not a label.
    """
    accepts = whole(0, MAX_LABEL).accepts
    wrong = {old: new for old, new in label_map.items() if not (accepts(old) and accepts(new))}
    if wrong:
        raise ValueError(
            f'label_map: found {wrong}, expected whole numbers from 0 to {MAX_LABEL}. Fix: map ignored pixels to the '
            'ignore_index of the dataset, usually 255'
        )
    highest = max([*label_map.values(), *label_map.keys(), int(labels.max())])
    table = np.arange(highest + 1, dtype=np.int32)
    table[list(label_map.keys())] = list(label_map.values())
    fits = max(label_map.values(), default=0) <= np.iinfo(labels.dtype).max
    return table[labels].astype(labels.dtype if fits else np.int32)


def load_labels(info: Mapping, ignore_index: int, backend_args: dict | None = None) -> np.ndarray:
    """Read the label map of a dataset's entry and bring it to the model's classes.

    Args:
        info: the entry: ``seg_map_path``, and optionally ``reduce_zero_label`` and, applied after it, ``label_map``.
        ignore_index: label of ignored pixels.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        (H, W) uint8 for 8-bit files, int32 for 16-bit files or an ``ignore_index`` above 255.

    Raises:
        FileNotFoundError, ValueError: see `read_label_map`.
    """
    labels = read_label_map(info['seg_map_path'], backend_args)
    if ignore_index > np.iinfo(labels.dtype).max:
        labels = labels.astype(np.int32)
    if info.get('reduce_zero_label'):
        labels = shift_labels(labels, ignore_index)
    if info.get('label_map') is not None:
        labels = replace_labels(labels, info['label_map'])
    return labels


def require_ignore_index(ignore_index: int, num_classes: int | None = None) -> None:
    """Check that the ignored label is a valid label and not one of the classes.

    Args:
        ignore_index: label of ignored pixels.
        num_classes: K; None checks the range only.

    Raises:
        ValueError: if it is not in [0, 65535], or ``ignore_index < num_classes``.
    """
    if not 0 <= ignore_index <= MAX_LABEL:
        raise ValueError(
            f'ignore_index={ignore_index}: expected a label that a file of 8 or 16 bits can hold, usually 255 or '
            f'{IGNORE_INDEX_16BIT}. Fix: set ignore_index=255 in the dataset, the head and the metric, and '
            'seg_pad_val=255 in the data preprocessor, and mark ignored pixels in the label files with it.'
        )
    if num_classes is None or ignore_index >= num_classes:
        return
    found = (
        f'ignore_index={ignore_index} is also one of the {num_classes} classes (0 to {num_classes - 1}), which would '
        'never be trained.'
    )
    if ignore_index == 0:
        fix = (
            'set reduce_zero_label=True in the dataset, keep the default ignore_index=255 and remove the name of '
            'label 0 from the class list: label 0 of the files is then ignored, and label 1 becomes class 0.'
        )
    elif num_classes <= IGNORE_INDEX_8BIT:
        fix = (
            'set ignore_index=255 in the dataset, the head and the metric. If the label files mark ignored pixels with '
            f'{ignore_index}, write 255 there.'
        )
    else:
        fix = (
            f'set ignore_index={IGNORE_INDEX_16BIT} in the dataset, the head and the metric, and store the labels with '
            '16 bits.'
        )
    raise ValueError(f'{found} Fix: {fix}')


def require_known_labels(labels: np.ndarray, num_classes: int, ignore_index: int, path: str) -> None:
    """Check that every label is a class or ignored.

    Args:
        labels: (H, W) integer, from `load_labels`.
        num_classes: K.
        ignore_index: label of ignored pixels.
        path: of the label file, for the message.

    Raises:
        ValueError: if there are other labels; names them with their numbers of pixels.
    """
    unknown = labels[(labels >= num_classes) & (labels != ignore_index)]
    if unknown.size == 0:
        return
    ids, counts = np.unique(unknown, return_counts=True)
    found = some((f'{label} ({count} px)' for label, count in zip(ids, counts, strict=True)), SHOWN)
    usual = next((label for label in (IGNORE_INDEX_16BIT, IGNORE_INDEX_8BIT) if label in ids), None)
    hint = '' if usual is None else f' {usual} often marks ignored pixels: if it does here, set ignore_index={usual}.'
    raise ValueError(
        f'label file {path}: found labels {found}, expected 0 to {num_classes - 1} ({num_classes} classes) or '
        f'{ignore_index} for ignored pixels (after reduce_zero_label and label_map). Fix: convert the file, or check '
        f'the class list, reduce_zero_label and ignore_index of the dataset.{hint}'
    )
