"""Checkpoints of other packages in the form that mmengine and the hosts expect; names are kept."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskformer.checkpoints.backbones import convert_backbone_weights, is_unreadable_for_hosts
from mmmaskformer.checkpoints.layouts import package_of, take_apart

NOTE = 'mmmaskformer.checkpoint'
"""Key in the metadata of a state dict, which torch and mmengine pass to the model that loads it."""


def in_form_of_mmengine(content: Any, origin: str) -> Any:
    """Bring the content of a checkpoint file into mmengine's form.

    A MaskFormer checkpoint of any package becomes ``state_dict`` and ``meta``, with the names of its package; a ResNet
    of detectron2 gets the names of the hosts; anything else is returned unchanged. The metadata of the state dict
    records the origin and ``meta``, so that a model that renames the weights can update ``meta`` as well.

    Args:
        content: content of a file.
        origin: the file, for messages.

    Raises:
        ValueError: if the file holds no dict of weights, or a weight twice, or a ResNet of detectron2 that is not
            complete.
    """
    for what, part in (('it', content), ("its 'state_dict'", _state_of(content))):
        if not isinstance(part, Mapping):
            raise ValueError(
                f'checkpoint {origin}: {what} is a {type(part).__name__}, expected a dict of weights by name. Fix: '
                'use a checkpoint of a training run, or save model.state_dict().'
            )
    try:
        found = take_apart(content)
    except ValueError as error:
        raise ValueError(f'checkpoint {origin}: {error}.') from None
    package = package_of(found.weights)
    if package is None:
        return _backbone_of_detectron2(found.weights, origin) or content
    if package in ('official', 'transformers'):
        content = {'state_dict': OrderedDict(found.weights), 'meta': found.meta}
    elif 'state_dict' not in content and len(found.weights) == len(content):
        # bare weights, as torch.save(model.state_dict()) writes them
        content = {'state_dict': content, 'meta': {}}
    elif not isinstance(content.get('state_dict'), dict):
        return content
    content.setdefault('meta', {})  # MMSegmentation reads it unconditionally
    state = content['state_dict']
    metadata = getattr(state, '_metadata', None)
    state = OrderedDict(state)
    state._metadata = OrderedDict(metadata or {})  # type: ignore[attr-defined]
    note = {NOTE: {'origin': origin, 'meta': content['meta']}}
    state._metadata[''] = {**state._metadata.get('', {}), **note}  # type: ignore[attr-defined]
    content['state_dict'] = state
    return content


def _state_of(content: Any) -> Any:
    return content.get('state_dict', {}) if isinstance(content, Mapping) else {}


def _backbone_of_detectron2(weights: dict[str, Tensor], origin: str) -> dict | None:
    """Rename the weights of detectron2's ResNet for the hosts; None for anything else."""
    if not is_unreadable_for_hosts(weights):
        return None
    try:
        conversion = convert_backbone_weights(weights)
    except ValueError as error:
        raise ValueError(f'checkpoint {origin}: the backbone cannot be converted: {error}') from None
    return {'state_dict': OrderedDict(conversion.weights), 'meta': {}}
