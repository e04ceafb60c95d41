"""What happens at the start of every Python in an environment with this package."""

import functools
import sys

import pytest
from helpers.fresh import run_python

from mmmaskformer import startup


def test_the_hosts_can_be_imported_before_this_package():
    """MMDetection's test script does so; with mmcv-lite it works only if the installed .pth file is run."""
    process = run_python('import mmdet.evaluation; print("fine")')
    assert process.stdout == 'fine\n', process.stderr


def test_python_starts_without_importing_anything_large():
    code = 'import sys; print(sorted({"torch", "numpy", "mmengine", "mmcv", "mmmaskformer.compat"} & set(sys.modules)))'
    assert run_python(code).stdout == '[]\n'


@pytest.fixture
def watching(monkeypatch):
    """The watch as it is before mmcv.ops is imported, and the repairs that it has made."""
    calls = []
    for name in ('install_op_stand_in', 'allow_mmengine_checkpoints'):
        monkeypatch.setattr(f'mmmaskformer.compat.{name}', functools.partial(calls.append, name))
    others = [finder for finder in sys.meta_path if finder is not startup.OpsWatch]
    monkeypatch.setattr(sys, 'meta_path', [startup.OpsWatch, *others])
    return calls


def test_the_repairs_are_made_for_mmcv_ops_only_and_once(watching):
    assert startup.OpsWatch.find_spec('mmcv') is None and startup.OpsWatch.find_spec('json') is None
    assert not watching
    assert startup.OpsWatch.find_spec('mmcv.ops') is None
    assert watching == ['install_op_stand_in', 'allow_mmengine_checkpoints']
    assert startup.OpsWatch not in sys.meta_path
