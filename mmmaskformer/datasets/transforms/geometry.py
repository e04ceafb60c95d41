"""Resizing of images and label maps as in the published recipe."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from PIL import Image
from torch.nn import functional as F

from mmmaskformer.core.checks import checked, list_of, whole
from mmmaskformer.datasets.transforms.common import PANOPTIC_MAP, is_panoptic, label_map_keys
from mmmaskformer.datasets.transforms.loading import warn_of_lost_bits
from mmmaskformer.registry import TRANSFORMS


def shortest_edge_size(height: int, width: int, short_edge: int, max_size: int | None) -> tuple[int, int]:
    """Size with a given shorter side, or with the largest allowed longer side if that is smaller.

    Source: detectron2, ResizeShortestEdge.get_output_shape, as used by the official mappers: the same operations in the
    same order, since their rounding decides some sizes.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        short_edge: length of the shorter side.
        max_size: limit of the longer side; None for no limit.

    Returns:
        (height, width) in pixels, each rounded as ``int(x + 0.5)``, but at least 1; detectron2 fails for a very thin
        image, whose size would be rounded to 0.
    """
    scale = short_edge / min(height, width)
    # The short side is set instead of computed: scale * side may differ from it in the last bit, which decides the
    # rounding if the limit reduces it to a half-integer.
    new_height, new_width = (short_edge, scale * width) if height < width else (scale * height, short_edge)
    longest = max(new_height, new_width)
    if max_size is not None and longest > max_size:
        new_height, new_width = new_height * (max_size / longest), new_width * (max_size / longest)
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize bilinearly with Pillow, which averages over the covered pixels when it shrinks an image.

    Source: detectron2, ResizeTransform. OpenCV's bilinear filter does not average and differs by up to 16 grey levels.
    The published code handles only three bands of 8 bits; for other images each band is resized with the same filter.

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
    # Band by band, since Pillow would treat a fourth band as opacity.
    bands = image.reshape(*image.shape[:2], -1)
    resized = [
        Image.fromarray(np.ascontiguousarray(bands[..., band])).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        for band in range(bands.shape[2])
    ]
    return np.stack([np.asarray(band) for band in resized], axis=-1)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map with torch's nearest neighbour, pixel ⌊i · in / out⌋, as the official semantic mapper does.

    It calls torch with float64, as the mapper does: where i · in / out is close to an integer, the pixel depends on
    torch's rounding, which differs between small and large maps.

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
    """Raise if an array is not an image that can be resized."""
    number = np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)
    if not number or image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f'ResizeShortestEdge: image {path} is {image.dtype} of shape {image.shape}, expected integers or float, '
            '(H, W) or (H, W, bands). Fix: check the file and the loader of the image.'
        )
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise ValueError(
            f'ResizeShortestEdge: image {path} has {count} values that are NaN or infinite, which would make every '
            'loss NaN. Fix: replace missing values in the file, for example by the mean of their band.'
        )


@TRANSFORMS.register_module()
@checked(
    short_edge=whole(1) | list_of(whole(1)),
    max_size=whole(1).or_none(),
)
class ResizeShortestEdge(BaseTransform):
    """Resize to a shorter side drawn from a list, the longer side limited, keeping the aspect ratio.

    The image is resized with Pillow's averaging bilinear filter, every map in ``seg_fields`` with torch's nearest
    neighbour, except the segment map of a panoptic sample, which is resized with Pillow's, as in the official mappers.
    Writes ``img``, the maps, ``img_shape``, ``scale``, ``scale_factor`` and ``keep_ratio``, as mmcv's
    ``Resize(scale=(max_size, short_edge), keep_ratio=True)`` does (without a limit, ``scale`` is the new size);
    ``scale_factor`` (width, height) is relative to the input image. For training (a list) and testing (one value),
    also inside ``TestTimeAug``.

    Source: detectron2 ResizeShortestEdge as set up by the mask_former_semantic mapper. Differs from mmcv's Resize: its
    'cv2' backend does not average, its 'pillow' backend picks other pixels of the label map.

    Args:
        short_edge: length of the shorter side in pixels, or values to choose from with equal probability.
        max_size: limit of the longer side in pixels; None for no limit.

    Images may have any number of bands; 8-bit images stay 8-bit, 16-bit and float images become float32. The first
    image that was reduced to 8 bits on loading is logged once.

    Raises:
        ValueError: if ``short_edge`` is empty, or a size is not a positive integer; when called, if the image has no
            pixels, is neither integer nor float, has NaN or infinity, or the results contain boxes or instance masks.
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
