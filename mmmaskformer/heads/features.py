"""The features that a head receives: measured once in the built model, checked, permuted and sorted."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from mmmaskformer.core.modeling.feature_pyramid import FeatureMapError

IMAGE_SIZES = ((128, 192), (112, 168), (224, 224), (256, 256), (384, 384))
"""Image sizes for the dry run, tried in turn: the second for patches of 14 pixels, the others for fixed sizes."""
PUBLISHED_STRIDES = (4, 8, 16, 32)
COARSE_STRIDE = 8
"""Masks on a grid with a larger stride lose small segments."""


class FeatureMap(NamedTuple):
    """One of the features of a model.

    Attributes:
        channels: number of channels.
        stride: input pixels per pixel, an integer if possible.
        channels_last: whether it is (B, h, w, C) instead of (B, C, h, w).
        exact: whether the stride is exactly the ratio of the sides, without rounding.
    """

    channels: int
    stride: Real
    channels_last: bool
    exact: bool = True


class DryRunError(RuntimeError):
    """The model returned no features for any image size."""


class OneMapError(ValueError):
    """The model returns one map, but the head needs several scales.

    Args:
        row: the map.
        bare: whether it is a tensor, not a list of one; some backbones return a tensor only in evaluation mode.
        source: its origin, see `source_of`.
        head: config key of the head.

    Attributes:
        neck: config of a neck that computes the scales.
    """

    def __init__(self, row: FeatureMap, bare: bool, source: str, head: str):
        powers = [round(math.log2(row.stride / stride)) for stride in PUBLISHED_STRIDES]
        scales = [2**power if power >= 0 else 1 / 2**-power for power in powers]
        self.neck = dict(type='mmmaskformer.SimpleFeaturePyramid', in_channels=row.channels, scales=scales)
        written = ', '.join(f'{key}={value!r}' for key, value in self.neck.items())
        super().__init__(
            f'{source} returns one feature map{" in evaluation" if bare else ""}, of {row.channels} channels and '
            f"stride {row.stride}; {head} needs several scales. Fix: set the backbone's out_indices if it has more "
            f"features, or compute the scales with model.neck=dict({written}) or MMSegmentation's MultiLevelNeck; "
            'and omit in_channels and feature_strides of the head, which are then measured'
        )


@cache
def watch_registration(kind: type) -> None:
    """From now on, call ``attach_to(model, name)`` of modules of a class when they become submodules of a model.

    The hosts build backbone, neck and head one after the other, each from its own config, and assign them to the model.
    When it is assigned, the head can access backbone and neck for the first time, before an optimiser, a checkpoint or
    a wrapper uses the model. torch has a hook for this assignment, which works for every class of model.

    Args:
        kind: the class.
    """

    def attach(model: nn.Module, name: str, part: nn.Module | None) -> None:
        # mmengine's revert_sync_batchnorm, which all inferencers call, reassigns every submodule.
        if isinstance(part, kind) and model._modules.get(name) is not part:
            part.attach_to(model, name)

    register_module_module_registration_hook(attach)


def measure(model: nn.Module, head: str) -> list[FeatureMap]:
    """Measure the features of backbone and neck by a forward pass of a small black image in evaluation mode.

    Weights, statistics, modes and random number generators do not change.

    Args:
        model: a model with ``backbone`` and ``extract_feat``.
        head: config key of the head, for messages.

    Returns:
        One row per feature, in the order of the backbone.

    Raises:
        DryRunError: if the forward pass fails for every size of image.
        ValueError: if the model does not return several feature maps.
    """
    source, found, failure = source_of(model), None, None
    for channels, size in itertools.product(_image_channels(model.backbone), _image_sizes(model.backbone)):
        if found and size not in IMAGE_SIZES[:2]:
            break  # the strides are not exact even at sizes that nearly every stride divides
        try:
            features = _dry_run(model, channels, size)
        except FeatureMapError:
            raise
        except Exception as error:  # any error of a backbone that does not accept the image
            failure = failure or error
            continue
        rows = feature_maps(features, size, source, head)
        if all(row.exact for row in rows):
            return rows
        found = found or rows
    if found:
        return found
    raise DryRunError(
        f'the features of {source} could not be measured, since it failed on a small image: '
        f'{type(failure).__name__}: {failure}'
    ) from failure


def source_of(model: nn.Module) -> str:
    """Origin of the features of a model, for messages: the type of the neck, if any, and of the backbone."""
    backbone = type(model.backbone).__name__
    neck = getattr(model, 'neck', None)
    return backbone if neck is None else f'{type(neck).__name__} behind {backbone}'


def feature_maps(features, image_size: tuple[int, int], source: str, head: str) -> list[FeatureMap]:
    """Describe the features of an image.

    Args:
        features: what the model's ``extract_feat`` returned.
        image_size: (H, W) of the input.
        source: where they come from, for messages.
        head: config key of the head, for messages.

    Returns:
        One row per feature.

    Raises:
        OneMapError: if there is only one map.
        ValueError: if ``features`` are not a list of maps.
    """
    maps = list(features.values()) if isinstance(features, dict) else features
    maps = [maps] if isinstance(maps, Tensor) else list(maps)
    require_maps(maps, source)
    rows = [_feature_map(feature.shape, image_size) for feature in maps]
    if isinstance(features, Tensor) or len(rows) < 2:
        raise OneMapError(rows[0], isinstance(features, Tensor), source, head)
    if isinstance(features, dict):
        raise ValueError(
            f'{source} returns a dict of features with the keys {list(features)}; {head} takes a list or tuple. Fix: '
            'wrap the backbone in a module that returns list(features.values()), finest first'
        )
    return rows


def require_maps(features: Sequence, source: str) -> None:
    """Raise a `ValueError` that names the setting of the backbone to change if a feature is not a map.

    Args:
        features: each should be a tensor of four dimensions.
        source: where they come from, for messages.
    """
    for index, feature in enumerate(features):
        if not isinstance(feature, Tensor) or feature.dim() != 4:
            raise ValueError(_no_map_message(index, feature, source))


def _dry_run(model: nn.Module, channels: int, size: tuple[int, int]):
    modes = [(module, module.training) for module in model.modules()]
    like = next((x for x in model.parameters() if x.is_floating_point()), torch.zeros(()))
    image = torch.zeros(1, channels, *size, device=like.device, dtype=like.dtype)
    try:
        # Not eval(): hosts override it with side effects.
        for module, _ in modes:
            module.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return model.extract_feat(image)
    finally:
        for module, training in modes:
            module.training = training


def _image_channels(backbone: nn.Module) -> list[int]:
    """Numbers of bands to try: the input of the first convolution, and 3 for stems that rearrange pixels before it."""
    convs = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return list(dict.fromkeys([next((conv.in_channels for conv in convs), 3), 3]))


def _image_sizes(backbone: nn.Module) -> Iterator[tuple[int, int]]:
    """`IMAGE_SIZES`, then the sizes for which parts of the backbone are built."""
    yield from IMAGE_SIZES
    found = {}
    for module in backbone.modules():
        size = getattr(module, 'img_size', None)
        if isinstance(size, int):
            found[size, size] = None
        elif isinstance(size, tuple | list) and len(size) == 2:
            found[tuple(size)] = None
    yield from (size for size in found if size not in IMAGE_SIZES)


def _feature_map(shape: Sequence[int], image_size: tuple[int, int]) -> FeatureMap:
    _, first, second, third = shape
    is_first, is_last = (_has_ratio(sides, image_size) for sides in ((second, third), (first, second)))
    channels_last = is_last and not is_first
    sides = (first, second) if channels_last else (second, third)
    stride = _stride(image_size, sides)
    exact = misfit(image_size, sides, stride) == 0
    return FeatureMap(third if channels_last else first, stride, channels_last, exact)


def _has_ratio(sides: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a side can be that of the image divided by a stride, rounded up or down."""
    stride = (image_size[0] / sides[0] * image_size[1] / sides[1]) ** 0.5
    return all(abs(image / stride - side) < 1 for image, side in zip(image_size, sides, strict=True))


