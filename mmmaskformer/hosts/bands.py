"""What the data preprocessors of both hosts check before they normalise."""

import logging
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

FAR = 6.0
"""Distance of the mean of an image from ``mean``, in ``std``, above which the two are of different ranges."""
_reported: set[str] = set()


def require_packed(data: dict) -> None:
    """Check that a batch is what the hosts' last transform makes of it.

    Args:
        data: of the data loader.

    Raises:
        KeyError: if it holds no images under ``inputs``.
    """
    if 'inputs' not in data:
        raise KeyError(
            f"the batch has the keys {sorted(data)}, but no 'inputs', which the last transform of a pipeline packs. "
            "Fix: end the pipeline with dict(type='mmseg.PackSegInputs') for semantic, "
            "dict(type='mmmaskformer.PackPanopticInputs') for panoptic and dict(type='mmdet.PackDetInputs') for "
            'instance models.'
        )


def require_bands(data: dict, num_values: int) -> None:
    """Check that mean and std have one value for each band of the images, or one in all.

    Args:
        data: ``inputs``, images (bands, H, W), and optionally ``data_samples``, which tell their paths.
        num_values: of mean and of std.

    Raises:
        ValueError: naming the first image with another number of bands.
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
            f'Fix: give mean and std one value for each band, or one in all, and the backbone in_channels; or {fix}.'
        )


def statistics_of(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor] | None:
    """Mean and std as tensors (bands, 1, 1) float on the CPU, where images are looked at; None if there are none.

    A comparison with the data preprocessor's own would wait for the GPU.

    Args:
        mean: of the data preprocessor.
        std: the same.
    """
    if mean is None or std is None:
        return None
    return tuple(torch.tensor(values, dtype=torch.float32, device='cpu').view(-1, 1, 1) for values in (mean, std))


def warn_of_range(data: dict, mean: Tensor, std: Tensor) -> None:
    """Warn, once in a process, of an image whose values are of another range than mean and std.

    Images of 8 bits are taken as they are. Others are in question if their mean lies far from ``mean``, as with 16
    bits, or if they lie in [0, 1] and ``mean`` does not.

    Args:
        data: ``inputs``, images (bands, H, W), and optionally ``data_samples``, which tell their paths.
        mean: (bands, 1, 1) or (1, 1, 1) float, of the data preprocessor; see `statistics_of`.
        std: the same.
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
                'worthless unless this is intended. Fix: scale images to the range of mean and std (0 to 255 with the '
                'shipped configs), or set mean and std for these values. Further images are not logged.',
                logger='current',
                level=logging.WARNING,
            )
            return


def _name(data: dict, index: int) -> tuple[str, bool]:
    """Name of an image for messages, and whether that is a file."""
    samples = data.get('data_samples')
    path = samples[index].metainfo.get('img_path') if samples else None
    return ('given as an array' if path is None else path), path is not None
