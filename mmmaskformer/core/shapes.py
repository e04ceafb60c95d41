"""Kinds and shapes of predictions and targets; what does not fit together is refused before anything is computed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def is_integer(x: Tensor) -> bool:
    """Whether a tensor holds integers; True and False are none."""
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def check_layers(predictions: Sequence[Any]) -> None:
    """Check that the predictions of the layers fit together.

    Args:
        predictions: `MaskPrediction` of each layer.

    Raises:
        ValueError: if they do not, or there are none.
    """
    if not len(predictions):
        raise ValueError('there are no predictions; expected one per decoder layer')
    first = predictions[0].class_logits
    for layer, prediction in enumerate(predictions):
        class_logits, masks = prediction.class_logits, prediction.masks
        where = f'decoder layer {layer + 1} of {len(predictions)}'
        shape = tuple(class_logits.shape)
        if len(shape) != 3 or not class_logits.is_floating_point() or 0 in shape or shape[2] < 2:
            raise ValueError(
                f'{where}: class_logits are {_form(class_logits)}; expected (B, Q, K + 1) float, B, Q, K > 0'
            )
        if shape != first.shape or class_logits.dtype != first.dtype:
            raise ValueError(
                f'{where}: class_logits are {_form(class_logits)}; expected {_form(first)} as in the first layer'
            )
        found = len(masks.like), masks.num_queries
        if found != shape[:2] or 0 in masks.size:
            raise ValueError(
                f'{where}: found masks of {found[1]} queries of {found[0]} images on a grid of {tuple(masks.size)} for '
                f'class_logits {shape}; expected masks of the same queries'
            )


def check_target(image: int, target: Any) -> None:
    """Check one target of a batch before it is joined with the others.

    Args:
        image: its position.
        target: a `MaskTarget`.

    Raises:
        ValueError: if it has both a map and masks, or neither, or their shapes are wrong.
    """
    where, segment_map, masks = f'target {image} of the batch', target.segment_map, target.masks
    if (segment_map is None) == (masks is None):
        raise ValueError(
            f'{where} has {"neither" if masks is None else "both"} segment_map and masks; expected one of them. Fix: '
            'give overlapping segments as masks, all others as a segment_map'
        )
    expected = ((target.labels, 1, 'labels', '(M,)'), (segment_map, 2, 'segment_map', '(H, W)'),
                (masks, 3, 'masks', '(M, H, W)'), (target.ignored, 2, 'ignored', '(H, W)'))  # fmt: skip
    for tensor, dimensions, name, shape in expected:
        if tensor is not None and tensor.ndim != dimensions:
            raise ValueError(f'{where}: {name} is {_form(tensor)}; expected {shape}')


def check_batch(
    labels: Tensor,
    counts: Sequence[int],
    segment_maps: Tensor | None,
    masks: Tensor | None,
    ignored: Tensor | None,
) -> None:
    """Check the targets of a batch; arguments are the attributes of `Targets`.

    Raises:
        ValueError: if they do not fit together.
    """
    batch, total = len(counts), sum(counts)
    if (segment_maps is None) == (masks is None):
        raise ValueError(
            f'targets have {"neither" if masks is None else "both"} segment_maps and masks; expected one of them. Fix: '
            'give overlapping segments as masks, all others as segment_maps'
        )
    if labels.shape != (total,) or not is_integer(labels):
        raise ValueError(
            f'labels of targets are {_form(labels)}; expected ({total},) integer, one for each of the {total} segments '
            f'of {batch} images'
        )
    if segment_maps is not None and not (
        segment_maps.ndim == 3 and len(segment_maps) == batch and is_integer(segment_maps)
    ):
        raise ValueError(
            f'segment maps of targets are {_form(segment_maps)}; expected ({batch}, H, W) integer indices of segments. '
            'Fix: semantic_targets makes them from maps of classes'
        )
    if masks is not None and (masks.ndim, len(masks), masks.dtype) != (3, total, torch.bool):
        raise ValueError(
            f'masks of targets are {_form(masks)}; expected ({total}, H, W) bool, one per label. Fix: masks > 0'
        )
    maps = masks if segment_maps is None else segment_maps
    assert maps is not None, 'one of the two is given'
    if 0 in maps.shape[1:]:
        raise ValueError(f'targets have the size {tuple(maps.shape[1:])}; expected at least one pixel')
    if ignored is not None and (tuple(ignored.shape), ignored.dtype) != ((batch, *maps.shape[1:]), torch.bool):
        raise ValueError(
            f'ignored pixels of targets are {_form(ignored)}; expected {(batch, *maps.shape[1:])} bool, as the others'
        )


def check_features(where: str, features: Sequence[Tensor], in_channels: Sequence[int]) -> None:
    """Check the features of a backbone.

    Args:
        where: what takes them, for messages.
        features: one (B, C_i, h_i, w_i) per level.
        in_channels: the channels C_i that are expected.

    Raises:
        ValueError: if there are more or fewer levels, or other channels.
    """
    found = [tuple(x.shape) for x in features]
    if len(found) != len(in_channels) or any(len(x) != 4 or x[1] != c for x, c in zip(found, in_channels, strict=True)):
        raise ValueError(
            f'{where}: features have the shapes {found}; expected {len(in_channels)} levels (B, C, h, w) with the '
            f'channels {list(in_channels)}, finest first. Fix: set in_channels to those of the backbone'
        )


def _form(tensor: Tensor) -> str:
    return f'{tuple(tensor.shape)} {str(tensor.dtype).removeprefix("torch.")}'
