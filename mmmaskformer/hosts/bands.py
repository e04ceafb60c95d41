"""Checks of a batch in the data preprocessors of both hosts, before normalisation."""

import logging
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

FAR = 6.0
"""Distance of an image's mean from ``mean``, in units of ``std``, above which their value ranges differ."""
_reported: set[str] = set()


def require_packed(data: dict) -> None:
    """Check that a batch was packed by the hosts' last transform.

    Args:
        data: batch of the data loader.

    Raises:
        KeyError: if it has no ``inputs``.
    """
    if 'inputs' not in data:
        raise KeyError(
            f"the batch has the keys {sorted(data)}, but no 'inputs', the output of the last transform of a pipeline. "
            "Fix: end the pipeline with dict(type='mmseg.PackSegInputs') for semantic, "
            "dict(type='mmmaskformer.PackPanopticInputs') for panoptic and dict(type='mmdet.PackDetInputs') for "
            'instance models.'
        )


def require_bands(data: dict, num_values: int) -> None:
    """Check that mean and std have one value for each band of the images, or a single value.

    Args:
        data: ``inputs``, images (bands, H, W), and optionally ``data_samples`` with their paths.
        num_values: length of mean and of std.

    Raises:
        ValueError: if an image has another number of bands; names the first one.
    """
    for index, image in enumerate(data['inputs']):
        if num_values in (1, len(image)):
            continue
        name, is_file = _name(data, index)
        fix = (
            "load images with color_type='color', which gives three bands"
            if is_file
            else 'convert the array, for three bands by cv2.cvtColor with COLOR_GRAY2BGR or COLOR_BGRA2BGR'
        )
        raise ValueError(
            f'image {name} has {len(image)} bands, but mean and std of the data preprocessor have {num_values} values. '
            f'Fix: give mean and std one value for each band, or a single value, and set in_channels of the backbone; '
            f'or {fix}.'
        )


def statistics_of(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor] | None:
    """Mean and std as tensors (bands, 1, 1) float on the CPU, where images are checked; None if there are none.

    Comparing with the data preprocessor's own tensors would synchronise with the GPU.

    Args:
        mean: mean of the data preprocessor.
        std: std of the data preprocessor.
    """
    if mean is None or std is None:
        return None
    return tuple(torch.tensor(values, dtype=torch.float32, device='cpu').view(-1, 1, 1) for values in (mean, std))


def warn_of_range(data: dict, mean: Tensor, std: Tensor) -> None:
    """Warn once per process of an image whose value range does not match mean and std.

    8-bit images are not checked. Others are reported if their mean lies far from ``mean``, as with 16 bits, or if they
    lie in [0, 1] and ``mean`` does not.

    Args:
        data: ``inputs``, images (bands, H, W), and optionally ``data_samples`` with their paths.
        mean: (bands, 1, 1) or (1, 1, 1) float, of the data preprocessor; see `statistics_of`.
        std: likewise.
    """
    if 'range' in _reported:
        return
    for index, image in enumerate(data['inputs']):
        if image.dtype == torch.uint8 or not image.numel():
            continue
        found = image.detach().cpu().float()
        low, high = found.min().item(), found.max().item()
        is_far = ((found.mean((1, 2), keepdim=True) - mean) / std).abs().max() > FAR
        is_unit = low >= 0 and 0 < high <= 1 and mean.min() > 1
        if is_far or is_unit:
            _reported.add('range')
            print_log(
                f'image {_name(data, index)[0]}: found {image.dtype} values from {low:g} to {high:g}, but the data '
                f'preprocessor has mean={mean.flatten().tolist()} and std={std.flatten().tolist()}. The results are '
                'meaningless unless this is intended. Fix: scale images to the range of mean and std (0 to 255 with '
                'the shipped configs), or set mean and std for these values. Further images are not logged.',
                logger='current',
                level=logging.WARNING,
            )
            return


def _name(data: dict, index: int) -> tuple[str, bool]:
    """Name of an image for messages, and whether it is a file."""
    samples = data.get('data_samples')
    path = samples[index].metainfo.get('img_path') if samples else None
    return ('given as an array' if path is None else path), path is not None
