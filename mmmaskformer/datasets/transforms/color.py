"""The colour jitter of the SSD detector, as the published recipe uses it."""

from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmmaskformer.core.checks import checked
from mmmaskformer.registry import TRANSFORMS

BRIGHTNESS = 32.0
CONTRAST = SATURATION = (0.5, 1.5)
HUE = 18
HUE_TURN = 180  # OpenCV stores the hue of 8-bit images in steps of two degrees.


class ColorChange(NamedTuple):
    """The random parameters of `ColorJitterSSD` for one image; None leaves a property unchanged.

    Attributes:
        brightness: added to every channel, in [-32, 32].
        contrast: factor on every channel, in [0.5, 1.5].
        saturation: factor on the saturation, in [0.5, 1.5].
        hue: integer in [-18, 18], added to OpenCV's hue (180 to a full turn).
        contrast_first: contrast before saturation and hue, or after them.
    """

    brightness: float | None
    contrast: float | None
    saturation: float | None
    hue: int | None
    contrast_first: bool


def scale_and_shift(values: np.ndarray, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """``values * factor + shift`` in float32, clipped to [0, 255] and truncated to integers.

    Args:
        values: uint8, any shape.
        factor: contrast or saturation.
        shift: brightness.

    Returns:
        uint8, the same shape.
    """
    changed = values.astype(np.float32) * factor + shift
    return np.clip(changed, 0, 255).astype(np.uint8)


def change_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the saturation (OpenCV's 8-bit HSV) of a (H, W, 3) uint8 BGR image; returns a new image."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 1] = scale_and_shift(hsv[..., 1], factor)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def change_hue(image: np.ndarray, delta: int) -> np.ndarray:
    """Add ``delta`` to OpenCV's hue, modulo 180, of a (H, W, 3) uint8 BGR image; returns a new image."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + delta) % HUE_TURN
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def change_color(image: np.ndarray, change: ColorChange) -> np.ndarray:
    """Apply a change: brightness, then contrast, saturation, hue or saturation, hue, contrast.

    Args:
        image: (H, W, 3) uint8 BGR; not modified.
        change: the parameters.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    if change.brightness is not None:
        image = scale_and_shift(image, shift=change.brightness)
    if change.contrast is not None and change.contrast_first:
        image = scale_and_shift(image, change.contrast)
    if change.saturation is not None:
        image = change_saturation(image, change.saturation)
    if change.hue is not None:
        image = change_hue(image, change.hue)
    if change.contrast is not None and not change.contrast_first:
        image = scale_and_shift(image, change.contrast)
    return image


@TRANSFORMS.register_module()
@checked()
class ColorJitterSSD(BaseTransform):
    """Change brightness, contrast, saturation and hue of a BGR image, each with probability 0.5.

    Brightness comes first (U(-32, 32) added), then with probability 0.5 contrast, saturation, hue, else saturation,
    hue, contrast: factors U(0.5, 1.5), hue an integer from -18 to 18. Every step clips to [0, 255] and truncates to
    integers. Only ``img`` changes.

    Source: detectron2 projects/point_rend, ColorAugSSDTransform, enabled by the mask_former_semantic mapper. Differs
    from mmseg's PhotoMetricDistortion, whose hue never changes by +18. Random numbers come from numpy's global
    generator, which mmengine seeds in every worker.

    Raises:
        ValueError: when called, if the image is not (H, W, 3) uint8.
    """

    @cache_randomness
    def _draw(self) -> ColorChange:
        use = np.random.randint(2, size=5).astype(bool)
        return ColorChange(
            brightness=np.random.uniform(-BRIGHTNESS, BRIGHTNESS) if use[0] else None,
            contrast=np.random.uniform(*CONTRAST) if use[1] else None,
            saturation=np.random.uniform(*SATURATION) if use[2] else None,
            hue=np.random.randint(-HUE, HUE + 1) if use[3] else None,
            contrast_first=bool(use[4]),
        )

    def transform(self, results: dict) -> dict:
        """Change the colours of ``results['img']`` and return the results dict."""
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'ColorJitterSSD: image {results.get("img_path")} is {image.dtype} of shape {image.shape}, expected '
                'uint8 (H, W, 3), BGR. Fix: remove the jitter, which is defined for 8-bit colours only, from the '
                "pipeline, or load images with color_type='color' and to_float32=False, which keeps 8 bits of three "
                'bands.'
            )
        results['img'] = change_color(image, self._draw())
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
