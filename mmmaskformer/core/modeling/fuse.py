"""Faster inference, switched on by name: `fuse_for_inference`; or for one call: `run_fused`."""

import threading
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module

from mmmaskformer.core.fast_paths import is_fast
from mmmaskformer.core.torch_versions import is_compiling

GLOBAL_HOOKS_OF_OUTPUTS = (
    torch_module._global_forward_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
"""torch's global hooks for which the outputs of modules must not be overwritten."""

NEW_TENSORS = (nn.Linear, nn.Conv2d, nn.GroupNorm)
"""Layers whose output is a new tensor, unlike that of a replacement such as `nn.Identity`."""

Module = TypeVar('Module', bound=nn.Module)


class _Calls(threading.local):
    """What applies to the calls of this thread.

    Attributes:
        are_fused: whether layers in evaluation mode are fused, see `run_fused`.
    """

    def __init__(self) -> None:  # called in every thread
        self.are_fused = False


_calls = _Calls()


class Fusable(nn.Module):
    """A layer with a faster mode for inference, which `fuse_for_inference` switches on and ``train()`` switches off.

    Attributes:
        fused: whether the faster mode is on for every call.
    """

    fused = False

    def train(self, mode: bool = True) -> 'Fusable':
        """See `nn.Module.train`; training ends the fused state."""
        if mode:
            self.fused = False
        return super().train(mode)

    @property
    def is_fused(self) -> bool:
        """Whether the faster mode is on, for every call or for this one, and not disabled by `set_fast_paths`."""
        is_on = self.fused or (not self.training and _calls.are_fused)
        return is_on and is_fast('fused_inference')


def fuse_for_inference(module: Module, enabled: bool = True) -> Module:
    """Speed up a model in evaluation mode; ``module.train()`` and ``enabled=False`` restore the plain layers.

    What changes, beyond time and memory:

    - The mask features are not computed: masks come from the folded last convolution (`Folded`), which is then not
      called, unless a hook is registered on it.
    - On a CPU, in float32 and without gradients, maps are channels last, 1x1 convolutions are matrix products and
      GroupNorm works in place. Outputs differ by rounding. Tensors that hooks receive are not overwritten.

    Nothing is computed here: layers check the switch when they run. `MaskFormer.predict` and the heads for
    MMSegmentation and MMDetection use the faster layers in evaluation mode without it, see `run_fused`.

    Args:
        module: a model or a part of one, which is changed.
        enabled: False to undo it.

    Returns:
        ``module``.

    Raises:
        ValueError: if it is in training mode, or an argument has the wrong type.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f'fuse_for_inference: module is a {type(module).__name__}; expected a torch.nn.Module')
    if not isinstance(enabled, bool):
        raise ValueError(f'fuse_for_inference: found enabled={enabled!r}, expected True or False')
    if enabled and module.training:
        raise ValueError('fuse_for_inference: the module is in training mode. Fix: call module.eval() first')
    for part in module.modules():
        if isinstance(part, Fusable):
            part.fused = enabled
    return module


def run_fused(network: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call a network with the layers that are in evaluation mode fused, for this call only.

    No module is changed, so what other calls of the network return does not depend on predictions, neither on earlier
    ones nor on those of other threads. Compiled graphs use the plain layers.

    Args:
        network: module to call.
        args: its arguments.
        kwargs: likewise.
    """
    before, _calls.are_fused = _calls.are_fused, True
    try:
        return network(*args, **kwargs)
    finally:
        _calls.are_fused = before


def is_watched(*modules: nn.Module) -> bool:
    """Whether a forward or backward hook sees the outputs of one of the modules, so that they must not be overwritten.

    With a backward hook, torch makes the outputs views, which cannot be modified in place.
    """
    if any(m._forward_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules):
        return True
    return not is_compiling() and any(map(len, GLOBAL_HOOKS_OF_OUTPUTS))


def is_input_watched(module: nn.Module) -> bool:
    """Whether a hook of any kind sees the input of a module, so that the module must not overwrite it."""
    if module._forward_hooks or module._forward_pre_hooks:
        return True
    return not is_compiling() and bool(torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)


def relu_after(module: nn.Module, x: Tensor) -> Tensor:
    """ReLU of the output of a module, in place unless a hook watches it or it may not be a new tensor."""
    return F.relu_(x) if isinstance(module, NEW_TENSORS) and not is_watched(module) else F.relu(x)
