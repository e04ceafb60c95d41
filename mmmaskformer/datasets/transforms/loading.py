"""Reading semantic label maps of 8 and 16 bits, with checks that name the file."""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import Image, UnidentifiedImageError

from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked, whole
from mmmaskformer.datasets.transforms.common import IGNORE_INDEX_16BIT, agreed_value, ignore_index_of
from mmmaskformer.registry import TRANSFORMS

MAX_LABEL = 65535
BIT_MODES = {'1', 'L', 'P'}
WIDE_MODES = {'I', 'I;16', 'I;16L', 'I;16B', 'I;16N'}


def read_label_map(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read a one-channel label map; a palette ('P' mode) file gives its indices.

    Args:
        path: file of any format Pillow reads without loss, such as PNG or TIFF.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        (H, W) uint8 for files of up to 8 bits, int32 in [0, 65535] for wider ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, cannot be decoded, has several channels, or values that are no labels.
    """
    pixels, mode = read_picture(
        path,
        what='label file',
        expected='a one-channel PNG or TIFF',
        where="data_root, data_prefix['seg_map_path'] and seg_map_suffix of the dataset",
        backend_args=backend_args,
    )
    return _as_labels(pixels, mode, path)


def read_picture(
    path: str, *, what: str, expected: str, where: str, backend_args: dict | None = None
) -> tuple[np.ndarray, str]:
    """Read and decode an annotation file with Pillow.

    Args:
        path: of the file.
        what: it is, for messages.
        expected: form of the file, for messages.
        where: the user should look if it is missing.
        backend_args: of `mmengine.fileio.get`.

    Returns:
        Its pixels, (H, W) or (H, W, channels), and its Pillow mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty or cannot be decoded.
    """
    content = read_content(path, what=what, expected=expected, where=where, backend_args=backend_args)
    return decode_picture(content, path, what=what, expected=expected)


def read_content(path: str, *, what: str, expected: str, where: str, backend_args: dict | None = None) -> bytes:
    """The bytes of an annotation file, the first half of `read_picture`."""
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
    """Pixels and Pillow mode of an annotation file, the second half of `read_picture`."""
    try:
        image = Image.open(BytesIO(content))
        return np.asarray(image), image.mode
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f'{what} {path}: {len(content)} bytes that cannot be decoded ({error}), expected {expected}. Fix: the file '
            'is damaged or not an image; copy or convert it again.'
        ) from error


def _as_labels(pixels: np.ndarray, mode: str, path: str) -> np.ndarray:
    """Check a decoded label file and give it the dtype of its width."""
    if mode in BIT_MODES:
        return pixels.astype(np.uint8)
    if mode not in WIDE_MODES:
        raise ValueError(
            f'label file {path}: found a picture of shape {pixels.shape} (Pillow mode {mode!r}), expected one channel '
            'of class ids (8 or 16 bit). Fix: if it shows palette colours, convert the colours to class ids first.'
        )
    if pixels.min() < 0 or pixels.max() > MAX_LABEL:
        raise ValueError(
            f'label file {path}: found values from {pixels.min()} to {pixels.max()}, expected class ids from 0 to '
            f'{MAX_LABEL}. Fix: write the map with 8 or 16 bits, the ignored pixels as 255 or 65535.'
        )
    return pixels.astype(np.int32)


def shift_labels(labels: np.ndarray, ignore_index: int) -> np.ndarray:
    """Take 1 off every label: 0 becomes ``ignore_index``, which itself stays (``reduce_zero_label``).

    Args:
        labels: (H, W) uint8 or int32; its dtype must hold ``ignore_index``.
        ignore_index: label of ignored pixels.

    Returns:
        A new map of the same shape and dtype.
    """
    ignored = (labels == 0) | (labels == ignore_index)
    shifted = labels - np.ones((), labels.dtype)
    shifted[ignored] = ignore_index
    return shifted


def replace_labels(labels: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """Replace every label that is a key of ``label_map`` by its value, all at once; others stay.

    Args:
        labels: (H, W) uint8 or int32, not negative.
        label_map: old to new label; an empty one changes nothing.

    Returns:
        A new map, int32 if a new label does not fit the dtype of ``labels``.
    """
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
        backend_args: of `mmengine.fileio.get`.

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


@TRANSFORMS.register_module()
@checked(
    num_classes=whole(1).or_none(),
    ignore_index=whole().or_none(),
    allow_missing=BOOLEAN,
    backend_args=MAPPING.or_none(),
)
class LoadSegAnnotations(BaseTransform):
    """Load the label map of an image, of 8 or 16 bits, and check it.

    Reads ``seg_map_path``, ``reduce_zero_label`` (0 becomes ignored, every other label loses 1) and ``label_map``
    (old to new labels, after that shift); writes ``gt_seg_map`` and appends it to ``seg_fields``. Comes after the
    image was loaded, before or after it was resized: the map must have the size of the image file (``ori_shape``).

    The map is (H, W) uint8 for 8-bit files, int32 for 16-bit files or an ``ignore_index`` above 255.

    Differs from mmseg's ``LoadAnnotations``: that one casts to uint8, so class 256 becomes class 0, and it takes files
    of any channels and size.

    Args:
        num_classes: K. Raise if a label is neither in [0, K - 1] nor ignored. None: the dataset's, as our datasets
            tell it; a stock dataset does not, then nothing is checked here.
        ignore_index: label of ignored pixels, in the file and in the map. None: the dataset's, 255 if it tells none.
            16-bit maps of more than 255 classes use 65535.
        allow_missing: pass an image for which no label map is named, as the hosts' inference functions hand it in.
            False raises. A file that is named must exist in either case. Test pipelines want True.
        backend_args: of `mmengine.fileio.get`.

    Raises:
        ValueError: if ``num_classes`` classes leave no room for ``ignore_index``; when called, if no file is named, or
            it is empty, not decodable, not of one channel, not of the image's size, or holds labels outside the range.
        FileNotFoundError: when called, if the file is missing.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        allow_missing: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        if num_classes is not None and ignore_index is not None:
            require_free_ignore_index(num_classes, ignore_index)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.allow_missing = allow_missing
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` to the results dict and return it."""
        name = type(self).__name__
        ignore_index = ignore_index_of(self.ignore_index, results, name)
        num_classes = agreed_value('num_classes', self.num_classes, results, name)
        path = results.get('seg_map_path')
        if path is None and self.allow_missing:
            return results
        if path is None:
            raise ValueError(
                f"{name}: no 'seg_map_path' for image {results.get('img_path')}: the dataset was built without label "
                "maps. Fix: set data_prefix['seg_map_path'], or set allow_missing=True in this transform to predict "
                'without labels.'
            )
        labels = load_labels(results, ignore_index, self.backend_args)
        require_image_size(labels.shape, results, f'label file {path}')
        if num_classes is not None:
            require_free_ignore_index(num_classes, ignore_index)
            _require_known_classes(labels, num_classes, ignore_index, path)
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index}, '
            f'allow_missing={self.allow_missing})'
        )


def require_free_ignore_index(num_classes: int, ignore_index: int) -> None:
    """Check that the ignored label is not also a class.

    Raises:
        ValueError: if ``0 <= ignore_index < num_classes``.
    """
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f'ignore_index={ignore_index} is also one of the {num_classes} classes (0 to {num_classes - 1}), so that '
            f'class would never be learnt. Fix: set ignore_index={IGNORE_INDEX_16BIT} in the dataset, the head and the '
            'metric, and store the labels with 16 bits.'
        )


def require_image_size(shape: tuple[int, int], results: Mapping, file: str) -> None:
    """Check that an annotation has the size of its image, if the image was loaded.

    Args:
        shape: (H, W) of the annotation.
        results: the results dict; ``ori_shape`` is the size of the image file.
        file: what the annotation is and its path, for the message.

    Raises:
        ValueError: if the sizes differ.
    """
    expected = results.get('ori_shape')
    if expected is None or tuple(expected[:2]) == tuple(shape):
        return
    raise ValueError(
        f'{file}: found {shape[0]} x {shape[1]} pixels (height x width), expected '
        f'{expected[0]} x {expected[1]} as in image {results.get("img_path")}. Fix: check that the two belong '
        'together; resize label maps with nearest neighbour; an image with an EXIF rotation is read rotated.'
    )


def _require_known_classes(labels: np.ndarray, num_classes: int, ignore_index: int, path: str) -> None:
    """Raise if a label is neither a class nor ignored."""
    unknown = labels[(labels >= num_classes) & (labels != ignore_index)]
    if unknown.size == 0:
        return
    ids, counts = np.unique(unknown, return_counts=True)
    found = ', '.join(f'{label} ({count} px)' for label, count in zip(ids[:8], counts[:8], strict=True))
    more = f' and {len(ids) - 8} more' if len(ids) > 8 else ''
    hint = ' 65535 is the usual ignored label of 16-bit maps: set ignore_index=65535.' if 65535 in ids else ''
    raise ValueError(
        f'label file {path}: found labels {found}{more}, expected 0 to {num_classes - 1} ({num_classes} classes) or '
        f'{ignore_index} for ignored pixels (after reduce_zero_label and label_map). Fix: convert the file, or check '
        f'the class list, reduce_zero_label and ignore_index of the dataset.{hint}'
    )
