"""Loading semantic label maps of 8 and 16 bits, with checks that name the file."""

import logging
import os
from collections.abc import Mapping

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked, whole
from mmmaskformer.datasets.transforms.common import agreed_value, ignore_index_of
from mmmaskformer.formats.images import grey_levels, read_header
from mmmaskformer.formats.label_maps import load_labels, require_ignore_index, require_known_labels
from mmmaskformer.registry import TRANSFORMS

ORIENTATION_ADVICE = (
    'the image has the EXIF orientation {orientation}, and its annotation is either upright or in the stored '
    'orientation. If annotations have the stored orientation, remove the tag from the image files (exiftool '
    "-overwrite_original -Orientation= FOLDER), or read images with color_type='color_ignore_orientation' in every "
    'pipeline; if they are upright, keep the default color_type'
)
DEPTH_ADVICE = (
    "Fix: load with LoadImageFromFile(color_type='unchanged'), remove the colour jitter, and set mean and std of the "
    'data preprocessor and image_value of PadToSize to the range of the data; or convert the files to 8 bits yourself.'
)


@TRANSFORMS.register_module()
@checked(
    num_classes=whole(1).or_none(),
    ignore_index=whole().or_none(),
    allow_missing=BOOLEAN,
    backend_args=MAPPING.or_none(),
)
class LoadSegAnnotations(BaseTransform):
    """Load the label map of an image, of 8 or 16 bits, and check it.

    Reads ``seg_map_path``, ``reduce_zero_label`` (0 becomes ignored, other labels are reduced by 1) and ``label_map``
    (old to new labels, after that shift); writes ``gt_seg_map`` and appends it to ``seg_fields``. It must follow the
    loading of the image, before or after resizing: the map must have the size of the image file (``ori_shape``).

    The map is (H, W) uint8 for 8-bit files, int32 for 16-bit files or an ``ignore_index`` above 255.

    Differs from mmseg's ``LoadAnnotations``, which casts to uint8, so that class 256 becomes class 0, and accepts files
    with any number of channels and any size.

    Args:
        num_classes: K. A label that is neither in [0, K - 1] nor ignored is an error. None: the number of the dataset;
            stock datasets do not provide it, so their labels are not checked.
        ignore_index: label of ignored pixels, in the file and in the map. None: that of the dataset, or 255 if it has
            none. 16-bit maps of more than 255 classes use 65535.
        allow_missing: accept an image without ``seg_map_path``, as in the hosts' inference functions; otherwise it is
            an error. A path that is given must exist in either case. Test pipelines need True.
        backend_args: as in `mmengine.fileio.get`.

    Raises:
        ValueError: if ``ignore_index`` is not a valid label or is one of the classes; when called, if there is no path,
            or the file is empty, not decodable, lossy (JPEG), does not have one channel or the size of the image, or
            has labels out of range.
        FileNotFoundError: when called, if the file is missing.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        allow_missing: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        if ignore_index is not None:
            require_ignore_index(ignore_index, num_classes)
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
            require_ignore_index(ignore_index, num_classes)
            require_known_labels(labels, num_classes, ignore_index, path)
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index}, '
            f'allow_missing={self.allow_missing})'
        )


def require_image_size(shape: tuple[int, int], results: Mapping, file: str) -> None:
    """Check that an annotation has the size of its image, if the image is loaded.

    Args:
        shape: (H, W) of the annotation.
        results: the results dict; ``ori_shape`` is the size of the image file.
        file: kind and path of the annotation, for the message.

    Raises:
        ValueError: if the sizes differ.
    """
    expected = results.get('ori_shape')
    if expected is None or tuple(expected[:2]) == tuple(shape):
        return
    raise ValueError(
        f'{file}: found {shape[0]} x {shape[1]} pixels (height x width), expected '
        f'{expected[0]} x {expected[1]} as in image {results.get("img_path")}. Fix: {_size_advice(shape, results)}.'
    )


def _size_advice(shape: tuple[int, int], results: Mapping) -> str:
    """The fix for an annotation whose size differs from its image."""
    image, path = results.get('img'), results.get('img_path')
    if getattr(image, 'ndim', 0) == 3 and image.shape[1:] == tuple(shape):
        return (
            f'the image was read as {image.shape[0]} bands of {shape[0]} x {shape[1]}: store the bands of a TIFF file '
            'pixel by pixel ("contiguous", bands last)'
        )
    header = None if path is None else read_header(path)
    if header is not None and header.orientation != 1 and tuple(shape) in (header.stored_size, header.upright_size):
        return ORIENTATION_ADVICE.format(orientation=header.orientation)
    return 'check that the two belong together; resize label maps with nearest neighbour'


DEEP_SUFFIXES = ('.png', '.tif', '.tiff', '.jp2', '.pgm', '.ppm', '.exr', '.hdr')
"""Suffixes of image files that may have more than 8 bits."""
_reported: set[str] = set()


def warn_of_lost_bits(image: np.ndarray, path: str | None) -> None:
    """Log, once per process, an image that lost bits on loading, or a TIFF file that lost bands.

    Args:
        image: the loaded image.
        path: path of the file; without a file on disk nothing is checked.
    """
    if {'bits', 'bands'} <= _reported or path is None or not path.lower().endswith(DEEP_SUFFIXES):
        return
    header = read_header(path) if os.path.isfile(path) else None
    if header is None:
        return
    bands = image.shape[2] if image.ndim == 3 else 1
    if not header.is_colour and bands != header.bands:
        kept = 'one' if bands in (1, 3) else bands
        _report(
            'bands',
            f'image {path}: the loader kept {kept} of its {header.bands} bands. Fix: load '
            "with LoadImageFromFile(color_type='unchanged', imdecode_backend='tifffile') (pip install tifffile), and "
            "set mean and std of the data preprocessor and the backbone's in_channels for these bands.",
        )
    elif image.dtype == np.uint8 and header.bits > 8:
        before, after = grey_levels(path) or ('all', 'fewer')
        _report(
            'bits',
            f'image {path}: of {header.bits} bits per band the loader kept the upper 8, {before} grey levels became '
            f'{after}. {DEPTH_ADVICE}',
        )


def _report(what: str, text: str) -> None:
    if what not in _reported:
        mark_reported(what)
        print_log(text, logger='current', level=logging.WARNING)


def mark_reported(what: str) -> None:
    """Silence a warning in this process and in the workers that it starts.

    Args:
        what: 'bits' or 'bands', see `warn_of_lost_bits`; or 'areas', those of panoptic files.
    """
    _reported.add(what)


def is_reported(what: str) -> bool:
    """Whether `mark_reported` was called for something in this process, or before it was forked."""
    return what in _reported
