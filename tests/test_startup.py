"""What happens when Python starts in an environment with this package."""

import ast
import functools
import re

import pytest
from helpers.fresh import ROOT, run_python, run_python_before_hosts

from mmmaskformer import startup


def test_the_hosts_can_be_imported_before_this_package():
    """As in MMDetection's test script; with mmcv-lite it works only if the installed .pth file runs."""
    process = run_python_before_hosts('import mmdet.evaluation; print("fine")')
    assert process.stdout == 'fine\n', process.stderr


def test_python_starts_without_importing_anything_large():
    code = 'import sys; print(sorted({"torch", "numpy", "mmengine", "mmcv", "mmmaskformer.compat"} & set(sys.modules)))'
    assert run_python(code).stdout == '[]\n'


@pytest.fixture
def watching(monkeypatch):
    """The watcher before any import, with actions that only record their calls."""
    done = []
    waiting = {name: lambda name=name: done.append(name) for name in ('mmcv.ops', 'mmengine.registry.root', 'mim.cli')}
    monkeypatch.setattr(startup.ImportWatch, 'waiting', waiting)
    return done


def test_each_action_runs_once_when_its_module_is_imported(watching):
    assert startup.ImportWatch.find_spec('mmcv') is None and startup.ImportWatch.find_spec('json') is None
    assert not watching
    for _ in range(2):
        assert startup.ImportWatch.find_spec('mmcv.ops') is None
    assert watching == ['mmcv.ops']
    assert startup.ImportWatch.find_spec('mim.cli') is None
    assert watching == ['mmcv.ops', 'mim.cli']


def test_both_actions_run_for_mmcv_ops(monkeypatch):
    calls = []
    for name in ('install_op_stand_in', 'allow_mmengine_checkpoints'):
        monkeypatch.setattr(f'mmmaskformer.compat.{name}', functools.partial(calls.append, name))
    startup._repair_ops_and_checkpoints()
    assert calls == ['install_op_stand_in', 'allow_mmengine_checkpoints']


def test_mmengine_finds_the_configs_before_this_package_is_imported():
    code = (
        'from mmmaskformer import startup\n'
        'import sys, mmengine\n'
        'from mmengine.config.utils import _get_package_and_cfg_path as find\n'
        'print(find("mmmaskformer::ade20k/x.py"), "mmmaskformer.registry" in sys.modules, "torch" in sys.modules)'
    )
    done = run_python(code)
    assert done.stdout == "('mmmaskformer', 'ade20k/x.py') False False\n", done.stderr


def test_the_file_in_site_packages_is_one_line_that_can_be_switched_off(tmp_path):
    setup = (ROOT / 'setup.py').read_text()
    line = ast.literal_eval(re.search(r'STARTUP = (b""".*?""")', setup, re.S)[1]).decode()
    assert line.startswith('import ') and line.count('\n') == 1 and line.endswith('\n')
    code = f'import sys; exec({line!r}); print("mmmaskformer.startup" in sys.modules)'
    isolated = 'import sys; sys.modules.pop("mmmaskformer.startup", None); ' + code
    assert run_python(isolated).stdout == 'True\n'
    assert run_python('import os; os.environ["MMMASKFORMER_STARTUP"] = "0"; ' + isolated).stdout == 'False\n'
