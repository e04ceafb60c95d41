"""Checkpoints in the form in which mmengine and the hosts expect them, with the names that they have."""

from collections import OrderedDict
from typing import Any

from mmmaskformer.checkpoints.layouts import package_of, take_apart

NOTE = 'mmmaskformer.checkpoint'
"""Key in the metadata of a state dict, which torch and mmengine hand on to the model that loads it."""


def in_form_of_mmengine(content: Any, origin: str) -> Any:
    """A checkpoint of a MaskFormer of any package as ``state_dict`` and ``meta``; anything else as it is.

    The state dict carries a note of where it comes from and of its ``meta``, which a model that renames the weights
    changes with them.

    Args:
        content: of a file.
        origin: the file, for messages.
    """
    if not isinstance(content, dict):
        return content
    found = take_apart(content)
    package = package_of(found.weights)
    if package is None:
        return content
    if package in ('official', 'transformers'):
        content = {'state_dict': OrderedDict(found.weights), 'meta': found.meta}
    elif not isinstance(content.get('state_dict'), dict):
        return content
    content.setdefault('meta', {})  # which MMSegmentation reads without asking
    state = content['state_dict']
    metadata = getattr(state, '_metadata', None)
    state = OrderedDict(state)
    state._metadata = OrderedDict(metadata or {})  # type: ignore[attr-defined]
    note = {NOTE: {'origin': origin, 'meta': content['meta']}}
    state._metadata[''] = {**state._metadata.get('', {}), **note}  # type: ignore[attr-defined]
    content['state_dict'] = state
    return content
