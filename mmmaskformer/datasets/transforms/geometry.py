"""Resizing, cropping and padding of images and label maps as in the published recipe."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from PIL import Image
from torch.nn import functional as F

from mmmaskformer.core.checks import SIZE, checked, list_of, number, whole
from mmmaskformer.datasets.transforms.common import (
    FILL,
    PANOPTIC_MAP,
    ignore_index_of,
    is_panoptic,
    label_map_keys,
)
from mmmaskformer.datasets.transforms.loading import warn_of_lost_bits
from mmmaskformer.formats.label_maps import require_ignore_index
from mmmaskformer.registry import TRANSFORMS


def shortest_edge_size(height: int, width: int, short_edge: int, max_size: int | None) -> tuple[int, int]:
    """Size with a given short side, or with the longest side allowed if that is smaller.

    Source: detectron2, ResizeShortestEdge.get_output_shape, as used by the official mappers: the same operations in the
    same order, since their rounding decides some sizes.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        short_edge: wanted shorter side.
        max_size: the longer side's limit; None for none.

    Returns:
        (height, width) in pixels, each rounded as ``int(x + 0.5)``, at least 1: there a very thin image would lose its
        last row, on which detectron2 ends.
    """
    scale = short_edge / min(height, width)
    # The short side is set, not computed: scale * side may differ from it in the last bit, and where the limit shrinks
    # it to a half, that decides how it is rounded.
    new_height, new_width = (short_edge, scale * width) if height < width else (scale * height, short_edge)
    longest = max(new_height, new_width)
    if max_size is not None and longest > max_size:
        new_height, new_width = new_height * (max_size / longest), new_width * (max_size / longest)
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly with Pillow, which averages over the covered pixels when it shrinks.

    Source: detectron2, ResizeTransform. OpenCV's bilinear does not average and differs by up to 16 grey levels. Images
    that are not of three bands and 8 bits have no published counterpart: each band is resized by the same filter.

    Args:
        image: (H, W), or (H, W, bands) in any order; integers of any width, or float.
        size: (height, width) in pixels.

    Returns:
        (height, width, bands): uint8 for uint8, else float32.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    if image.dtype != np.uint8:
        image = image.astype(np.float32)
    # Band by band: Pillow would take a fourth band for opacity.
    bands = image.reshape(*image.shape[:2], -1)
    resized = [
        Image.fromarray(np.ascontiguousarray(bands[..., band])).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for band in range(bands.shape[2])
    ]
    return np.stack([np.asarray(band) for band in resized], axis=-1)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map with torch's nearest neighbour, pixel ⌊i · in / out⌋, as the official semantic mapper does.

    torch itself does it, in float64 as there: where i · in / out is whole or nearly so, the pixel depends on torch's
    rounding, which is not the same for small and for large maps.

    Args:
        labels: (H, W), any integer dtype; float64 holds every label exactly.
        size: (height, width) in pixels.

    Returns:
        (height, width), the same dtype.
    """
    pixels = torch.from_numpy(labels.astype(np.float64))[None, None]
    return F.interpolate(pixels, size=size, mode='nearest')[0, 0].numpy().astype(labels.dtype)


