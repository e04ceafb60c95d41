"""Peak memory of a function."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


@torch.no_grad()
def peak_memory(step: Callable, inputs, device: str) -> float:
    """MiB that ``step(inputs)`` needs above what is there before it (weights and inputs), gradients switched off.

    Raises:
        RuntimeError: on a CPU, if the system is not Linux, whose resettable high-water mark is read.
    """
    step(inputs)  # what libraries keep for later steps is not of interest
    gc.collect()
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(inputs)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not Path('/proc/self/clear_refs').exists():
        raise RuntimeError('peak memory on a CPU is measured on Linux only. Fix: leave out --memory')
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')
    before = _resident('VmRSS')
    step(inputs)
    return _resident('VmHWM') - before


def _resident(field: str) -> float:
    """MiB of a field of the process's status."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
