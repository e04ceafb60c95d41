import os
import subprocess
import sys

import pytest
from helpers.fresh import ROOT

pytest.importorskip('triton', reason='torch without GPU support brings no triton')


def test_kernels_equal_their_twin():
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}'}
    command = [sys.executable, '-m', 'helpers.interpreted']
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'all cases agree\n'
