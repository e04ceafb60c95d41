"""Functions of torch whose names have changed since version 2.1."""

import torch

is_compiling = torch.compiler.is_compiling if hasattr(torch.compiler, 'is_compiling') else torch._utils.is_compiling
"""Whether `torch.compile` or `torch.export` is tracing the code: () → bool."""


def is_cpu_autocast() -> bool:
    """Whether autocast is enabled for the CPU."""
    try:
        return torch.is_autocast_enabled('cpu')
    except TypeError:  # before torch 2.4
        return torch.is_autocast_cpu_enabled()


def is_autocast(device: torch.device) -> bool:
    """Whether autocast is enabled for a device, so that layers may have inputs of another dtype than their weights."""
    if device.type == 'cpu':
        return is_cpu_autocast()
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_enabled()
    except RuntimeError:  # a device without autocast, such as 'meta'
        return False


def is_recorded() -> bool:
    """Whether torch is tracing, for export or compilation: sizes are then symbols, which checks would fix."""
    return torch.jit.is_tracing() or is_compiling()
