import importlib

import torch

from mmmaskformer.core import torch_versions


def test_answers_of_torch():
    assert not torch_versions.is_compiling() and not torch_versions.is_cpu_autocast()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch_versions.is_cpu_autocast()
        assert torch_versions.is_autocast(torch.device('cpu'))
        assert not torch_versions.is_autocast(torch.device('meta'))
    compiled = torch.compile(lambda x: x + int(torch_versions.is_compiling()), backend='eager', fullgraph=True)
    assert compiled(torch.zeros(1)) == 1


def test_names_of_older_torch(monkeypatch):
    """torch 2.1 has another name for the compilation check, and its autocast check takes no device."""
    monkeypatch.delattr(torch.compiler, 'is_compiling', raising=False)
    monkeypatch.setattr(torch._utils, 'is_compiling', lambda: 'asked', raising=False)
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda: False)
    monkeypatch.setattr(torch, 'is_autocast_cpu_enabled', lambda: 'asked')
    try:
        old = importlib.reload(torch_versions)
        assert old.is_compiling() == old.is_cpu_autocast() == 'asked'
    finally:
        monkeypatch.undo()
        importlib.reload(torch_versions)