def resize_segments(segments: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of segments with Pillow's nearest neighbour (pixel centres), as the official panoptic mappers do.

    Args:
        segments: (H, W) int16 or int32.
        size: (height, width) in pixels.

    Returns:
        (height, width), the same dtype.
    """
    picture = Image.fromarray(segments.astype(np.int32))
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.NEAREST)).astype(segments.dtype)


def _require_image(image: np.ndarray, path: str | None) -> None:
    """Raise if an array is no image that can be resized."""
    number = np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)
    if not number or image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f'ResizeShortestEdge: image {path} is {image.dtype} of shape {image.shape}, expected integers or float, '
            '(H, W) or (H, W, bands). Fix: check the file and the loader of the image.'
        )
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise ValueError(
            f'ResizeShortestEdge: image {path} holds {count} values that are NaN or infinite, of which every loss '
            'would become NaN. Fix: replace missing values in the file, for example by the mean of their band.'
        )


@TRANSFORMS.register_module()
@checked(
    short_edge=whole(1) | list_of(whole(1)),
    max_size=whole(1).or_none(),
)
class ResizeShortestEdge(BaseTransform):
    """Resize to a shorter side drawn from a list, the longer side limited, keeping the aspect ratio.

    The image is resized with Pillow's averaging bilinear filter, every map in ``seg_fields`` with torch's nearest
    neighbour, except the segment map of a panoptic sample, which follows Pillow's: the official mappers differ there.
    Writes ``img``, the maps, ``img_shape``, ``scale``, ``scale_factor`` and ``keep_ratio``, as mmcv's
    ``Resize(scale=(max_size, short_edge), keep_ratio=True)`` does (without a limit, ``scale`` is the new size);
    ``scale_factor`` (width, height) is relative to the image it got. For training (a list) and testing (one value),
    also inside ``TestTimeAug``.

    Source: detectron2 ResizeShortestEdge as set up by mask_former_semantic mapper. Differs from mmcv's Resize: its
    'cv2' backend does not average, its 'pillow' backend picks other pixels of the label map.

    Args:
        short_edge: wanted shorter side in pixels, or the values to choose from, all equally likely.
        max_size: limit of the longer side in pixels; None for none.

    Images of any number of bands are resized, of 8 bits to 8 bits, of 16 bits and of float to float32. The first image
    of more than 8 bits that was cut to 8 when it was loaded is reported once.

    Raises:
        ValueError: if ``short_edge`` is empty, or a size is not a positive integer; when called, if the image has no
            pixel, is neither integer nor float, holds NaN or infinity, or the results hold boxes or instance masks.
    """

    def __init__(self, short_edge: int | Sequence[int], max_size: int | None) -> None:
        self.short_edges = list(short_edge) if isinstance(short_edge, Sequence) else [short_edge]
        self.max_size = max_size

    @cache_randomness
    def _draw_short_edge(self) -> int:
        return self.short_edges[np.random.randint(len(self.short_edges))]

    def transform(self, results: dict) -> dict:
        """Resize the image and the label maps of the results dict and return it."""
        image = results['img']
        keys = label_map_keys(results, type(self).__name__)
        _require_image(image, results.get('img_path'))
        if 'scale_factor' not in results:
            warn_of_lost_bits(image, results.get('img_path'))
        short_edge = self._draw_short_edge()
        height, width = image.shape[:2]
        size = shortest_edge_size(height, width, short_edge, self.max_size)
        for key in keys:
            resize = resize_segments if key == PANOPTIC_MAP and is_panoptic(results) else resize_labels
            results[key] = resize(results[key], size)
        results['img'] = resize_image(image, size)
        results['img_shape'] = size
        results['scale'] = size[::-1] if self.max_size is None else (self.max_size, short_edge)
        results['scale_factor'] = (size[1] / width, size[0] / height)
        results['keep_ratio'] = True
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(short_edge={self.short_edges}, max_size={self.max_size})'


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
        min_size: least height and width in pixels.
        max_size: largest height and width in pixels.

    Raises:
        ValueError: if not ``1 <= min_size <= max_size``; when called, if the results hold boxes or instance masks.
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

    The segment map of a panoptic sample is padded with 255, no segment there.

    Writes ``img``, the maps, ``img_shape`` and ``pad_shape``, as mmcv's ``Pad`` does. Padding comes before the
    normalization, so 128 is near the mean colour, not exactly on it.

    Source: official code, mask_former_semantic mapper (SIZE_DIVISIBILITY). Differs: a larger image raises; there it
    is cropped silently, in mmcv's ``Pad`` it stays as it is, beside other sizes in the same batch.

    Args:
        size: (height, width) in pixels.
        image_value: of the padded pixels, in the range of the image: one for all bands, or one for each.
        ignore_index: label of the padded pixels. None: the dataset's, 255 if it tells none.

    Raises:
        ValueError: if ``size`` is not two positive integers or ``ignore_index`` no label of a file; when called, if the
            image is larger, has another number of bands than ``image_value`` or cannot hold it, a label map cannot
            hold ``ignore_index``, or the results hold boxes or instance masks.
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
                f'size={self.size}. Fix: put mmseg.RandomCrop with crop_size={self.size} before, or raise size.'
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
                f'{image.shape}. Fix: give one value, or one for each band.'
            )
        if np.issubdtype(image.dtype, np.integer):
            limits = np.iinfo(image.dtype)
            if values.min() < limits.min or values.max() > limits.max:
                raise ValueError(
                    f'PadToSize: image_value={self.image_value}, but image {results.get("img_path")} is {image.dtype}, '
                    f'{limits.min} to {limits.max}. Fix: give a value in that range.'
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
