"""The command line: its list of commands, its start-up time, and its examples as printed."""

import contextlib
import json
import logging
import os
import re
import shlex

import pytest
import torch
from helpers import runs
from helpers.fresh import run_python
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmmaskformer.apis import cli, sweeping
from mmmaskformer.apis.trained import parse_options
from mmmaskformer.datasets.converters.recipes import RECIPES
from mmmaskformer.datasets.scenes.files import write_scenes

COMMANDS = [
    'analyze',
    'audit',
    'convert',
    'curve',
    'data',
    'doctor',
    'draw',
    'export',
    'models',
    'scenes',
    'sweep',
    'test',
    'train',
]
HEAVY = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'matplotlib', 'PIL', 'rich')
# part of an example → what its help names as preparation
PREPARED = {
    'quickstart': 'root of the clone, after: bash tools/quickstart.sh',
    'configs/scenes': 'root of the clone, after: mmmaskformer scenes data/scenes',
    'configs/': 'root of the clone',
    'prepare': 'docs/datasets.md',
}
# a training run then ends after one iteration instead of 800
SHORT = ['--cfg-options', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=2']


def example_of(*names: str) -> list[str]:
    """Arguments of the example that ``mmmaskformer NAME … --help`` prints."""
    done = run_python(f'from mmmaskformer.apis.cli import main; main({[*names, "--help"]})')
    before, example = re.fullmatch(r'.*\nexample(.*):\n  (.*)\n', done.stdout, re.DOTALL).groups()
    needed = [part for part in ('quickstart', 'configs/scenes', 'configs/', 'prepare') if part in example][:1]
    assert [part for part in PREPARED if PREPARED[part] in before][:1] == needed, done.stdout
    program, *arguments = shlex.split(example)
    assert program == 'mmmaskformer' and arguments[: len(names)] == list(names)
    return arguments


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """The clone after the first command: configs, scenes, trained models and their logs."""
    root = tmp_path_factory.mktemp('clone')
    (root / 'configs').symlink_to(runs.ROOT / 'configs')
    write_scenes(root / 'data/scenes', 4, 2)
    for task, config, iterations in (
        ('semantic', '1xb8-800_scenes', 800),
        ('panoptic', '1xb4-2600_scenes-panoptic', 2600),
    ):
        cfg = Config.fromfile(root / f'configs/scenes/maskformer_tiny_{config}.py')
        init_default_scope(cfg.default_scope)
        logs = root / f'work_dirs/quickstart/{task}/20260101_000000/vis_data'
        logs.mkdir(parents=True)
        (logs / 'scalars.json').write_text(json.dumps(dict(loss=1.0, step=1)) + '\n')
        weights = dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={})
        torch.save(weights, logs.parents[1] / f'iter_{iterations}.pth')
    return root


def test_help_needs_only_python():
    for arguments in (['--help'], *([name, '--help'] for name in COMMANDS)):
        call = f'try:\n    main({arguments})\nexcept SystemExit as end:\n    assert end.code == 0'
        code = f'import sys\nfrom mmmaskformer.apis.cli import main\n{call}\nprint(set({HEAVY}) & set(sys.modules))'
        done = run_python(code, hide=HEAVY)
        assert done.returncode == 0 and done.stdout.splitlines()[-1] == 'set()', done.stderr


def test_every_command_is_listed_with_its_summary(capsys):
    assert cli.command_names() == COMMANDS
    assert cli.main(['--help']) == 0
    listed = capsys.readouterr().out
    assert all(f'  {name} ' in listed and cli.summary(name) in listed and cli.summary(name) for name in COMMANDS)


def test_without_a_command_the_list_is_shown_and_the_status_is_that_of_an_error(capsys):
    assert cli.main([]) == 2 and 'commands:' in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    assert cli.main(['drow']) == 2
    assert capsys.readouterr().err == f"error: 'drow' is not a command. Fix: use one of {', '.join(COMMANDS)}\n"


def test_errors_are_one_line(capsys, tmp_path):
    assert cli.main(['curve', str(tmp_path / 'nowhere'), '--out', 'a.png']) == 2
    assert capsys.readouterr().err.startswith(f'error: {tmp_path}/nowhere: no such folder')


# The examples of analyze and sweep have separate tests below.
@pytest.mark.parametrize('name', [name for name in COMMANDS if name not in ('analyze', 'doctor', 'sweep')])
def test_the_example_of_a_command_works_as_printed(root, name):
    arguments = example_of(name) + (SHORT if name == 'train' else [])
    done = runs.run_script(str(runs.ROOT / 'mmmaskformer/__main__.py'), *arguments, cwd=root, pythonpath=runs.ROOT)
    found = dict(
        convert=root / 'work_dirs/converted.safetensors',
        curve=root / 'work_dirs/curve.png',
        draw=root / 'work_dirs/pictures/overview.png',
        export=root / 'work_dirs/model.pt',
        scenes=root / 'work_dirs/few_scenes/scenes.json',
        train=root / 'work_dirs/scenes/iter_1.pth',
    )
    printed = dict(
        audit='0 settings differ',
        data='train_dataloader: ScenesDataset, 4 images',
        models='zoo://maskformer_swin-t_ade20k ',
    ).get(name, 'mIoU')
    assert found[name].is_file() if name in found else printed in done.stdout


