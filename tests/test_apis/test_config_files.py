"""Config files that are missing, broken or of another kind: one line for every command that reads one."""

import logging

import pytest

from mmmaskformer.apis import cli
from mmmaskformer.apis.config_files import SHIPPED, read_config_file

CONFIG = SHIPPED / 'scenes/maskformer_tiny_1xb8-800_scenes.py'
COMMANDS = {
    'analyze': ['analyze', 'inference', '{}', 'weights.pth', '--out', 'out'],
    'analyze classes': ['analyze', 'classes', '{}', '--out', 'out'],
    'audit': ['audit', '{}'],
    'data': ['data', 'check', '{}'],
    'draw': ['draw', '{}', 'weights.pth', '--out', 'out'],
    'export': ['export', '{}', 'weights.pth', '--task', 'semantic', '--to', 'torchscript', '--out', 'model.pt'],
    'sweep': ['sweep', '{}', '--key', 'queries', '--values', '5', '--work-dir', 'out'],
    'test': ['test', '{}', 'weights.pth'],
    'train': ['train', '{}'],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_is_read_with_its_bases():
    assert read_config_file(CONFIG).model.decode_head.num_classes == 9


WRONG = {
    'no colon': ('model = dict(', r"SyntaxError: '\(' was never closed, line 1: model = dict\("),
    'no such name': ('model = modle', "NameError: name 'modle' is not defined"),
    'no such base': ("_base_ = ['nowhere.py']", r'names .*nowhere.py, which does not exist. Fix: correct _base_'),
    'a sum': ("model = 1 + 'a'", 'TypeError: unsupported operand'),
}


@pytest.mark.parametrize('wrong', WRONG)
def test_a_broken_config_is_named_with_the_reason(folder, wrong):
    text, reason = WRONG[wrong]
    (folder / 'own.py').write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=f'^config own.py: it, or a config .*{reason}'):
        read_config_file('own.py')


def test_a_missing_config_names_the_shipped_one():
    with pytest.raises(FileNotFoundError, match=f'config a/{CONFIG.name}: no such file. Fix: .*: /.*/{CONFIG.name}$'):
        read_config_file(f'a/{CONFIG.name}')


def test_another_file_is_no_config(folder):
    (folder / 'weights.pth').touch()
    with pytest.raises(ValueError, match=r"config weights.pth: found the suffix '.pth', expected a config, a .py file"):
        read_config_file('weights.pth')


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_reports_a_broken_config_in_one_line_and_writes_nothing(folder, command, capsys):
    (folder / 'broken.py').write_text('model = dict(')
    (folder / 'weights.pth').touch()
    try:
        status = cli.main([part.format('broken.py') for part in COMMANDS[command]])
    except SystemExit as end:  # train and test report as argparse does
        status = end.code
    error = capsys.readouterr().err.splitlines()
    assert status == 2 and 'config broken.py: it, or a config that it inherits from, cannot be read' in error[-1]
    assert 'Traceback' not in '\n'.join(error)
    assert sorted(path.name for path in folder.iterdir()) == ['broken.py', 'weights.pth']


def test_the_audit_of_a_config_without_a_model_names_what_is_missing(folder, capsys):
    (folder / 'own.py').write_text('model = dict(type="X")')
    assert cli.main(['audit', 'own.py']) == 2
    assert capsys.readouterr().err.startswith("error: config own.py: 'ConfigDict' object has no attribute 'backbone'; ")


def test_the_audit_leaves_logging_as_it_was(folder):
    logging.disable(logging.NOTSET)
    (folder / 'own.py').write_text('model = dict()')
    assert cli.main(['audit', 'own.py']) == 2
    assert cli.main(['audit', str(CONFIG)]) == 0
    assert logging.root.manager.disable == logging.NOTSET
