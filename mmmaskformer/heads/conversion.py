"""Weights of other packages' MaskFormer, renamed when a model with one of our heads loads them, whatever loads them."""

import weakref
from collections.abc import MutableMapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmmaskformer.checkpoints.classes import facts_of, inverse, list_of_published, permuted, things_first
from mmmaskformer.checkpoints.convert import Conversion, convert
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.layouts import package_of
from mmmaskformer.checkpoints.loading import NOTE
from mmmaskformer.checkpoints.neutral import ConversionError

OWN = {'decode_head': 'mmmaskformer', 'panoptic_head': 'mmmaskformer-panoptic'}
"""Names of this package by the attribute of the model that holds the head."""

_watched: weakref.WeakSet = weakref.WeakSet()


def convert_on_loading(model: nn.Module) -> None:
    """From now on rename the weights of other packages whenever this model loads some.

    Args:
        model: with one of our heads.
    """
    if model not in _watched:
        _watched.add(model)
        model._register_load_state_dict_pre_hook(_rename, with_module=True)


def convert_checkpoint(model: nn.Module, checkpoint: dict) -> None:
    """Rename the weights of a checkpoint that a runner has read, in place, before anything looks at the names.

    Args:
        model: bare, without wrappers.
        checkpoint: with ``state_dict``; any other stays as it is.

    Raises:
        ValueError: if the weights are those of another package and cannot be converted.
    """
    state = checkpoint.get('state_dict')
    if isinstance(state, MutableMapping):
        rename_weights(model, state, getattr(state, '_metadata', {}).get('', {}))


def rename_weights(model: nn.Module, state: MutableMapping[str, Tensor], metadata: dict) -> None:
    """Rename the weights of another package's MaskFormer, in place, for a model with one of our heads; log one line.

    Args:
        model: bare, without wrappers.
        state: weights by name.
        metadata: of the state dict's root; may hold the note of `checkpoints.loading`.

    Raises:
        ValueError: if they cannot be converted.
    """
    key = next((key for key in OWN if hasattr(getattr(model, key, None), 'classifier')), None)
    package = package_of(state)
    if key is None or package is None or package in OWN.values():
        return
    note = metadata.get(NOTE, {})
    origin = f'checkpoint {note["origin"]}: ' if 'origin' in note else 'checkpoint: '
    order = _order_of_classes(package, getattr(model, key))
    try:
        conversion = convert(state, package, OWN[key], permutation=order)
        _require_backbone(model, conversion)
    except ConversionError as error:
        raise ValueError(f'{origin}it is {NAMES[package].title}, and cannot be converted: {error}') from None
    state.clear()
    state.update(conversion.weights)
    meta = note.get('meta', {})
    if order is not None and meta.get('dataset_meta'):
        meta['dataset_meta'] = permuted(meta['dataset_meta'], order)
    named = '' if 'dataset_meta' in meta or 'CLASSES' in meta else _name_classes(meta, getattr(model, key))
    print_log(f'{origin}{describe(package, conversion, order is not None)}{named}', logger='current')


def describe(package: str, conversion: Conversion, reordered: bool) -> str:
    """One line about a conversion.

    Args:
        package: of the source.
        conversion: of its weights.
        reordered: whether the classes were put in another order.
    """
    reasons = sorted(set(conversion.dropped.values()))
    dropped = f', {len(conversion.dropped)} left out ({"; ".join(reasons)})' if reasons else ''
    order = '; classes put in the order of the model, things no longer first' if reordered else ''
    return (
        f'{NAMES[package].title} ({conversion.architecture.describe()}), converted in memory: '
        f'{len(conversion.weights)} weights{dropped}{order}'
    )


def _rename(model: nn.Module, state: Any, prefix: str, local_metadata: dict, *_: Any) -> None:
    if not prefix:
        rename_weights(model, state, local_metadata)


def _order_of_classes(package: str, head: nn.Module) -> list[int] | None:
    """For each class of the model its label in MMDetection's order, things first; None if the orders are the same."""
    is_thing = getattr(head, 'is_thing', None)
    if package != 'mmdet' or is_thing is None:
        return None
    order = inverse(things_first(is_thing.tolist()))
    return None if order == list(range(len(order))) else order


def _name_classes(meta: dict, head: nn.Module) -> str:
    """Name the classes of a checkpoint that does not: the hosts would take those of COCO or Cityscapes."""
    is_thing = getattr(head, 'is_thing', None)
    flags = None if is_thing is None else is_thing.tolist()
    known = list_of_published(head.num_classes, flags)
    if known is not None:
        meta['dataset_meta'] = facts_of(known[1])
        return f'; classes taken to be those of {known[0]}, by their number'
    meta['dataset_meta'] = {'classes': [f'class {label}' for label in range(head.num_classes)]}
    return '; its classes have no names'


def _require_backbone(model: nn.Module, conversion: Conversion) -> None:
    """Check that the backbone of the checkpoint is that of the model.

    Raises:
        ConversionError: if none or few of its weights have the names and shapes of the model's.
    """
    backbone = getattr(model, 'backbone', None)
    if backbone is None:
        return
    wanted = {f'backbone.{name}': tuple(value.shape) for name, value in backbone.named_parameters()}
    found = {name: tuple(value.shape) for name, value in conversion.weights.items() if name.startswith('backbone.')}
    wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
    if wrong and found:
        name = wrong[0]
        raise ConversionError(
            f'its backbone is {conversion.architecture.backbone.describe()}, the model has a {type(backbone).__name__} '
            f'of {len(wanted)} weights, {len(wrong)} of which are absent or have another shape: {name} is '
            f'{found.get(name, "absent")}, expected {wanted[name]}. Fix: give the config of that backbone'
        )
