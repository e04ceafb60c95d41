"""Cropping and padding of images and label maps as in the published recipe."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmmaskformer.core.checks import SIZE, checked, list_of, number, whole
from mmmaskformer.datasets.transforms.common import (
    FILL,
    PANOPTIC_MAP,
    ignore_index_of,
    is_panoptic,
    label_map_keys,
)
from mmmaskformer.formats.label_maps import require_ignore_index
from mmmaskformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
@checked(
    min_size=whole(1),
    max_size=whole(1),
)
class RandomCropRange(BaseTransform):
    """Crop the image and every map in ``seg_fields`` to a random size at a random place.

    Height and width are drawn independently and uniformly from ``[min(min_size, side), min(max_size, side)]``, the
    place uniformly. Writes ``img``, the maps and ``img_shape``. A segment may lose all its pixels.

    Source: detectron2, RandomCrop of type 'absolute_range', as set up by the official detr_panoptic mapper.

    Args:
        min_size: smallest height and width in pixels.
        max_size: largest height and width in pixels.

    Raises:
        ValueError: if not ``1 <= min_size <= max_size``; when called, if the results contain boxes or instance masks.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        if min_size > max_size:
            raise ValueError(f'RandomCropRange.max_size: found {max_size}, expected at least min_size={min_size}')
        self.min_size = min_size
        self.max_size = max_size

    @cache_randomness
    def _draw(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns to keep."""
        sizes = [np.random.randint(min(side, self.min_size), min(side, self.max_size) + 1) for side in (height, width)]
        starts = [np.random.randint(side - size + 1) for side, size in zip((height, width), sizes, strict=True)]
        rows, columns = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        return rows, columns

    def transform(self, results: dict) -> dict:
        """Crop the image and the label maps of the results dict and return it."""
        keys = label_map_keys(results, type(self).__name__)
        rows, columns = self._draw(*results['img'].shape[:2])
        for key in ['img', *keys]:
            results[key] = results[key][rows, columns]
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_size={self.min_size}, max_size={self.max_size})'


@TRANSFORMS.register_module()
@checked(
    size=SIZE,
    image_value=number() | list_of(number()),
    ignore_index=whole().or_none(),
)
class PadToSize(BaseTransform):
    """Pad the image and every map in ``seg_fields`` on the right and at the bottom to a fixed size.

    The segment map of a panoptic sample is padded with 255, which means no segment.

    Writes ``img``, the maps, ``img_shape`` and ``pad_shape``, as mmcv's ``Pad`` does. Padding is applied before
    normalisation, so 128 is close to the mean colour, but not equal to it.

    Source: the official mask_former_semantic mapper (SIZE_DIVISIBILITY). Differs: a larger image is an error; there it
    is cropped silently, and mmcv's ``Pad`` keeps its size, so that images of a batch differ in size.

    Args:
        size: (height, width) in pixels.
        image_value: value of padded pixels, in the range of the image: one for all bands, or one for each.
        ignore_index: label of padded pixels. None: that of the dataset, or 255 if it has none.

    Raises:
        ValueError: if ``size`` is not two positive integers or ``ignore_index`` is not a valid label; when called, if
            the image is larger, its dtype or number of bands does not fit ``image_value``, the dtype of a label map
            does not fit ``ignore_index``, or the results contain boxes or instance masks.
    """

    def __init__(
        self, size: Sequence[int], image_value: float | Sequence[float] = 128, ignore_index: int | None = None
    ) -> None:
        if ignore_index is not None:
            require_ignore_index(ignore_index)
        self.size = tuple(size)
        self.image_value = image_value
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Pad the image and the label maps of the results dict and return it."""
        name = type(self).__name__
        keys = label_map_keys(results, name)
        ignore_index = ignore_index_of(self.ignore_index, results, name)
        height, width = results['img'].shape[:2]
        if height > self.size[0] or width > self.size[1]:
            raise ValueError(
                f'PadToSize: image {results.get("img_path")} has {height} x {width} pixels (height x width), more than '
                f'size={self.size}. Fix: put mmseg.RandomCrop with crop_size={self.size} before it, or increase size.'
            )
        for key in keys:
            no_label = FILL if key == PANOPTIC_MAP and is_panoptic(results) else ignore_index
            results[key] = self._pad_labels(results[key], no_label, key)
        results['img'] = _pad(results['img'], self.size, self._pad_value(results))
        results['img_shape'] = self.size
        results['pad_shape'] = results['img'].shape
        return results

    def _pad_value(self, results: dict) -> float | Sequence[float]:
        image, values = results['img'], np.atleast_1d(self.image_value)
        if values.size not in (1, image.shape[2] if image.ndim == 3 else 1):
            raise ValueError(
                f'PadToSize: image_value has {values.size} values, but image {results.get("img_path")} has shape '
                f'{image.shape}. Fix: set one value, or one for each band.'
            )
        if np.issubdtype(image.dtype, np.integer):
            limits = np.iinfo(image.dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise ValueError(
                    f'PadToSize: image_value={self.image_value}, but image {results.get("img_path")} is {image.dtype}, '
                    f'{limits.min} to {limits.max}. Fix: set a value in that range.'
                )
        return self.image_value

    def _pad_labels(self, labels: np.ndarray, ignore_index: int, key: str) -> np.ndarray:
        if np.issubdtype(labels.dtype, np.integer) and ignore_index > np.iinfo(labels.dtype).max:
            raise ValueError(
                f'PadToSize: {key} is a label map of {labels.dtype}, which cannot hold ignore_index={ignore_index}. '
                'Fix: load it with mmmaskformer.LoadSegAnnotations.'
            )
        return _pad(labels, self.size, ignore_index)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, image_value={self.image_value}, ignore_index={self.ignore_index})'
        )


def _pad(array: np.ndarray, size: tuple[int, int], value: float | Sequence[float]) -> np.ndarray:
    padded = np.full((*size, *array.shape[2:]), value, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded
