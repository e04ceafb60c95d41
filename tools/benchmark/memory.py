"""Peak memory of a function."""

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def peak_memory(step: Callable[[], object], device: str, *, clear: Callable[[], None] = lambda: None) -> float:
    """MiB that a step needs in addition to the memory in use before it (weights and inputs).

    Args:
        step: function to measure; called twice, because memory that libraries keep for later steps does not count.
        device: 'cpu' or 'cuda'.
        clear: called before each step, for example to delete gradients.

    Raises:
        RuntimeError: on a CPU, if the system is not Linux: it reads the peak of the resident size, which Linux can
            reset.
    """
    clear()
    step()
    clear()
    gc.collect()
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not Path('/proc/self/clear_refs').exists():
        raise RuntimeError('peak memory on a CPU is measured on Linux only. Fix: leave out --memory')
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')
    before = _resident('VmRSS')
    step()
    return _resident('VmHWM') - before


def printed_memory(arguments: Sequence[str]) -> float:
    """MiB that a new Python process prints as its last word.

    Its allocator returns large blocks to the system immediately, so that the resident size is the memory in use.

    Args:
        arguments: arguments of Python, the script first.
    """
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return float(done.stdout.split()[-1])


def _resident(field: str) -> float:
    """A field of the process's status, in MiB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
