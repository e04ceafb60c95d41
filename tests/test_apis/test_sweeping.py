"""Sweeps: what is trained, skipped, resumed and refused, and the table."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest
from helpers import runs

from mmmaskformer.analysis.tables import text_of
from mmmaskformer.apis import cli, sweeping
from mmmaskformer.apis.sweep_plan import arguments_of, cases_of, plan
from mmmaskformer.apis.sweeping import RESULT_FILE, run_sweep
from mmmaskformer.datasets.scenes.files import write_scenes


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A toy version of the scenes config that trains for four iterations, with a checkpoint after every second."""
    root = tmp_path_factory.mktemp('sweep')
    write_scenes(root / 'scenes', 2, 1)
    return runs.write_config(root / 'toy.py', root / 'scenes', iters=4)


def invented(results):
    """A trainer that writes logs with these results, in the order of the calls, and the calls that it got."""
    calls = []

    def trainer(arguments):
        calls.append(arguments)
        result = results[len(calls) - 1]
        if isinstance(result, BaseException):
            raise result
        if result is None:
            return 1
        folder = arguments[arguments.index('--work-dir') + 1]
        write_log(folder, result)
        return 0

    return trainer, calls


def write_log(folder, metrics):
    logs = Path(folder) / '20260101_000000/vis_data'
    logs.mkdir(parents=True, exist_ok=True)
    rows = [dict(loss=1.0, step=4, iter=4), dict(metrics, step=4)]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)) + '\n')


def silent(line):
    pass


def test_cases_are_values_and_named_combinations():
    cases = cases_of('a.py', 'queries', ['5', '20'], [['fixed', 'queries=9', 'a.b=1'], ['as it is']])
    assert [case.name for case in cases] == ['5', '20', 'fixed', 'as it is']
    assert cases[0].options == ('queries=5',) and cases[2].options == ('queries=9', 'a.b=1') and not cases[3].options
    for wrong in (('queries', []), (None, ['5']), (None, []), ('queries', ['5', '5'])):
        with pytest.raises(ValueError, match='expected'):
            cases_of('a.py', *wrong)


def test_a_case_may_be_another_config(config, tmp_path):
    plain = str(runs.ROOT / 'configs/scenes/per-pixel-baseline_tiny_1xb8-800_scenes.py')
    (toy, other) = plan(cases_of(config, None, [], [['toy'], ['plain', f'config={plain}', 'a=1']]), tmp_path)
    assert arguments_of(toy)[0] == str(config) and toy.parameters != other.parameters
    assert arguments_of(other) == [plain, '--work-dir', str(tmp_path / 'plain'), '--resume', '--cfg-options', 'a=1']
    with pytest.raises(ValueError, match=r"case 'x': found the configs \['a.py', 'b.py'\], expected one"):
        cases_of(config, None, [], [['x', 'config=a.py', 'config=b.py']])
    with pytest.raises(FileNotFoundError, match='config: missing.py does not exist'):
        plan(cases_of(config, None, [], [['toy'], ['x', 'config=missing.py']]), tmp_path)


def test_all_cases_have_a_seed_before_one_has_the_next(config, tmp_path):
    planned = plan(cases_of(config, 'queries', ['5', '20']), tmp_path, [0, 1])
    assert [run.folder.name for run in planned] == ['5-seed0', '20-seed0', '5-seed1', '20-seed1']


def test_short_names_are_keys_of_the_head_and_seeds_are_runs(config, tmp_path):
    (first, second) = plan(cases_of(config, 'queries', ['5']), tmp_path, [0, 1], ['a=1'])
    assert first.options == ('a=1', 'model.decode_head.num_queries=5', 'randomness.seed=0')
    assert [first.folder.name, second.folder.name] == ['5-seed0', '5-seed1']
    assert arguments_of(first)[:4] == [str(config), '--work-dir', str(tmp_path / '5-seed0'), '--resume']
    more = plan(cases_of(config, 'layers', ['1', '2']), tmp_path)
    assert more[0].parameters < more[1].parameters


def test_zero_decoder_layers_are_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(ValueError, match="case '0': the model cannot be built: .*num_layers: found 0"):
        plan(cases_of(config, 'layers', ['1', '0']), tmp_path)
    assert not any(tmp_path.iterdir())


def test_table_of_several_seeds_has_means_and_deviations(config, tmp_path):
    planned = plan(cases_of(config, 'queries', ['5', '20']), tmp_path, [0, 1])
    trainer, calls = invented([dict(mIoU=10.0), dict(mIoU=30.0), dict(mIoU=14.0), None])
    sweep = run_sweep(planned, tmp_path, setting='queries', trainer=trainer, say=silent)
    assert sweep.header == ['queries', 'mIoU', 'mIoU ±', 'parameters (M)', 'runs'] and len(calls) == 4
    assert sweep.rows[0][:3] == ['5', 12.0, pytest.approx(8**0.5)] and sweep.rows[0][-1] == '2 of 2'
    assert sweep.rows[1][1] == 30.0 and sweep.rows[1][-1] == '1 of 2, 1 failed'
    assert [folder.name for folder in sweep.failed] == ['20-seed1']
    assert [row['mIoU'] for row in csv.DictReader((tmp_path / 'sweep.csv').open())] == ['12.0', '30.0']
    assert '| 20 | 30.00 | - |' in (tmp_path / 'sweep.md').read_text() and (tmp_path / 'sweep.png').is_file()


