"""Runs Python code in a process that has imported nothing yet, or neither OpenMMLab nor this package."""

import os
import subprocess
import sys
from pathlib import Path

from helpers import runs

ROOT = Path(__file__).resolve().parents[2]

# Every finder skips the hidden packages, as if they were not installed.
_HIDE = """
import sys


class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition('.')[0] in {names!r} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Without, sys.meta_path)
for name in [name for name in sys.modules if name.partition('.')[0] in {names!r}]:
    del sys.modules[name]
"""


def run_python(code: str, hide: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run ``code`` from the repository's root in a fresh interpreter.

    Args:
        code: Python source.
        hide: top-level packages whose import fails with ModuleNotFoundError.

    Returns:
        The finished process, with its output as text; the exit status is the caller's to check.
    """
    source = _hiding(hide) + code
    return subprocess.run(
        [sys.executable, '-c', source],
        cwd=ROOT,
        # one thread: these processes import a lot and compute nothing
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_python_before_hosts(code: str, hide: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Like `run_python`, in a process that has imported torch and other packages; see `runs.run_before_hosts`."""
    return runs.run_before_hosts('-c', _hiding(hide) + code, cwd=ROOT, check=False, pythonpath=ROOT)


def _hiding(names: tuple[str, ...]) -> str:
    return _HIDE.format(names=set(names)) if names else ''
