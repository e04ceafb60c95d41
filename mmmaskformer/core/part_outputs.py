"""Checks of what the parts of a network return. A part may be user-defined; the messages name it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from mmmaskformer.core.contracts import PixelDecoderOutput
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.shapes import check_layers, check_masks, form_of, is_float
from mmmaskformer.core.torch_versions import is_autocast, is_recorded


def batch_of(features: Any) -> int | None:
    """Number of images of a list of feature maps; None for other input, which a user-defined pixel decoder may take."""
    is_list = isinstance(features, list | tuple) and len(features) > 0 and isinstance(features[0], Tensor)
    return features[0].shape[0] if is_list else None  # len() would fix it in an export


def check_pixels(
    decoder: Any, found: Any, batch: int | None, *, mask_channels: int | None, uses_memory: bool = True
) -> None:
    """Check the output of a pixel decoder.

    Args:
        decoder: the pixel decoder.
        found: its output.
        batch: B; None if it is not known.
        mask_channels: the width that the next layer requires; None if it is not known.
        uses_memory: whether the network uses the memory.

    Raises:
        TypeError: if the output is not a `PixelDecoderOutput`.
        ValueError: if a tensor in it has another shape, or is not float.
    """
    name = type(decoder).__name__
    if not isinstance(found, PixelDecoderOutput):
        raise TypeError(
            f'{name} returned a {type(found).__name__}; expected PixelDecoderOutput(memory, mask_features) of '
            'mmmaskformer.core.contracts'
        )
    if is_recorded():
        return
    if uses_memory and not isinstance(found.memory, list | tuple | dict):  # several maps: checked by their reader
        _check_maps(f'{name} returned a memory', found.memory, batch, getattr(decoder, 'memory_channels', None))
    features = found.mask_features
    if isinstance(features, LastConv):
        _check_maps(f'{name} returned a LastConv with the input', features.x, batch, None)
        _check_maps(f'{name} returned a LastConv with the weight', features.weight, mask_channels, features.x.shape[1])
    else:
        _check_maps(f'{name} returned mask_features', features, batch, mask_channels)


def _check_maps(what: str, maps: Any, length: int | None, channels: Any) -> None:
    """Check that maps are (length, channels, h, w) float of at least one pixel; None means any number."""
    channels = channels if isinstance(channels, int) else None
    fits = is_float(maps) and maps.ndim == 4 and 0 not in maps.shape
    if not fits or length not in (None, len(maps)) or channels not in (None, maps.shape[1]):
        shape = f'({"n" if length is None else length}, {"C" if channels is None else channels}, h, w)'
        raise ValueError(f'{what}: {form_of(maps)}; expected {shape} float')


def checked_states(decoder: Any, states: Any, batch: int | None, reader: nn.Module) -> list[Tensor]:
    """The output of a transformer decoder as a list of tensors (B, Q, channels), one per layer.

    Args:
        decoder: the transformer decoder.
        states: its output: a sequence, or one tensor (L, B, Q, channels).
        batch: B; None if it is not known.
        reader: the layer that reads them, which determines width and dtype.

    Raises:
        TypeError: if it is not a sequence.
        ValueError: if it is empty, or a tensor has another shape or dtype.
    """
    if is_recorded():  # even a message would convert a traced size to a number
        return list(states)
    name, channels, dtype = type(decoder).__name__, width_of(reader), input_dtype_of(reader)
    kind = 'float' if dtype is None else str(dtype).removeprefix('torch.')
    shape = f'({"B" if batch is None else batch}, Q, {"C" if channels is None else channels})'
    expected = f'{shape} {kind} for each layer, with one Q'
    if not isinstance(states, Sequence | Tensor):
        raise TypeError(f'{name} returned a {type(states).__name__}; expected a list of tensors {expected}')
    states = list(states)
    if not states:
        raise ValueError(f'{name} returned an empty list; expected tensors {expected}')
    images, queries = states[0].shape[:2] if isinstance(states[0], Tensor) and states[0].ndim == 3 else (None, None)
    images = images if batch is None else batch
    for layer, state in enumerate(states):
        fits = is_float(state) and state.ndim == 3 and 0 not in state.shape and dtype in (None, state.dtype)
        if not fits or state.shape[:2] != (images, queries) or channels not in (None, state.shape[2]):
            raise ValueError(
                f'{name} returned {form_of(state)} for decoder layer {layer + 1} of {len(states)}; expected {expected}'
            )
    return states


def check_network(network: Any, predictions: Any, batch: int, num_classes: int) -> None:
    """Check the predictions of a network for mask classification.

    Args:
        network: the network.
        predictions: its output.
        batch: B.
        num_classes: K.

    Raises:
        ValueError: if they are not a list of `MaskPrediction` of B images and K classes.
    """
    name = type(network).__name__
    try:
        check_layers(predictions)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
    found = predictions[0].class_logits
    if (len(found), found.shape[2]) != (batch, num_classes + 1):
        raise ValueError(
            f'{name}: class_logits are {form_of(found)}; expected ({batch}, Q, {num_classes + 1}): num_classes + 1 '
            'columns, the last one "no object"'
        )


def check_pixel_layers(predictions: Any, batch: int, num_classes: int) -> None:
    """Check the predictions of a per-pixel model.

    Args:
        predictions: `Masks` of K "queries" of each layer.
        batch: B, the number of targets.
        num_classes: K.

    Raises:
        ValueError: if they are not a list, or not the logits of K classes of B images.
    """
    if not isinstance(predictions, Sequence) or hasattr(predictions, 'like') or not len(predictions):
        raise ValueError(
            f'predictions are a {type(predictions).__name__}; expected a list of the masks of K classes, one per layer'
        )
    for layer, masks in enumerate(predictions):
        where = f'decoder layer {layer + 1} of {len(predictions)}'
        if not hasattr(masks, 'like'):
            raise ValueError(f'{where}: masks are a {type(masks).__name__}; expected Product, Folded or Plain')
        check_masks(where, masks)
        found = len(masks.like), masks.num_queries
        if found != (batch, num_classes) or 0 in masks.size:
            raise ValueError(
                f'{where}: found logits of {found[1]} classes of {found[0]} images on a grid of {tuple(masks.size)}; '
                f'expected {num_classes} classes, and {batch} images as there are targets'
            )


def input_dtype_of(layer: nn.Module) -> torch.dtype | None:
    """The dtype of the input that a layer requires: that of its weights.

    None if any may be right: under autocast, for a replaced layer, and for one whose call may convert the input, as in
    sharded training and with offloaded weights: through hooks or a ``forward`` of the layer's own.
    """
    is_plain = type(layer) in (nn.Linear, nn.Conv2d, nn.Embedding) and 'forward' not in vars(layer)
    is_hooked = layer._forward_pre_hooks or torch_module._global_forward_pre_hooks
    weight = layer.weight if is_plain and not is_hooked else None
    if not isinstance(weight, Tensor) or not is_float(weight) or is_autocast(weight.device):
        return None
    return weight.dtype


def width_of(layer: nn.Module) -> int | None:
    """The input width of an MLP, a linear layer or a convolution; None for a replacement that does not state it.

    A lazy layer, such as `nn.LazyLinear`, states 0 until its first call.
    """
    for name in ('input_width', 'in_features', 'in_channels'):
        if isinstance(width := getattr(layer, name, None), int) and width:
            return width
    return None


def output_width_of(layer: nn.Module) -> int | None:
    """The output width of an MLP or a convolution; None for a replacement that does not state it."""
    widths = (getattr(layer, name, None) for name in ('output_width', 'out_channels'))
    return next((width for width in widths if isinstance(width, int) and width), None)
