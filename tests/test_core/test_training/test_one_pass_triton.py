import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers.fresh import ROOT, run_python_before_hosts

needs_triton = pytest.mark.skipif(find_spec('triton') is None, reason='torch without GPU support brings no triton')


@needs_triton
def test_kernels_equal_their_twin():
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}'}
    command = [sys.executable, '-m', 'helpers.interpreted']
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'all cases agree\n'


@needs_triton
def test_an_import_error_in_the_kernels_is_not_hidden():
    code = """
import sys
sys.modules['mmmaskformer.core.training.one_pass_triton'] = None  # importing it then raises an error
try:
    import mmmaskformer.core.training.one_pass
except ImportError as error:
    print(error.name)
"""
    done = run_python_before_hosts(code)
    assert done.stdout == 'mmmaskformer.core.training.one_pass_triton\n', done.stderr


def test_without_triton_the_loss_uses_only_torch():
    done = run_python_before_hosts(
        'from mmmaskformer.core.training import one_pass; print(one_pass.HAS_TRITON)', hide=['triton']
    )
    assert done.stdout == 'False\n', done.stderr
