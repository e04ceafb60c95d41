"""Time, stage by stage, and peak memory of one training step."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch
from heads import Head
from torch import Tensor

STAGES = (
    'pixel decoder',
    'transformer',
    'criterion',
    'backward of criterion',
    'backward of transformer',
    'backward of pixel decoder',
)


class Stopwatch:
    """Marks the borders of the stages by hooks, so that heads of different make are cut alike.

    The embedding heads and the mask products lie behind the transformer and count as criterion.

    Args:
        head: has the modules ``pixel_decoder`` and ``transformer_decoder`` somewhere inside.
        device: type of the device.
        clock: seconds; `time.perf_counter` or, on a busy machine with one thread, `time.process_time`.
    """

    def __init__(self, head: Head, device: str, clock: Callable[[], float] = time.perf_counter):
        self.head, self.device, self.clock = head, device, clock
        self.marks = {}
        modules = {name.rpartition('.')[2]: module for name, module in head.module.named_modules()}
        self.hooks = [
            modules['pixel_decoder'].register_forward_hook(self._mark_after('pixel decoder')),
            modules['transformer_decoder'].register_forward_hook(self._mark_after('transformer')),
        ]

    def step(self, features: list[Tensor]) -> dict[str, float]:
        """Seconds of each stage of one forward and backward pass, and their sum under 'step'."""
        for leaf in (*features, *self.head.parameters.values()):
            leaf.grad = None
        self.marks = {}
        start = self._now()
        total = sum(self.head.losses(features).values())
        self._mark('criterion')
        total.backward()
        self._mark('backward of pixel decoder')
        times, last = {}, start
        for stage in STAGES:
            times[stage], last = self.marks[stage] - last, self.marks[stage]
        return {**times, 'step': last - start}

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()

    def _mark_after(self, stage: str) -> Callable:
        # The backward pass enters a module where the gradient of one of its outputs is complete.
        before = {'pixel decoder': 'backward of transformer', 'transformer': 'backward of criterion'}[stage]

        def hook(module, inputs, output) -> None:
            self._mark(stage)
            for tensor in _tensors(output):
                if tensor.grad_fn is not None:
                    tensor.register_hook(lambda gradient: self._mark(before, again=False))

        return hook

    def _mark(self, stage: str, *, again: bool = True) -> None:
        if again or stage not in self.marks:
            self.marks[stage] = self._now()

    def _now(self) -> float:
        if self.device != 'cpu':
            torch.cuda.synchronize()
        return self.clock()


def _tensors(output) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [x for part in output for x in _tensors(part)] if isinstance(output, tuple | list) else []


def peak_memory(head: Head, features: list[Tensor], device: str) -> float:
    """MiB that one step needs above what is there before it (weights and inputs).

    Raises:
        RuntimeError: on a CPU, if the system is not Linux, whose resettable high-water mark is read.
    """

    def step() -> None:
        for leaf in (*features, *head.parameters.values()):
            leaf.grad = None
        sum(head.losses(features).values()).backward()

    step()  # what libraries keep for later steps is not of interest
    for leaf in (*features, *head.parameters.values()):
        leaf.grad = None
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


def _resident(field: str) -> float:
    """MiB of a field of the process's status."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
