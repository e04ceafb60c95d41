"""Renaming of other packages' MaskFormer weights whenever a model with one of our heads loads a checkpoint."""

import logging
import weakref
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmmaskformer.checkpoints.classes import (
    facts_of,
    find_permutation,
    inverse,
    list_of_published,
    list_of_same_classes,
    permuted,
    things_first,
)
from mmmaskformer.checkpoints.convert import Conversion, convert
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.layouts import package_of
from mmmaskformer.checkpoints.loading import NOTE
from mmmaskformer.checkpoints.neutral import ConversionError
from mmmaskformer.checkpoints.source_facts import known_settings
from mmmaskformer.heads.source_settings import differing_settings, require_same_settings

OWN = {'decode_head': 'mmmaskformer', 'panoptic_head': 'mmmaskformer-panoptic'}
"""Names of this package by the attribute of the model that holds the head."""

_watched: weakref.WeakSet = weakref.WeakSet()


def convert_on_loading(model: nn.Module) -> None:
    """Register a hook that renames the weights of other packages whenever this model loads a state dict.

    Args:
        model: a model with one of our heads.
    """
    if model not in _watched:
        _watched.add(model)
        model._register_load_state_dict_pre_hook(_rename, with_module=True)


def convert_checkpoint(model: nn.Module, checkpoint: dict) -> None:
    """Rename the weights of a checkpoint that a runner has read, in place, before the names are compared.

    Args:
        model: unwrapped model.
        checkpoint: checkpoint with ``state_dict``; others are not changed.

    Raises:
        ValueError: if the weights belong to another package and cannot be converted.
    """
    state = checkpoint.get('state_dict')
    if isinstance(state, MutableMapping):
        rename_weights(model, state, getattr(state, '_metadata', {}).get('', {}))


def rename_weights(model: nn.Module, state: MutableMapping[str, Tensor], metadata: dict) -> None:
    """Rename the weights of another package's MaskFormer, in place, for a model with one of our heads, and log that.

    Args:
        model: unwrapped model.
        state: weights by name.
        metadata: metadata of the state dict's root; may contain the note of `checkpoints.loading`.

    Raises:
        ValueError: if they cannot be converted.
    """
    key = next((key for key in OWN if hasattr(getattr(model, key, None), 'classifier')), None)
    package = package_of(state)
    if key is None or package is None or package in OWN.values():
        return
    note = metadata.get(NOTE, {})
    origin = f'checkpoint {note["origin"]}: ' if 'origin' in note else 'checkpoint: '
    head, meta = getattr(model, key), note.get('meta', {})
    named_before = facts_of(meta.get('dataset_meta') or _of_older_files(meta)).get('classes')
    order = _order_of_classes(package, head, named_before)
    rows = next((len(value) for name, value in state.items() if name.endswith('.cls_embed.weight')), 0)
    if order is not None and len(order) != rows - 1:
        order = None  # other classes, which the head handles
    known = known_settings(meta, package)
    try:
        conversion = convert(state, package, OWN[key], permutation=order)
        _require_backbone(model, conversion)
        require_same_settings(head, known)
    except ConversionError as error:
        raise ValueError(f'{origin}it is {NAMES[package].title}, and cannot be converted: {error}') from None
    state.clear()
    state.update(conversion.weights)
    if order is not None and meta.get('dataset_meta'):
        meta['dataset_meta'] = permuted(facts_of(meta['dataset_meta']), order)
    elif order is not None and named_before:
        meta['dataset_meta'] = permuted(facts_of(_of_older_files(meta)), order)
    named = '' if named_before else _name_classes(meta, head)
    print_log(f'{origin}{describe(package, conversion, order is not None)}{named}', logger='current')
    if differing := differing_settings(model, known):
        print_log(
            f'{origin}{"; ".join(differing)}. Unless this is fine-tuning, use the values of the checkpoint.',
            logger='current',
            level=logging.WARNING,
        )


def describe(package: str, conversion: Conversion, reordered: bool) -> str:
    """Describe a conversion in one line.

    Args:
        package: package of the source.
        conversion: conversion of its weights.
        reordered: whether the classes were reordered.
    """
    reasons = sorted(set(conversion.dropped.values()))
    dropped = f', {len(conversion.dropped)} dropped ({"; ".join(reasons)})' if reasons else ''
    order = '; classes reordered for the model, things no longer first' if reordered else ''
    return (
        f'{NAMES[package].title} ({conversion.architecture.describe()}), converted in memory: '
        f'{len(conversion.weights)} weights{dropped}{order}'
    )


def _rename(model: nn.Module, state: Any, prefix: str, local_metadata: dict, *_: Any) -> None:
    if not prefix:
        rename_weights(model, state, local_metadata)


def _order_of_classes(package: str, head: nn.Module, classes: Sequence[str] | None) -> list[int] | None:
    """For each class of the model, its label in MMDetection's order, things first; None if the orders are equal.

    A semantic head has no information about things. It is taken from the class list of this package with the classes of
    the checkpoint, or else from the only list with the same number of classes.
    """
    if package != 'mmdet':
        return None
    is_thing = getattr(head, 'is_thing', None)
    if is_thing is not None:
        order = inverse(things_first(is_thing.tolist()))
    elif classes:
        known = list_of_same_classes(classes)
        order = (find_permutation(classes, known['classes']) or []) if known else []
    else:
        published = list_of_published(head.num_classes)
        order = inverse(things_first(published[1]['isthing'])) if published and published[1].get('isthing') else []
    return order if order != list(range(len(order))) else None


def _of_older_files(meta: Mapping) -> dict:
    return {key: meta[key] for key in ('CLASSES', 'PALETTE') if key in meta}


def _name_classes(meta: dict, head: nn.Module) -> str:
    """Add class names to a checkpoint without them; the hosts would assume those of COCO or Cityscapes."""
    is_thing = getattr(head, 'is_thing', None)
    flags = None if is_thing is None else is_thing.tolist()
    known = list_of_published(head.num_classes, flags)
    if known is not None:
        meta['dataset_meta'] = facts_of(known[1])
        return f'; classes assumed to be those of {known[0]}, by their number'
    meta['dataset_meta'] = {'classes': [f'class {label}' for label in range(head.num_classes)]}
    return '; its classes are unnamed'


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
            f'its backbone is {conversion.architecture.backbone.describe()}, but the model has a '
            f'{type(backbone).__name__} of {len(wanted)} weights, {len(wrong)} of which are absent or have another '
            f'shape: {name} is {found.get(name, "absent")}, expected {wanted[name]}. Fix: use a config with that '
            'backbone'
        )