def _stride(image_size: tuple[int, int], sides: tuple[int, int]) -> Real:
    """The ratio of the sides; if they were rounded, a power of two or the smallest integer that fits."""
    ratios = [image / side for image, side in zip(image_size, sides, strict=True)]
    if ratios[0] == ratios[1]:
        return int(ratios[0]) if ratios[0].is_integer() else ratios[0]
    powers = (2**power for power in range(10))
    found = next((stride for stride in powers if misfit(image_size, sides, stride) <= 1), None)
    whole = range(1, max(image_size) + 1)
    found = found or next((stride for stride in whole if misfit(image_size, sides, stride) < 1), None)
    return found or round((ratios[0] * ratios[1]) ** 0.5)


def misfit(image_size: tuple[int, int], sides: tuple[int, int], stride: Real) -> float:
    """By how many of its pixels a feature differs from the image size divided by the stride; below 1 it was rounded."""
    return max(abs(image / stride - side) for image, side in zip(image_size, sides, strict=True))


def _no_map_message(index: int, feature, source: str) -> str:
    if isinstance(feature, Tensor):
        found = f'a tensor of shape {tuple(feature.shape)}'
        fix = (
            "let the backbone return feature maps: features_only=True for TIMMBackbone, out_type='featmap' for "
            'backbones of mmpretrain'
        )
    elif isinstance(feature, list | tuple):
        found = f'a {type(feature).__name__} of {len(feature)}, such as a map and its class token'
        fix = 'let the backbone return only maps: output_cls_token=False for VisionTransformer'
    else:
        found = f'a {type(feature).__name__}'
        fix = 'wrap the backbone in a module that returns a list of maps'
    return f'feature {index} of {source} is {found}; expected a map (B, C, h, w). Fix: {fix}'