def test_an_interrupted_sweep_goes_on_with_the_run_that_was_cut_off(config, tmp_path):
    planned = plan(cases_of(config, 'queries', ['5', '20', '40']), tmp_path)
    trainer, _ = invented([dict(mIoU=1.0), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(planned, tmp_path, trainer=trainer, say=silent)
    trainer, calls = invented([dict(mIoU=2.0), dict(mIoU=3.0)])
    sweep = run_sweep(planned, tmp_path, trainer=trainer, say=silent)
    assert [arguments[2].rpartition('/')[2] for arguments in calls] == ['20', '40']
    assert all('--resume' in arguments for arguments in calls)
    assert [row[1] for row in sweep.rows] == [1.0, 2.0, 3.0]


def test_ending_the_command_ends_its_run(config, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def train(arguments):
        """What `subprocess.run` does: an exception while it waits ends the process."""
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError('the wait went on')

    monkeypatch.setattr(sweeping, 'train', train)
    command = ['sweep', str(config), '--key', 'queries', '--values', '5', '--work-dir', str(tmp_path)]
    assert cli.main(command) == 130 and 'the same command goes on from here' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_of_other_settings_is_refused(config, tmp_path):
    trainer, calls = invented([KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(cases_of(config, 'queries', ['5']), tmp_path), tmp_path, trainer=trainer, say=silent)
    other = plan(cases_of(config, 'queries', ['5']), tmp_path, common=['optim_wrapper.optimizer.lr=0.5'])
    with pytest.raises(ValueError, match=f'{RESULT_FILE}: found a run with other settings .*num_queries=5'):
        run_sweep(other, tmp_path, trainer=trainer, say=silent)
    assert len(calls) == 1


def test_a_metric_that_the_validation_lacks_is_named(config, tmp_path):
    trainer, _ = invented([dict(mIoU=1.0)])
    with pytest.raises(ValueError, match=r"metrics: found \['PQ'\], expected some of \['mIoU'"):
        run_sweep(plan(cases_of(config, 'queries', ['5']), tmp_path), tmp_path, ['PQ'], trainer=trainer, say=silent)


def test_a_metric_that_only_a_later_run_gives_is_awaited(config, tmp_path):
    planned = plan(cases_of(config, 'queries', ['5', '20']), tmp_path)
    trainer, _ = invented([dict(mIoU=1.0), dict(mIoU=2.0, PQ=3.0)])
    sweep = run_sweep(planned, tmp_path, ['PQ', 'mIoU'], trainer=trainer, say=silent)
    assert [text_of(row[1]) for row in sweep.rows] == ['-', '3.00']


def train_with_the_hosts_script(arguments):
    script = str(runs.ROOT / 'mmmaskformer/__main__.py')
    done = runs.run_script(script, 'train', *arguments, cwd=runs.ROOT, check=False, pythonpath=runs.ROOT)
    return done.returncode


def test_the_command_trains_with_the_hosts_script_and_resumes(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweeping, 'train', train_with_the_hosts_script)
    folder = tmp_path / '5'
    queries = 'model.decode_head.num_queries=5'
    cut_off = [str(config), '--work-dir', str(folder), '--cfg-options', queries, 'train_cfg.max_iters=2']
    assert train_with_the_hosts_script(cut_off) == 0
    command = ['sweep', str(config), '--key', 'queries', '--values', '5', '7', '--work-dir', str(tmp_path)]
    assert cli.main([*command, '--print']) == 0 and capsys.readouterr().out.count('mmmaskformer train') == 2
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert '| queries | mIoU | PQ_St | SQ_St | RQ_St | parameters (M) | runs |' in printed
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    steps = [[row['step'] for row in map(json.loads, log.read_text().splitlines()) if 'loss' in row] for log in logs]
    assert steps == [[1, 2], [3, 4]], 'the run that was cut off went on'
    result = json.loads((folder / RESULT_FILE).read_text())['metrics']
    (row, _) = csv.DictReader((tmp_path / 'sweep.csv').open())
    assert float(row['mIoU']) == result['mIoU'] and result['step'] == 4
    assert cli.main(command) == 0 and capsys.readouterr().out.count('finished before') == 2
    # Measured on the test set, which is the validation set here, without training again.
    more = ['--inference', '--metrics', 'semantic/mIoU', 'general/PQ_St']
    assert cli.main([*command, *more]) == 0
    printed = capsys.readouterr().out
    assert '| queries | semantic/mIoU | general/PQ_St | parameters (M) | runs |' in printed
    assert ': training' not in printed
    measured = json.loads((folder / RESULT_FILE).read_text())['metrics']
    assert measured['semantic/mIoU'] == pytest.approx(result['mIoU']) and 'semantic/PQ' not in measured
    assert 'ways of inference' in (folder / 'inference.md').read_text()
    assert cli.main([*command, *more]) == 0 and capsys.readouterr().out.count('finished before') == 2
