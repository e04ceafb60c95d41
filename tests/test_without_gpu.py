"""mmengine's launchers and wrappers without a GPU; tests/test_hosts/test_processes.py uses real processes."""

import pytest
import torch
from mmengine.dist import utils
from mmengine.model import wrappers

from mmmaskformer import without_gpu


@pytest.fixture
def launched(monkeypatch):
    """mmengine without our repair, with launchers that record their arguments and whether they select a device."""
    calls = []

    def launch(backend, **kwargs):
        torch.cuda.set_device(3)  # fails without a GPU
        calls.append((backend, kwargs))

    for name in without_gpu.LAUNCHERS:
        monkeypatch.setattr(utils, name, launch)
    for name in without_gpu.WRAPPERS:
        monkeypatch.setattr(getattr(wrappers, name), '__init__', lambda self, **kwargs: calls.append(kwargs))
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: 2)
    return calls


@pytest.mark.parametrize('backend, used', [('nccl', 'gloo'), ('gloo', 'gloo'), ('mpi', 'mpi')])
@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_every_launcher_starts_without_a_device(launched, launcher, backend, used, monkeypatch):
    messages = []
    monkeypatch.setattr(without_gpu, 'print_log', lambda text, **_: messages.append(text))
    select = torch.cuda.set_device
    without_gpu.install()
    without_gpu.install()
    utils.init_dist(launcher, backend)
    assert launched == [(used, {} if launcher == 'mpi' else {'init_backend': 'torch'})]
    assert torch.cuda.set_device is select
    assert len(messages) == 1 and f'2 processes run on the CPU, with the backend {used}' in messages[0]


def test_a_launcher_that_fails_leaves_torch_as_it_was(launched, monkeypatch):
    def fail(backend):
        raise ValueError('no port')

    monkeypatch.setattr(utils, '_init_dist_mpi', fail)
    without_gpu.install()
    select = torch.cuda.set_device
    with pytest.raises(ValueError, match='no port'):
        utils.init_dist('mpi', 'nccl')
    assert torch.cuda.set_device is select


def test_wrappers_get_the_cpu(launched):
    without_gpu.install()
    wrappers.MMDistributedDataParallel(module=1, device_ids=[1])
    wrappers.MMFullyShardedDataParallel(module=2, device_id=1)
    wrappers.MMDistributedDataParallel(module=3)
    assert launched == [
        dict(module=1, device_ids=None),
        dict(module=2, device_id=torch.device('cpu')),
        dict(module=3),
    ]


def test_with_a_gpu_nothing_changes(launched, monkeypatch):
    monkeypatch.setattr(without_gpu, 'get_device', lambda: 'cuda')
    before = [getattr(utils, name) for name in without_gpu.LAUNCHERS]
    before += [getattr(wrappers, name).__init__ for name in without_gpu.WRAPPERS]
    without_gpu.install()
    after = [getattr(utils, name) for name in without_gpu.LAUNCHERS]
    assert before == [*after, *(getattr(wrappers, name).__init__ for name in without_gpu.WRAPPERS)]
