"""Runs code as if on a GPU, without one, and counts how often the host would have to wait for it."""

from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

CPU = torch.device('cpu')
NUM_FOUND = 5
"""Number of elements that a selection by value is assumed to find; fake tensors have no values."""

NOTHING_TO_LAUNCH = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.detach.default,
}


class Counter(TorchDispatchMode):
    """Counts operators and waits on fake CUDA tensors.

    Selections by value (`nonzero`) and copies to the host count as waits. An asynchronous copy (``non_blocking``) does
    not, but is listed as well. Other operators that need values, such as `item`, raise an error, since fake tensors
    have none.

    Attributes:
        waits: the operators that waited, in order.
        launches: number of operators that would launch a kernel.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.launches = [], 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator is torch.ops.aten.nonzero.default:
            self.waits.append('nonzero')
            return torch.zeros(NUM_FOUND, args[0].dim(), dtype=torch.long, device=args[0].device)
        if (
            operator is torch.ops.aten._to_copy.default
            and kwargs.get('device') == torch.device('cpu') != args[0].device
        ):
            self.waits.append('copy beside' if kwargs.get('non_blocking') else 'copy to cpu')
        result = operator(*args, **kwargs)
        on_gpu = any(isinstance(x, torch.Tensor) and x.is_cuda for x in tree_flatten(result)[0])
        self.launches += on_gpu and not operator.is_view and operator not in NOTHING_TO_LAUNCH
        return result


@contextmanager
def counting():
    """A context in which tensors are fake and may be created with ``device='cuda'``; yields the `Counter`."""
    with FakeTensorMode(allow_non_fake_inputs=True), Counter() as counter:
        yield counter
