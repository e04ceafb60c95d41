"""Sliding windows of MMSegmentation's segmentors: a check of their settings, their positions and weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def require_windows(test_cfg: Mapping) -> None:
    """Check that the windows of mode 'slide' cover every image; other modes are not checked.

    Args:
        test_cfg: config of the segmentor with ``mode``, and for mode 'slide' ``crop_size`` and ``stride``.

    Raises:
        ValueError: if crop_size or stride is missing, not two positive integers, or a stride exceeds its window.
    """
    if test_cfg.get('mode', 'whole') != 'slide':
        return
    crop, stride = test_cfg.get('crop_size'), test_cfg.get('stride')
    pairs = [isinstance(sides, Sequence) and len(sides) == 2 for sides in (crop, stride)]
    if not all(pairs) or not all(isinstance(side, int) and side > 0 for side in (*crop, *stride)):
        raise ValueError(
            f"model.test_cfg: mode 'slide' with crop_size={crop!r} and stride={stride!r}, expected two positive "
            'integers each, (height, width) in pixels, such as crop_size=(512, 512), stride=(341, 341).'
        )
    if stride[0] > crop[0] or stride[1] > crop[1]:
        raise ValueError(
            f"model.test_cfg: mode 'slide' with crop_size={tuple(crop)} and stride={tuple(stride)}: a stride larger "
            'than the window leaves pixels between the windows without a class. Fix: set a stride of at most '
            'crop_size, usually two thirds of it.'
        )


def windows_of(length: int, crop: int, stride: int) -> list[slice]:
    """Positions of the host's windows along one axis; the last window ends at the end of the axis.

    Args:
        length: length of the axis, in pixels.
        crop: size of a window.
        stride: distance between windows.
    """
    starts = range(0, max(length - crop, 0) + stride, stride)
    starts = [min(start, max(length - crop, 0)) for start in starts]
    return [slice(start, min(start + crop, length)) for start in starts]


def window_shares(windows: Sequence[slice], length: int) -> Tensor:
    """Weight (length,) float of each position: the reciprocal of the number of windows that cover it.

    Args:
        windows: windows along an axis.
        length: length of the axis, in pixels.
    """
    counts = torch.zeros(length)
    for window in windows:
        counts[window] += 1
    return 1 / counts
