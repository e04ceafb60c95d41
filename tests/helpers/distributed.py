"""Runs functions in two processes of one group.

Run as a script, ``python distributed.py FOLDER`` makes the call that `run_two` stored in the folder.
"""

import importlib
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from helpers import runs, toy


def run_two(function: Callable, *arguments) -> dict:
    """Call ``function(rank, port, *arguments, results)`` in two processes; returns what they put into ``results``.

    The processes are forked from one that has imported both hosts but not used autograd, which does not survive a fork.

    Args:
        function: from a module of `helpers`.
        arguments: picklable.
    """
    this = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as folder:
        call = (function.__module__, function.__name__, arguments)
        Path(folder, 'call').write_bytes(pickle.dumps(call))
        runs.run_script(str(this), folder, cwd=this.parent, pythonpath=this.parents[1])
        return pickle.loads(Path(folder, 'results').read_bytes())


def make_call(folder: Path) -> None:
    """Run the call that `run_two` stored."""
    module, name, arguments = pickle.loads((folder / 'call').read_bytes())
    with mp.Manager() as manager:
        results = manager.dict()
        call = (free_port(), *arguments, results)
        mp.start_processes(getattr(importlib.import_module(module), name), args=call, nprocs=2, start_method='fork')
        (folder / 'results').write_bytes(pickle.dumps(dict(results)))


def train_rank(rank: int, port: int, results) -> None:
    """Two steps of a toy model; rank 0 has three segments, rank 1 none. Writes its losses and summed gradients."""
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(toy.make_classifier())
    targets = [toy.make_target(3, (64, 96)) if rank == 0 else toy.make_target(0, (64, 96))]
    for _ in range(2):  # a second forward pass raises an error if a parameter was not used in the first
        predictions = model(toy.make_features(batch=1, seed=rank), all_layers=True)
        losses = toy.make_criterion()(predictions, targets)
        sum(losses.values()).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    results[rank] = ({key: float(value) for key, value in losses.items()}, gradient.tolist())
    dist.destroy_process_group()


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def train_sharded(rank: int, port: int, part: str, results) -> None:
    """One step of a toy model with a sharded part, such as the pixel decoder. Writes losses and unsharded gradients."""
    from torch.distributed.device_mesh import init_device_mesh  # torch 2.6 or newer
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = toy.make_classifier()
    mesh = init_device_mesh('cpu', (2,))
    for module in (model.get_submodule(part), model):
        fully_shard(module, mesh=mesh)
    losses = toy.make_criterion()(model(toy.make_features(batch=1), all_layers=True), [toy.make_target(3, (64, 96))])
    sum(losses.values()).backward()
    gradient = torch.cat([parameter.grad.full_tensor().flatten() for parameter in model.parameters()])
    results[rank] = ({key: float(value) for key, value in losses.items()}, gradient.tolist())
    dist.destroy_process_group()


if __name__ == '__main__':
    make_call(Path(sys.argv[1]))
