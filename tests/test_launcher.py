"""What mim prints last when the script that it runs has failed."""

import subprocess
import sys

import pytest

from mmmaskformer.launcher import end_with_the_message_of_the_script, has_explained_itself

SCRIPT = '/env/mmseg/.mim/tools/train.py'


def test_the_error_of_a_script_is_enough():
    assert has_explained_itself(subprocess.CalledProcessError(1, [sys.executable, SCRIPT, 'config.py']))


@pytest.mark.parametrize(
    'error',
    [
        subprocess.CalledProcessError(-9, [sys.executable, SCRIPT, 'config.py']),
        subprocess.CalledProcessError(1, ['srun', '-p', 'gpu', sys.executable, SCRIPT]),
        subprocess.CalledProcessError(1, [sys.executable, '-m', 'torch.distributed.launch', SCRIPT]),
        subprocess.CalledProcessError(1, 'pip install x'),
        ValueError('no such config'),
    ],
    ids=['killed', 'srun', 'torch.distributed', 'shell', 'of mim itself'],
)
def test_other_errors_are_printed(error):
    assert not has_explained_itself(error)


def test_the_hook_passes_on_what_it_does_not_leave_out(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, 'excepthook', lambda kind, error, traceback: printed.append(error))
    end_with_the_message_of_the_script()
    other = KeyError(3)
    sys.excepthook(KeyError, other, None)
    failed = subprocess.CalledProcessError(1, [sys.executable, SCRIPT])
    sys.excepthook(type(failed), failed, None)
    assert printed == [other]
