"""Checks of the types and shapes of predictions and targets, before anything is computed from them."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.torch_versions import is_cpu_autocast, is_recorded

SHAPES: Mapping[type, Mapping[str, str]] = {
    Plain: {'all_logits': 'BQhw'},
    Product: {'embed': 'BQC', 'features': 'BChw'},
    Folded: {'embed': 'BQC', 'conv.x': 'Bxhw', 'conv.weight': 'Cxkl', 'conv.bias': 'C'},
}
"""The tensors of each mask representation, with a letter for each dimension; equal letters mean equal sizes."""


def is_integer(x: Tensor) -> bool:
    """Whether a tensor has an integer dtype; bool does not count."""
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def index_map(segment_map: Tensor, count: int) -> Tensor:
    """A map of segment indices in a signed type that holds every index.

    Others would be read incorrectly or not at all: 255 in uint8 equals -1, index 255 in int8 too, and torch has hardly
    any operation for integers without a sign of 16 bits or more.

    Args:
        segment_map: integer, of any shape.
        count: number of segments.

    Returns:
        The map itself if its type is suitable, otherwise a wider copy.
    """
    dtype = segment_map.dtype
    if dtype.is_signed and count <= torch.iinfo(dtype).max:
        return segment_map
    wider = (x for x in (torch.int16, torch.int32) if x.itemsize > dtype.itemsize and count <= torch.iinfo(x).max)
    return segment_map.to(next(wider, torch.int64))


def is_float(x: Any) -> bool:
    """Whether x is a tensor of floats that support arithmetic; 8-bit floats, which torch only stores, do not."""
    return isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_layers(predictions: Sequence[Any]) -> None:
    """Check that the predictions of all layers are consistent.

    Args:
        predictions: `MaskPrediction` of each layer.

    Raises:
        ValueError: if they are not, or the list is empty.
    """
    if not isinstance(predictions, Sequence) or hasattr(predictions, 'class_logits'):
        raise ValueError(
            f'predictions are a {type(predictions).__name__}; expected a list of MaskPrediction, one per decoder layer'
        )
    if not len(predictions):
        raise ValueError('there are no predictions; expected one per decoder layer')
    for layer, prediction in enumerate(predictions):
        where = f'decoder layer {layer + 1} of {len(predictions)}'
        if not hasattr(prediction, 'class_logits') or not hasattr(prediction, 'masks'):
            raise ValueError(f'{where}: found a {type(prediction).__name__}; expected a MaskPrediction')
        class_logits, masks, first = prediction.class_logits, prediction.masks, predictions[0].class_logits
        shape = tuple(getattr(class_logits, 'shape', ()))
        if len(shape) != 3 or not is_float(class_logits) or 0 in shape or shape[2] < 2:
            raise ValueError(
                f'{where}: class_logits are {form_of(class_logits)}; expected (B, Q, K + 1) float, B, Q, K > 0'
            )
        if shape != first.shape or class_logits.dtype != first.dtype or class_logits.device != first.device:
            raise ValueError(
                f'{where}: class_logits are {form_of(class_logits)}; expected {form_of(first)} as in the first layer'
            )
        if not hasattr(masks, 'like'):
            raise ValueError(f'{where}: masks are a {type(masks).__name__}; expected Product, Folded or Plain')
        check_masks(where, masks)
        found = len(masks.like), masks.num_queries
        if found != shape[:2] or 0 in masks.size:
            raise ValueError(
                f'{where}: found masks of {found[1]} queries of {found[0]} images on a grid of {tuple(masks.size)} for '
                f'class_logits {shape}; expected masks of the same queries'
            )
        if masks.like.device != first.device:
            raise ValueError(f'{where}: masks are on {masks.like.device}; expected {first.device} as class_logits')
        boxes = getattr(prediction, 'boxes_cxcywh', None)
        if boxes is not None and not (
            is_float(boxes) and boxes.shape == (*shape[:2], 4) and boxes.device == first.device
        ):
            raise ValueError(f'{where}: boxes_cxcywh are {form_of(boxes)}; expected {(*shape[:2], 4)} float')


def check_same_device(targets: Any, device: torch.device) -> None:
    """Check that the targets of a batch are on the device of the predictions.

    Args:
        targets: `Targets`.
        device: device of the predictions.

    Raises:
        ValueError: if they are on another device.
    """
    if targets.labels.device != device:
        raise ValueError(
            f'targets are on {targets.labels.device}; expected {device} as the predictions. Fix: put both on one device'
        )


def check_masks(where: str, masks: Any) -> None:
    """Check that the tensors of masks are consistent; masks of user-defined classes are not checked.

    Args:
        where: description of their owner, for messages.
        masks: a representation of `mmmaskformer.core.masks`.

    Raises:
        ValueError: if a tensor has the wrong number of dimensions, size or dtype, or is on another device.
    """
    if is_recorded():
        return
    sizes: dict[str, int] = {}
    device: torch.device | None = None
    for name, letters in SHAPES.get(type(masks), {}).items():
        tensor = attrgetter(name)(masks)
        fits = is_float(tensor) and tensor.ndim == len(letters)
        device = tensor.device if fits and device is None else device
        if (
            not fits
            or tensor.device != device
            or any(sizes.setdefault(letter, size) != size for letter, size in zip(letters, tensor.shape, strict=True))
        ):
            known = ', '.join(str(sizes.get(letter, letter)) for letter in letters)
            raise ValueError(
                f'{where}: masks.{name} ({type(masks).__name__}) is {form_of(tensor)}; expected ({known}) float'
                f'{"" if device is None else f" on {device}"}'
            )


def check_target(image: int, target: Any) -> None:
    """Check one target of a batch before it is joined with the others.

    Args:
        image: its position.
        target: a `MaskTarget`.

    Raises:
        ValueError: if it has both a map and masks, or neither, or shapes, dtypes or devices are wrong.
    """
    where = f'target {image} of the batch'
    if not hasattr(target, 'segment_map') or not hasattr(target, 'masks'):
        raise ValueError(f'{where} is a {type(target).__name__}; expected a MaskTarget')
    segment_map, masks, ignored = target.segment_map, target.masks, target.ignored
    if (segment_map is None) == (masks is None):
        raise ValueError(
            f'{where} has {"neither segment_map nor" if masks is None else "both segment_map and"} masks; expected '
            'one of them. Fix: pass overlapping segments as masks, all others as a segment_map'
        )
    expected = ((target.labels, 1, 'labels', '(M,)'), (segment_map, 2, 'segment_map', '(H, W)'),
                (masks, 3, 'masks', '(M, H, W)'), (ignored, 2, 'ignored', '(H, W)'))  # fmt: skip
    device = getattr(target.labels, 'device', None)
    for tensor, dimensions, name, shape in expected:
        if tensor is None and name != 'labels':
            continue
        if not isinstance(tensor, Tensor) or tensor.ndim != dimensions or tensor.device != device:
            raise ValueError(f'{where}: {name} is {form_of(tensor)}; expected {shape}, all on one device')
        if name in ('labels', 'segment_map') and not is_integer(tensor):
            raise ValueError(f'{where}: {name} is {form_of(tensor)}; expected {shape} integer')
    if masks is None:
        if ignored is not None:
            raise ValueError(
                f'{where} has ignored in addition to a segment_map, which marks ignored pixels itself. Fix: omit '
                'ignored, and write IGNORED into the segment_map'
            )
        return
    if len(masks) != len(target.labels):
        raise ValueError(
            f'{where}: found {len(target.labels)} labels and {len(masks)} masks; expected one mask per label'
        )
    if ignored is not None and ignored.shape != masks.shape[1:]:
        raise ValueError(
            f'{where}: ignored is {form_of(ignored)}; expected {tuple(masks.shape[1:])} bool, as the masks'
        )


def check_batch(
    labels: Tensor,
    counts: Sequence[int],
    segment_maps: Tensor | None,
    masks: Tensor | None,
    ignored: Tensor | None,
) -> None:
    """Check the targets of a batch; arguments are the attributes of `Targets`.

    Raises:
        ValueError: if they are inconsistent.
    """
    if isinstance(counts, Tensor) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError(
            f'counts of targets are {counts!r}; expected a whole number per image, the number of its segments'
        )
    batch, total = len(counts), sum(counts)
    if (segment_maps is None) == (masks is None):
        raise ValueError(
            f'targets have {"neither segment_maps nor" if masks is None else "both segment_maps and"} masks; expected '
            'one of them. Fix: pass overlapping segments as masks, all others as segment_maps'
        )
    if not isinstance(labels, Tensor) or labels.shape != (total,) or not is_integer(labels):
        raise ValueError(
            f'labels of targets are {form_of(labels)}; expected ({total},) integer, one for each of the {total} '
            f'segments of {batch} images'
        )
    for name, tensor in (('segment_maps', segment_maps), ('masks', masks), ('ignored', ignored)):
        if tensor is not None and (not isinstance(tensor, Tensor) or tensor.device != labels.device):
            raise ValueError(f'{name} of targets are {form_of(tensor)}; expected a tensor on the device of the labels')
    if segment_maps is not None and not (
        segment_maps.ndim == 3 and len(segment_maps) == batch and is_integer(segment_maps)
    ):
        raise ValueError(
            f'segment maps of targets are {form_of(segment_maps)}; expected ({batch}, H, W) integer indices of '
            'segments. Fix: build them from class maps with semantic_targets'
        )
    if masks is not None and (masks.ndim, len(masks), masks.dtype) != (3, total, torch.bool):
        raise ValueError(
            f'masks of targets are {form_of(masks)}; expected ({total}, H, W) bool, one per label. Fix: masks > 0'
        )
    maps = masks if segment_maps is None else segment_maps
    assert maps is not None, 'one of the two is given'
    if 0 in maps.shape[1:]:
        raise ValueError(f'targets have the size {tuple(maps.shape[1:])}; expected at least one pixel')
    if ignored is not None and (tuple(ignored.shape), ignored.dtype) != ((batch, *maps.shape[1:]), torch.bool):
        raise ValueError(
            f'ignored pixels of targets are {form_of(ignored)}; expected {(batch, *maps.shape[1:])} bool, as the others'
        )


def check_features(where: str, features: Sequence[Tensor], in_channels: Sequence[int]) -> None:
    """Check the features of a backbone.

    Args:
        where: name of the module that takes them, for messages.
        features: one (B, C_i, h_i, w_i) per level.
        in_channels: the expected channels C_i.

    Raises:
        ValueError: if the number of levels or their channels differ from ``in_channels``, they are not float maps, or
            they differ in batch size, dtype or device.
    """
    if isinstance(features, Tensor) or not all(isinstance(x, Tensor) for x in features):
        raise ValueError(f'{where}: features are a {type(features).__name__}; expected a list of tensors (B, C, h, w)')
    found = [tuple(x.shape) for x in features]
    if len(found) != len(in_channels) or any(len(x) != 4 or x[1] != c for x, c in zip(found, in_channels, strict=True)):
        raise ValueError(
            f'{where}: features have the shapes {found}; expected {len(in_channels)} levels (B, C, h, w) with the '
            f'channels {list(in_channels)}, finest first. Fix: set in_channels to those of the backbone'
        )
    if is_recorded():
        return
    if any(0 in shape for shape in found) or not all(map(is_float, features)):
        raise ValueError(
            f'{where}: features are {list(map(form_of, features))}; expected float, at least one pixel each'
        )
    autocast = torch.is_autocast_enabled() or is_cpu_autocast()  # under which layers may have different dtypes
    if len({(len(x), x.device, None if autocast else x.dtype) for x in features}) > 1:
        raise ValueError(
            f'{where}: features are {list(map(form_of, features))}; expected one batch size, dtype and device'
        )


def form_of(value: Any) -> str:
    """Shape, dtype and device of a tensor, or the type of anything else, for messages."""
    if not isinstance(value, Tensor):
        return f'a {type(value).__name__}'
    where = '' if value.device.type == 'cpu' else f' on {value.device}'
    return f'{tuple(value.shape)} {str(value.dtype).removeprefix("torch.")}{where}'
