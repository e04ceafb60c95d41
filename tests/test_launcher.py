"""The last lines that mim prints when the script that it runs has failed."""

import subprocess
import sys

import pytest

from mmmaskformer.launcher import (
    has_explained_itself,
    keep_the_error_of_the_script_last,
    missing_config,
    warn_of_a_config_with_the_same_name,
)

SCRIPT = '/env/mmseg/.mim/tools/train.py'


def test_the_traceback_of_a_launcher_is_hidden_after_the_error_of_its_script():
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


CONFIG = 'maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'


def test_a_missing_config_is_reported_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'excepthook', lambda *_: print('traceback'))
    monkeypatch.setattr(sys, 'argv', ['mim', 'train', 'mmdet', '--gpus', '0', 'config/maskformer_swin_ade20.py'])
    keep_the_error_of_the_script_last()
    error = ValueError("The path nope.py doesn't exist and we can not find the config file in codebase mmdet.")
    sys.excepthook(ValueError, error, None)
    output = capsys.readouterr()
    assert output.err.startswith('error: config config/maskformer_swin_ade20.py: no such file. Fix: pass the path of a')
    assert 'mmmaskformer/.mim/configs/maskformer_swin_ade20k.py; relative' in output.err and not output.out
    sys.excepthook(ValueError, ValueError('another'), None)
    assert capsys.readouterr().out == 'traceback\n'


@pytest.mark.parametrize('package', ['mmsegmentation', 'MMSeg', 'mmdet', 'mmmaskformer', 'other'])
def test_a_config_of_the_host_with_the_same_name_is_reported(monkeypatch, capsys, package):
    monkeypatch.setattr(sys, 'argv', ['mim', 'test', package, f'config/{CONFIG}', '--checkpoint', 'x.pth'])
    warn_of_a_config_with_the_same_name()
    output = capsys.readouterr().err
    if package in ('mmsegmentation', 'MMSeg'):
        assert output.startswith(f'warning: config config/{CONFIG}: no such file. ')
        assert f'configs/ade20k/{CONFIG}; ' in output and 'mim uses the config of the same name in mmseg' in output
    else:
        assert not output


@pytest.mark.parametrize(
    'command', [['mim'], ['mim', 'list'], ['mim', 'train', '-h'], ['mim', 'train', 'mmdet', __file__]]
)
def test_other_command_lines_are_not_changed(command):
    assert missing_config(command) is None


def test_the_hook_forwards_other_errors(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, 'excepthook', lambda kind, error, traceback: printed.append(error))
    keep_the_error_of_the_script_last()
    other = KeyError(3)
    sys.excepthook(KeyError, other, None)
    failed = subprocess.CalledProcessError(1, [sys.executable, SCRIPT])
    sys.excepthook(type(failed), failed, None)
    assert printed == [other]
