"""Lets mmengine start several processes on a machine without a GPU, so that distributed runs can be tried on a laptop.

``--launcher pytorch``, ``slurm`` and ``mpi`` of the hosts' scripts call mmengine's `init_dist`. It selects a CUDA
device, which fails without a GPU, as do the wrappers of the model, which get a device number. In a process without a
visible accelerator, and only there, no device is selected, gloo replaces nccl, which needs GPUs, and the wrappers get
the CPU. This is logged.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator

import torch
import torch.distributed
from mmengine.device import get_device
from mmengine.dist import utils
from mmengine.logging import print_log
from mmengine.model import wrappers

LAUNCHERS = ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi')
"""Functions of mmengine, one for each value of ``--launcher``."""

WRAPPERS = {
    'MMDistributedDataParallel': ('device_ids', None),
    'MMFullyShardedDataParallel': ('device_id', torch.device('cpu')),
}
"""mmengine's wrappers of the model, the argument with the GPU, and its value on a CPU."""


def install() -> None:
    """Change mmengine's launchers and wrappers, if no accelerator is visible. Repeated calls have no effect."""
    if get_device() != 'cpu':
        return
    for name in LAUNCHERS:
        launch = getattr(utils, name, None)
        if launch is not None and not hasattr(launch, 'works_without_gpu'):
            setattr(utils, name, _without_device(launch))
    for name, (argument, value) in WRAPPERS.items():
        wrapper = getattr(wrappers, name, None)
        if wrapper is not None and not hasattr(wrapper.__init__, 'works_without_gpu'):
            wrapper.__init__ = _on_cpu(wrapper.__init__, argument, value)


def _without_device(launch: Callable) -> Callable:
    """A launcher that starts a group of processes on the CPU."""

    @functools.wraps(launch)
    def start(backend: str, *args, **kwargs) -> None:
        used = 'gloo' if backend == 'nccl' else backend
        with _no_device_is_selected():
            launch(used, *args, **kwargs)
        print_log(
            f'No GPU is visible: {torch.distributed.get_world_size()} processes run on the CPU, with the backend '
            f'{used}{"" if used == backend else f" instead of {backend}"}. On a machine with GPUs, see '
            '`mmmaskformer doctor`.',
            logger='current',
            level=logging.WARNING,
        )

    start.works_without_gpu = True  # type: ignore[attr-defined]
    return start


@contextlib.contextmanager
def _no_device_is_selected() -> Iterator[None]:
    """Make ``torch.cuda.set_device``, which fails without a GPU, do nothing within the context."""
    select = torch.cuda.set_device
    torch.cuda.set_device = lambda device: None
    try:
        yield
    finally:
        torch.cuda.set_device = select


def _on_cpu(construct: Callable, argument: str, value) -> Callable:
    """A constructor that uses the CPU if it is given a GPU number."""

    @functools.wraps(construct)
    def construct_on_cpu(self, *args, **kwargs) -> None:
        if argument in kwargs:
            kwargs[argument] = value
        construct(self, *args, **kwargs)

    construct_on_cpu.works_without_gpu = True  # type: ignore[attr-defined]
    return construct_on_cpu
