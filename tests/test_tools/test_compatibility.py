"""The script that tests combinations of versions: selection, resumption and table. Nothing is installed here."""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fresh import ROOT

TOOLS = ROOT / 'tools'
NAME = f'lite-py{sys.version_info[0]}.{sys.version_info[1]}-newest-numpy2'
PAGE = 'before\n<!-- Written by tools/compatibility.py from here on. -->\nold\n<!-- Up to here. -->\nafter\n'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module('compatibility')


@pytest.fixture
def steps(tool, monkeypatch, tmp_path):
    """Replaces the real steps by commands that write a line each; one of them fails unless a file exists."""

    def command(text, status=0):
        return lambda run: iter([([run.python, '-c', f'print({text!r}); raise SystemExit({status})'], run.folder)])

    wait = tmp_path / 'repaired'
    code = f'import os; assert os.path.exists({str(wait)!r}), "not yet"; print("Training can start.")'
    steps = {
        'install': command('installed'),
        'doctor': lambda run: iter([([run.python, '-c', code], run.folder)]),
        'core tests': command('======= 7 passed, 2 warnings in 3.14s ======='),
        'MMSegmentation': command('RuntimeError: `x`\nhint: do y', 1),
    }
    monkeypatch.setattr(tool, 'STEPS', steps)

    def prepare(run, interpreter):
        shutil.rmtree(run.folder, ignore_errors=True)
        subprocess.run([interpreter, '-m', 'venv', '--without-pip', str(run.folder / 'environment')], check=True)
        return dict(name=run.combination.name, date='2026-11-25', commit='abc', versions={}, steps={})

    monkeypatch.setattr(tool, 'prepare', prepare)
    return wait


def run(tool, folder, *arguments):
    report = folder / 'page.md'
    if not report.exists():
        report.write_text(PAGE)
    return tool.main([NAME, '--work', str(folder / 'work'), '--report', str(report), *arguments])


def test_results_go_into_the_table_and_the_environment_is_removed(tool, steps, tmp_path, capsys):
    assert run(tool, tmp_path) == 1
    (row,) = json.loads((tmp_path / 'page.json').read_text())
    assert [result['passed'] for result in row['steps'].values()] == [True, False, True, False]
    assert row['steps']['doctor']['last'] == 'AssertionError: not yet'
    assert row['versions']['python'].startswith(f'{sys.version_info[0]}.{sys.version_info[1]}')
    page = (tmp_path / 'page.md').read_text()
    assert page.startswith('before\n<!-- ') and page.endswith('-->\nafter\n') and 'old' not in page
    assert '| passed | failed [1] | 7 passed, 2 warnings | failed [2] | 2026-11-25 | abc |' in page
    assert f"2. {NAME}, MMSegmentation: `RuntimeError: 'x'`" in page
    assert [path.name for path in (tmp_path / 'work' / NAME).iterdir() if path.is_dir()] == []
    assert 'print' in (tmp_path / 'work' / NAME / 'core_tests.log').read_text()
    steps.touch()
    capsys.readouterr()
    assert run(tool, tmp_path) == 0 and '(has a row)' in capsys.readouterr().out
    assert run(tool, tmp_path, '--again') == 1
    (row,) = json.loads((tmp_path / 'page.json').read_text())
    assert row['steps']['doctor']['passed']


def test_an_interrupted_combination_continues_at_its_step(tool, steps, tmp_path, monkeypatch):
    execute, done = tool.execute, []

    def interrupted(run, name):
        if name == 'core tests' and len(done) == 2:
            done.append('interrupted')
            raise KeyboardInterrupt
        done.append(name)
        return execute(run, name)

    monkeypatch.setattr(tool, 'execute', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tool, tmp_path)
    assert '| passed | failed [1] | – | – |' in (tmp_path / 'page.md').read_text()
    run(tool, tmp_path)
    assert done == ['install', 'doctor', 'interrupted', 'core tests', 'MMSegmentation']


def test_a_failed_installation_ends_the_row(tool, steps, tmp_path, monkeypatch):
    monkeypatch.setitem(tool.STEPS, 'install', lambda run: iter([([run.python, '-c', '1 / 0'], run.folder)]))
    assert run(tool, tmp_path) == 1
    (row,) = json.loads((tmp_path / 'page.json').read_text())
    assert list(row['steps']) == ['install'] and row['steps']['install']['last'].startswith('ZeroDivisionError')
    assert '| failed [1] | – | – | – |' in (tmp_path / 'page.md').read_text()


def test_full_mmcv_is_offered_for_the_python_of_the_wheel_alone(tool):
    without = tool.combinations()
    assert not [one for one in without if one.stack == 'full']
    added = set(tool.combinations('mmcv-2.1.0-cp311-cp311-linux_x86_64.whl')) - set(without)
    assert sorted(one.name for one in added) == ['full-py3.11-given-numpy1.26', 'full-py3.11-given-numpy2']


@pytest.mark.parametrize('stack, python, torch, numpy', [
    ('lite', '3.10', 'oldest', '1.26'), ('onedl', '3.13', 'newest', '2'), ('full', '3.11', 'given', '1.26')
])  # fmt: skip
def test_packages_of_a_combination(tool, stack, python, torch, numpy, tmp_path):
    wheel = tmp_path / 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
    args = argparse.Namespace(mmcv_wheel=str(wheel), mmcv_torch='2.13.0')
    run = tool.Run(tool.Combination(stack, python, torch, numpy), tmp_path, args)
    commands = [' '.join(command) for command, _ in tool.STEPS['install'](run)]
    source = str(tmp_path / 'source')
    expected = {
        'lite': ['torch==2.1.*', 'torchvision==0.16.*', 'numpy==1.26.*', f'-e {source}[lite,mim]'],
        'onedl': [' torch ', 'numpy>=2', 'onedl-mmcv', 'onedl-mmdetection', 'setuptools<80.9'],
        'full': ['torch===2.13.0', 'numpy==1.26.*', str(wheel), f'-e {source}[mim]'],
    }[stack]
    assert all(text in commands[0] for text in expected)
    assert (f'--no-deps -e {source}' in commands[1]) == (stack == 'onedl')


@pytest.mark.parametrize('arguments, message', [
    (['nothing'], 'choose from those of --list'),
    (['--mmcv-wheel', 'x.whl'], 'belong together'),
    (['--mmcv-wheel', 'x.whl', '--mmcv-torch', '2.13.0'], 'x.whl: no such file'),
])  # fmt: skip
def test_errors(tool, arguments, message, capsys):
    try:
        status = tool.main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2 and message in capsys.readouterr().err


def test_the_page_has_a_place_for_the_table(tool):
    page = Path(ROOT / 'docs/compatibility.md').read_text(encoding='utf-8')
    rows = json.loads(Path(ROOT / 'docs/compatibility.json').read_text())
    assert f'{tool.TABLE[0]}\n{tool.table(rows)}\n{tool.TABLE[1]}' in page
