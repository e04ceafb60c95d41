"""Time, stage by stage, and peak memory of one training step."""

import time
from collections.abc import Callable

import memory
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
    """Marks the ends of the stages with hooks, so that different heads are divided in the same way.

    The embedding heads and the mask products come after the transformer and count as criterion. The backward pass of
    the pixel decoder's last convolution counts as criterion in our head, and as pixel decoder in the other heads.

    Args:
        head: contains the modules ``pixel_decoder`` and ``transformer_decoder``.
        device: type of the device.
        clock: returns seconds; `time.perf_counter` or, on a busy machine with one thread, `time.process_time`.
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
    """MiB that one step needs in addition to weights and inputs; see `memory.peak_memory`."""

    def clear() -> None:
        for leaf in (*features, *head.parameters.values()):
            leaf.grad = None

    return memory.peak_memory(lambda: sum(head.losses(features).values()).backward(), device, clear=clear)