def test_the_examples_of_the_analyses_work_as_printed(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    written = dict(
        inference='inference.csv',
        queries='queries.png',
        classes='classes_per_image.csv',
        masks='tree.png',
        thresholds='thresholds.png',
    )
    for action, file in written.items():
        assert cli.main(example_of('analyze', action)) == 0
        assert f'work_dirs/analysis/{file}: written' in capsys.readouterr().out
        assert (root / 'work_dirs/analysis' / file).is_file()
    assert example_of('analyze') == example_of('analyze', 'inference')


def test_the_actions_on_data_have_an_example_each():
    assert example_of('data', 'check') == example_of('data')
    assert example_of('data', 'prepare')[-1] in RECIPES


def test_the_example_of_the_sweep_works_as_printed(root, monkeypatch, capsys):
    trained = []

    def train(arguments):
        """A run whose log exists; tests/test_apis/test_sweeping.py trains."""
        trained.append(parse_options(arguments[arguments.index('--cfg-options') + 1 :]))
        logs = root / arguments[arguments.index('--work-dir') + 1] / '20260101_000000/vis_data'
        logs.mkdir(parents=True)
        rows = [dict(loss=1.0, step=800, iter=800), dict(mIoU=50.0, step=800)]
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
        return 0

    monkeypatch.chdir(root)
    monkeypatch.setattr(sweeping, 'train', train)
    assert cli.main(example_of('sweep')) == 0
    assert trained == [{'model.decode_head.num_queries': 5}, {'model.decode_head.num_queries': 20}]
    assert '| 20 | 50.00 |' in capsys.readouterr().out and (root / 'work_dirs/sweep/sweep.png').is_file()


@pytest.mark.parametrize(
    'arguments', [['draw', 'a.py', 'b.pth', '--out', 'c'], ['train', 'a.py'], ['test', 'a.py', 'b']]
)
def test_a_missing_package_is_named_with_a_way_to_install_it(arguments):
    done = run_python(f'import sys\nfrom mmmaskformer.apis.cli import main\nsys.exit(main({arguments}))', hide=HEAVY)
    assert done.returncode == 2
    expected = r"error: No module named '\w+'\. Fix: install it; mmmaskformer doctor lists the commands"
    assert re.search(f'{expected}$', done.stderr.splitlines()[-1]) and 'Traceback' not in done.stderr, done.stderr


def test_an_empty_argument_is_not_the_working_directory(capsys):
    """As in ``--out "$FOLDER"`` with an unset variable."""
    for arguments in (['curve', 'run', '--out', ''], ['scenes', ''], ['draw', 'a.py', 'b.pth', '--out', '']):
        with pytest.raises(SystemExit, match='2'):
            cli.main(arguments)
        assert f'argument {len(arguments) - 1} is empty, as from an unset variable' in capsys.readouterr().err


BROKEN = """
import os, sys
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
from mmmaskformer.apis.cli import main
sys.exit(main({arguments}))
"""


@pytest.mark.parametrize('arguments', [['models', '--details'], ['--help'], ['convert', '--help'], ['nothing']])
def test_a_closed_output_pipe_ends_the_command_quietly(arguments):
    """As with Unix tools; an error in the arguments keeps its exit status."""
    done = run_python(BROKEN.format(arguments=arguments))
    errors = [f"error: 'nothing' is not a command. Fix: use one of {', '.join(COMMANDS)}"]
    assert done.stderr.splitlines() == (errors if arguments == ['nothing'] else [])
    unbuffered = arguments[-1] == '--help' and done.returncode == 0  # argparse then ignores the error
    assert unbuffered or done.returncode == (2 if arguments == ['nothing'] else 141)


def test_a_closed_log_pipe_ends_the_command_too(capsys):
    """`logging` would print a traceback for each of them."""
    reading, writing = os.pipe()
    os.close(reading)
    handler = logging.StreamHandler(os.fdopen(writing, 'w'))
    record = logging.makeLogRecord(dict(msg='a line'))
    with cli._pipes.errors_of_logging(), pytest.raises(BrokenPipeError):
        handler.emit(record)
    assert not capsys.readouterr().err
    handler.emit(record)  # and as usual outside of it, or for another error
    assert 'Logging error' in capsys.readouterr().err
    with cli._pipes.errors_of_logging():
        handler.emit(logging.makeLogRecord(dict(msg='%d', args=('x',))))
    assert 'Logging error' in capsys.readouterr().err
    with contextlib.suppress(BrokenPipeError):
        handler.stream.close()


def test_another_broken_pipe_is_not_hidden(monkeypatch):
    from mmmaskformer.apis.cli import curve

    def run(args):
        raise BrokenPipeError('of a worker')

    monkeypatch.setattr(curve, 'run', run)
    monkeypatch.setattr(cli._pipes, 'reader_is_gone', lambda: False)
    with pytest.raises(BrokenPipeError, match='of a worker'):
        cli.main(['curve', 'a', '--out', 'b'])


def test_options_are_read_as_the_hosts_read_them():
    assert parse_options(['a.b=1', 'c=[1,x]', 'd=text=more']) == {'a.b': 1, 'c': [1, 'x'], 'd': 'text=more'}
    assert parse_options(None) == {}
    with pytest.raises(ValueError, match="--cfg-options: found 'a', expected KEY=VALUE"):
        parse_options(['a'])
    with pytest.raises(ValueError, match=r"--cfg-options: found \['a=\[1,2'\]: Imbalanced brackets"):
        parse_options(['a=[1,2'])
