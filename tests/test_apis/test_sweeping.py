"""Sweeps: which runs are trained, skipped, resumed and refused, and the table."""

import csv
import json
import math
import os
import re
import signal
import time
from pathlib import Path

import pytest
from helpers import runs

from mmmaskformer.apis import cli, sweeping
from mmmaskformer.apis.sweep_plan import cases_of, plan
from mmmaskformer.apis.sweep_records import RESULT_FILE
from mmmaskformer.apis.sweeping import arguments_of, run_sweep
from mmmaskformer.datasets.scenes.files import write_scenes


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A toy version of the scenes config with four iterations and a checkpoint after every second one."""
    root = tmp_path_factory.mktemp('sweep')
    write_scenes(root / 'scenes', 2, 1)
    return runs.write_config(root / 'toy.py', root / 'scenes', iters=4)


def fake_trainer(results):
    """A trainer that writes logs with the given results, in the order of the calls, and a list of the calls."""
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
    cases = cases_of('queries', ['5', '20'], [['fixed', 'queries=9', 'a.b=1'], ['as it is']])
    assert [case.name for case in cases] == ['5', '20', 'fixed', 'as it is']
    assert cases[0].options == ('queries=5',) and cases[2].options == ('queries=9', 'a.b=1') and not cases[3].options
    for wrong in (('queries', []), (None, ['5']), (None, []), ('queries', ['5', '5'])):
        with pytest.raises(ValueError, match='expected'):
            cases_of(*wrong)


def test_a_case_may_have_another_config(config, tmp_path):
    plain = str(runs.ROOT / 'configs/scenes/per-pixel-baseline_tiny_1xb8-800_scenes.py')
    cases = cases_of(None, [], [['toy'], ['plain', f'config={plain}', 'log_level=ERROR']])
    (toy, other) = plan(config, cases, tmp_path)
    assert arguments_of(config, toy)[0] == str(config) and toy.parameters != other.parameters
    expected = [plain, '--work-dir', str(tmp_path / 'plain'), '--resume', '--cfg-options', 'log_level=ERROR']
    assert arguments_of(config, other) == expected
    with pytest.raises(ValueError, match=r"case 'x': found the configs \['a.py', 'b.py'\], expected at most one"):
        cases_of(None, [], [['x', 'config=a.py', 'config=b.py']])
    with pytest.raises(FileNotFoundError, match='config missing.py: no such file'):
        plan(config, cases_of(None, [], [['toy'], ['x', 'config=missing.py']]), tmp_path)


def test_all_cases_run_with_one_seed_before_any_with_the_next(config, tmp_path):
    planned = plan(config, cases_of('queries', ['5', '20']), tmp_path, [0, 1])
    assert [run.folder.name for run in planned] == ['5-seed0', '20-seed0', '5-seed1', '20-seed1']


@pytest.mark.parametrize('seeds', [[-1], [0, 1, 0], [2**32]])
def test_seeds_that_cannot_be_used_are_refused_before_any_run(config, tmp_path, seeds):
    with pytest.raises(ValueError, match=rf'--seeds: found {re.escape(str(seeds))}, expected different whole numbers'):
        plan(config, cases_of('queries', ['5']), tmp_path, seeds)


def test_a_model_that_cannot_be_measured_is_a_failed_run(config, tmp_path):
    trainer, _ = fake_trainer([dict(mIoU=1.0)])
    planned = plan(config, cases_of('queries', ['5']), tmp_path)
    sweep = run_sweep(config, planned, tmp_path, trainer=trainer, say=silent, inference=True)
    assert 'found no checkpoint. Fix: set default_hooks' in sweep.failed[tmp_path / '5']
    assert sweep.rows[0][1] == 1.0, 'what was trained stays'


def test_short_names_are_keys_of_the_head_and_seeds_are_runs(config, tmp_path):
    (first, second) = plan(config, cases_of('queries', ['5']), tmp_path, [0, 1], ['log_level=ERROR'])
    assert first.options == ('log_level=ERROR', 'model.decode_head.num_queries=5', 'randomness.seed=0')
    assert [first.folder.name, second.folder.name] == ['5-seed0', '5-seed1']
    assert arguments_of(config, first)[:4] == [str(config), '--work-dir', str(tmp_path / '5-seed0'), '--resume']
    more = plan(config, cases_of('layers', ['1', '2']), tmp_path)
    assert more[0].parameters < more[1].parameters


def test_zero_decoder_layers_are_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(ValueError, match="case '0': the model cannot be built: .*num_layers: found 0"):
        plan(config, cases_of('layers', ['1', '0']), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_key_without_effect_is_refused(config, tmp_path):
    """All rows of such a table would be equal."""
    with pytest.raises(ValueError, match="case '10': .*hosts read 'max_iters'.*Fix: set train_cfg.max_iters"):
        plan(config, cases_of('max_iters', ['10', '20']), tmp_path)


def test_table_of_several_seeds_has_means_and_deviations(config, tmp_path):
    planned = plan(config, cases_of('queries', ['5', '20']), tmp_path, [0, 1])
    trainer, calls = fake_trainer([dict(mIoU=10.0), dict(mIoU=30.0), dict(mIoU=14.0), None])
    sweep = run_sweep(config, planned, tmp_path, setting='queries', trainer=trainer, say=silent)
    assert sweep.header == ['queries', 'mIoU', 'mIoU ±', 'parameters (M)', 'runs'] and len(calls) == 4
    assert sweep.rows[0][:3] == ['5', 12.0, pytest.approx(8**0.5)] and sweep.rows[0][-1] == '2 of 2'
    assert sweep.rows[1][1] == 30.0 and sweep.rows[1][-1] == '1 of 2, 1 failed'
    assert [folder.name for folder in sweep.failed] == ['20-seed1']
    assert [row['mIoU'] for row in csv.DictReader((tmp_path / 'sweep.csv').open())] == ['12.0', '30.0']
    assert '| 20 | 30.00 | - |' in (tmp_path / 'sweep.md').read_text() and (tmp_path / 'sweep.png').is_file()


def test_an_interrupted_sweep_continues_the_interrupted_run(config, tmp_path):
    planned = plan(config, cases_of('queries', ['5', '20', '40']), tmp_path)
    trainer, _ = fake_trainer([dict(mIoU=1.0), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, planned, tmp_path, trainer=trainer, say=silent)
    trainer, calls = fake_trainer([dict(mIoU=2.0), dict(mIoU=3.0)])
    sweep = run_sweep(config, planned, tmp_path, trainer=trainer, say=silent)
    assert [arguments[2].rpartition('/')[2] for arguments in calls] == ['20', '40']
    assert all('--resume' in arguments for arguments in calls)
    assert [row[1] for row in sweep.rows] == [1.0, 2.0, 3.0]


def test_ending_the_command_ends_its_run(config, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def train(arguments):
        """As in `subprocess.run`, an exception while waiting ends the process."""
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        raise AssertionError('the wait went on')

    monkeypatch.setattr(sweeping, 'train', train)
    command = ['sweep', str(config), '--key', 'queries', '--values', '5', '--work-dir', str(tmp_path)]
    assert cli.main(command) == 130 and 'the same command continues from here' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_of_other_settings_is_refused(config, tmp_path):
    trainer, calls = fake_trainer([KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, trainer=trainer, say=silent)
    other = plan(config, cases_of('queries', ['5']), tmp_path, common=['optim_wrapper.optimizer.lr=0.5'])
    with pytest.raises(ValueError, match=f'{RESULT_FILE}: found a run with other settings .*num_queries=5'):
        run_sweep(config, other, tmp_path, trainer=trainer, say=silent)
    assert len(calls) == 1


def test_a_metric_that_the_validation_lacks_is_named(config, tmp_path):
    trainer, _ = fake_trainer([dict(mIoU=1.0)])
    with pytest.raises(ValueError, match=r"metrics: found \['PQ'\], expected some of \['mIoU'"):
        run_sweep(
            config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, ['PQ'], trainer=trainer, say=silent
        )


def test_a_wrong_metric_stops_no_training(config, tmp_path):
    trainer, calls = fake_trainer([dict(mIoU=1.0), dict(mIoU=2.0)])
    planned = plan(config, cases_of('queries', ['5', '20']), tmp_path)
    with pytest.raises(ValueError, match=r"metrics: found \['mIou'\]"):
        run_sweep(config, planned, tmp_path, ['mIou'], trainer=trainer, say=silent)
    assert len(calls) == 2 and '| 20 | 2.00 |' in (tmp_path / 'sweep.md').read_text()
    assert run_sweep(config, planned, tmp_path, ['mIoU'], trainer=trainer, say=silent).rows[1][1] == 2.0


def test_seeds_of_which_one_gave_nan_have_no_mean(config, tmp_path):
    planned = plan(config, cases_of('queries', ['5', '20']), tmp_path, [0, 1])
    trainer, _ = fake_trainer([dict(PQ=float('nan')), dict(PQ=1.0), dict(PQ=2.0), dict(PQ=3.0)])
    sweep = run_sweep(config, planned, tmp_path, trainer=trainer, say=silent)
    assert all(math.isnan(value) for value in sweep.rows[0][1:3]) and sweep.rows[1][1:3] == [2.0, 2**0.5]
    assert '| 5 | - | - |' in (tmp_path / 'sweep.md').read_text()
    again = run_sweep(config, planned, tmp_path, trainer=trainer, say=silent)
    assert math.isnan(again.rows[0][1]), 'NaN is kept with the results'


def test_metrics_beside_the_usual_ones_are_shown_where_there_are_no_others(config, tmp_path):
    trainer, _ = fake_trainer([{'coco/segm_mAP': 0.5, 'time': 0.1}])
    sweep = run_sweep(config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, trainer=trainer, say=silent)
    assert sweep.header == ['case', 'coco/segm_mAP', 'parameters (M)', 'runs']


@pytest.mark.parametrize('problem', ['no validation', 'an early validation', 'a broken log'])
def test_a_run_without_a_result_does_not_stop_the_others(config, tmp_path, problem, capsys):
    def trainer(arguments):
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        if folder.name == '20' or problem == 'no validation':
            return write_log(folder, dict(mIoU=7.0) if folder.name == '20' else {}) or 0
        logs = folder / '20260101_000000/vis_data'
        logs.mkdir(parents=True)
        text = '{"loss": 1\n{"loss": 1.0}\n' if problem == 'a broken log' else '{"mIoU": 9.0, "step": 2}\n'
        (logs / 'scalars.json').write_text(text)
        return 0

    planned = plan(config, cases_of('queries', ['5', '20']), tmp_path)
    sweep = run_sweep(config, planned, tmp_path, trainer=trainer)
    reasons = {
        'no validation': '5: the run has no validation. Fix: set train_cfg.val_interval',
        'an early validation': '5: the last validation is of iteration 2, expected one of the last iteration, 4',
        'a broken log': 'scalars.json: line 1 is not JSON',
    }
    assert reasons[problem] in sweep.failed[tmp_path / '5'] and reasons[problem] in capsys.readouterr().out
    assert sweep.rows[0][-1] == '0 of 1, 1 failed' and sweep.rows[1][1] == 7.0


def test_a_config_without_validation_is_refused_before_anything_is_trained(config, tmp_path):
    options = ['val_dataloader=None', 'val_evaluator=None', 'val_cfg=None']
    with pytest.raises(ValueError, match="found no 'val_dataloader' and no 'val_evaluator' and no 'val_cfg'"):
        plan(config, cases_of('queries', ['5']), tmp_path, common=options)


def test_a_config_of_something_else_is_refused(tmp_path):
    (tmp_path / 'data.py').write_text('a = 1\n')
    with pytest.raises(ValueError, match="found no 'model', expected the config of a training run"):
        plan(tmp_path / 'data.py', cases_of('queries', ['5']), tmp_path)


@pytest.mark.parametrize('name', ['.', '..', '', ' ', 'sweep.csv'])
def test_names_that_no_folder_can_have_are_refused(name):
    with pytest.raises(ValueError, match='found the name'):
        cases_of(None, [], [[name]])


def test_long_names_have_folders_of_their_own(config, tmp_path):
    values = [f"dict(type='SetCriterion',class_weight=[{','.join('1' * 200)},{last}])" for last in (1, 2)]
    names = {case.name for case in cases_of('model.decode_head.criterion', values)}
    runs_of = plan(config, cases_of(None, [], [[name] for name in names]), tmp_path, [123456789])
    assert len({run.folder for run in runs_of}) == 2 and all(len(run.folder.name.encode()) < 200 for run in runs_of)


def test_a_case_that_is_not_an_entry_of_a_config_is_named(config, tmp_path):
    with pytest.raises(ValueError, match=r"case '6': .*found 'layers', expected KEY=VALUE"):
        plan(config, cases_of(None, [], [['6', 'layers']]), tmp_path)


def test_a_folder_that_holds_something_else_than_a_record_is_named(config, tmp_path):
    (tmp_path / '5').mkdir()
    for text in ('', '[]', '{"metrics": {}}', '{"fingerprint": "a", "options": [], "metrics": {"mIoU": "x"}}'):
        (tmp_path / '5' / RESULT_FILE).write_text(text)
        with pytest.raises(ValueError, match=f'{RESULT_FILE}: found no record of a sweep'):
            run_sweep(config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, say=silent)


def test_a_folder_of_a_run_with_other_settings_is_refused(config, tmp_path):
    (run,) = plan(config, cases_of('queries', ['5']), tmp_path)
    (other,) = plan(config, cases_of('queries', ['7']), tmp_path)
    run.folder.mkdir()
    # mmengine writes this as soon as a run begins
    other.config.dump(run.folder / config.name)
    trainer, calls = fake_trainer([dict(mIoU=1.0)])
    with pytest.raises(ValueError, match=r'other settings: model.decode_head.num_queries is 7, expected 5\. Fix'):
        run_sweep(config, [run], tmp_path, trainer=trainer, say=silent)
    run.config.dump(run.folder / config.name)
    assert run_sweep(config, [run], tmp_path, trainer=trainer, say=silent).rows[0][1] == 1.0 and len(calls) == 1


def test_two_sweeps_at_a_time_are_refused(config, tmp_path):
    planned = plan(config, cases_of('queries', ['5']), tmp_path)

    def trainer(arguments):
        with pytest.raises(BlockingIOError, match='another sweep, or a run that it started, is using'):
            run_sweep(config, planned, tmp_path, trainer=trainer, say=silent)
        write_log(arguments[arguments.index('--work-dir') + 1], dict(mIoU=1.0))
        return 0

    assert run_sweep(config, planned, tmp_path, trainer=trainer, say=silent).rows[0][1] == 1.0


def test_rows_of_another_sweep_in_the_folder_are_reported(config, tmp_path):
    trainer, _ = fake_trainer([dict(mIoU=1.0), dict(mIoU=2.0)])
    run_sweep(config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, trainer=trainer, say=silent)
    lines = []
    planned = plan(config, cases_of(None, [], [['no self-attention', 'self-attention=False']]), tmp_path)
    run_sweep(config, planned, tmp_path, trainer=trainer, say=lines.append)
    assert 'rows of another sweep (case: 5), which are removed from the table; their runs are kept' in lines[0]


def test_a_work_dir_that_cannot_be_written_is_refused_before_anything_is_trained(config, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileExistsError, match='work_dir: .*found a file, expected a folder'):
        plan(config, cases_of('queries', ['5']), tmp_path / 'file')
    (tmp_path / 'sweep.csv').mkdir()
    with pytest.raises(FileExistsError, match='found a folder, expected a file'):
        run_sweep(config, plan(config, cases_of('queries', ['5']), tmp_path), tmp_path, say=silent)


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
    assert cli.main(command) == 0 and capsys.readouterr().out.count('already finished') == 2
    # Measured on the test set, here the validation set, without training again.
    more = ['--inference', '--metrics', 'semantic/mIoU', 'general/PQ_St']
    assert cli.main([*command, *more]) == 0
    printed = capsys.readouterr().out
    assert '| queries | semantic/mIoU | general/PQ_St | parameters (M) | runs |' in printed
    assert ': training' not in printed and (folder / 'inference.md').is_file()
    measured = json.loads((folder / RESULT_FILE).read_text())['metrics']
    assert measured['semantic/mIoU'] == pytest.approx(result['mIoU']) and 'semantic/PQ' not in measured
    assert cli.main([*command, *more]) == 0 and capsys.readouterr().out.count('already finished') == 2
