"""Checks of the weights that a model with one of our heads loads, no matter which function loads them.

The hosts' inference functions load weights without a runner, so that no hook of a run sees them, and only log a
mismatch. A model with a random backbone, or with a NaN that an attention suppresses, would still return predictions.
"""

import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmmaskformer.checkpoints.loading import NOTE
from mmmaskformer.heads.checkpoint_layouts import require_usable_weights

STATISTICS = ('running_mean', 'running_var')
"""Buffers that are as necessary as parameters. Others are computed, or only count."""
UNUSED_IN_INFERENCE = ('auxiliary_head.',)

_watched: weakref.WeakSet = weakref.WeakSet()


def check_on_loading(model: nn.Module) -> None:
    """Register hooks that check the weights whenever this model loads a state dict.

    Weights that are inf, NaN or not floating-point numbers are refused at once. Names of parameters and statistics of
    batch norms that are not loaded are passed to the ``note_absent`` of our heads, which refuse to predict. A part of
    the model, such as the backbone, may be loaded separately, before or after the rest.

    Args:
        model: a model with one of our heads.
    """
    if model not in _watched:
        _watched.add(model)
        watch = _LoadWatch()
        model._register_load_state_dict_pre_hook(watch.before, with_module=True)
        model.register_load_state_dict_post_hook(watch.after)
        for name, part in model.named_children():
            part._register_load_state_dict_pre_hook(partial(watch.before_part, name), with_module=True)


class _LoadWatch:
    """The state of one load: copies of the weights that have another shape in the checkpoint; None between loads."""

    def __init__(self) -> None:
        self._reshaped: dict[str, Tensor] | None = None
        self._loaded_apart: set[str] = set()

    def before_part(self, name: str, part: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
        """Note what a part of the model, such as its backbone, loads by itself."""
        if prefix:
            return
        for key, value in _necessary(part):
            if getattr(state.get(key), 'shape', None) == value.shape:
                self._loaded_apart.add(f'{name}.{key}')

    def before(self, model: nn.Module, state: Mapping[str, Any], prefix: str, metadata: Mapping, *_: Any) -> None:
        """Check the values."""
        if prefix:
            return
        own = dict(_necessary(model))
        origin = metadata.get(NOTE, {}).get('origin', 'that was loaded')
        require_usable_weights(model.state_dict(), state, origin)
        other_shape = (name for name in own if getattr(state.get(name), 'shape', own[name].shape) != own[name].shape)
        self._reshaped = {name: own[name].detach().clone() for name in other_shape}

    def after(self, model: nn.Module, keys: Any) -> None:
        """Note what was not loaded. A part of the model may have resized a weight, which then has changed."""
        reshaped, self._reshaped = self._reshaped, None
        if reshaped is None:
            return
        own = dict(_necessary(model))
        absent = {name for name in keys.missing_keys if name in own}
        absent |= {name for name, before in reshaped.items() if torch.equal(own[name], before)}
        for part in model.children():
            if hasattr(part, 'note_absent'):
                part.note_absent(absent, self._loaded_apart)


def _necessary(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights without which predictions are random, with their names."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        is_needed = isinstance(value, nn.Parameter) or name.endswith(STATISTICS)
        if is_needed and not name.startswith(UNUSED_IN_INFERENCE):
            yield name, value
