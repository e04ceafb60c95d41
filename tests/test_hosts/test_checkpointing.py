"""Checkpoints are complete at every moment, and a run that is killed at any moment ends like an uninterrupted one."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from helpers import toy_runs
from helpers.runs import ROOT
from helpers.toy_runs import make_runner
from mmengine.hooks import Hook

from mmmaskformer.hosts.checkpoint_files import is_whole

SAVE_ALL = dict(max_keep_ckpts=-1)
KILLS = 12
"""As many kills as a test can afford; tools/benchmark/interruptions.py runs more, with a host's script."""


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def weights(path) -> list[float]:
    state = torch.load(path, weights_only=True)['state_dict']
    return torch.cat([value.flatten() for value in state.values()]).tolist()


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """The work directory of a run of 8 iterations."""
    work_dir = tmp_path_factory.mktemp('run') / 'whole'
    make_runner(work_dir).train()
    return work_dir


def test_the_newest_and_the_best_are_kept(uninterrupted):
    assert names(uninterrupted) == ['best_mIoU_iter_6.pth', 'iter_6.pth', 'iter_8.pth']
    assert (uninterrupted / 'last_checkpoint').read_text() == str(uninterrupted / 'iter_8.pth')


def test_a_run_killed_at_any_time_equals_an_uninterrupted_one(tmp_path, uninterrupted):
    """Kills between two changes of files, each followed by a resume."""
    chance, kills = random.Random(0), 0
    for number in range(KILLS):
        work_dir, killed = tmp_path / str(number), True
        while killed:
            operation = chance.randrange(6, 60) if kills < KILLS else 10**9
            status = toy_runs.train_until(operation, work_dir)
            killed = status == -signal.SIGKILL
            kills += killed
            assert killed or status == 0
            assert all(is_whole(path) for path in work_dir.glob('*.pth'))
        assert weights(work_dir / 'iter_8.pth') == weights(uninterrupted / 'iter_8.pth')
        assert names(work_dir) == names(uninterrupted)
        assert weights(work_dir / 'best_mIoU_iter_6.pth') == weights(uninterrupted / 'best_mIoU_iter_6.pth')
        assert not list(work_dir.glob('.*'))
        if kills == KILLS:
            break
    assert kills == KILLS


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_keeps_the_last_complete_checkpoint(tmp_path, monkeypatch, code):
    runner, fsync = make_runner(tmp_path), os.fsync

    def full(descriptor):
        if runner.iter >= 5:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match=r'iteration 5 could not.*newest complete one is .*iter_4.pth. Fix: free space'):
        runner.train()
    # mmengine also saved iteration 3, since its validation was a new best
    assert names(tmp_path) == ['best_mIoU_iter_3.pth', 'iter_3.pth', 'iter_4.pth']
    assert not list(tmp_path.glob('.*')) and all(is_whole(path) for path in tmp_path.glob('*.pth'))


def test_only_temporary_files_of_a_killed_run_are_removed(tmp_path):
    for name in ('.iter_2.pth.999999999.part', '.iter_2.pth.1.part', 'part', '.other'):
        (tmp_path / name).write_text('')
    make_runner(tmp_path, iters=1).train()
    assert {path.name for path in tmp_path.iterdir()} >= {'.iter_2.pth.1.part', 'part', '.other'}
    assert not (tmp_path / '.iter_2.pth.999999999.part').exists()


def test_a_second_run_in_the_same_work_dir_is_refused(tmp_path):
    """As soon as the first one ends, the second one may begin."""
    runner = make_runner(tmp_path, iters=1)
    with other_process_holds(tmp_path), pytest.raises(BlockingIOError, match='another training run is using this fol'):
        runner.train()
    runner.train()
    assert (tmp_path / 'iter_1.pth').is_file()
    with other_process_holds(tmp_path):
        pass


def test_an_out_dir_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / 'file').write_text('')
    runner = make_runner(tmp_path / 'run', checkpoint=dict(out_dir=str(tmp_path / 'file')))
    with pytest.raises(NotADirectoryError, match='^default_hooks.checkpoint.out_dir: .*/file is a file, expected'):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize('key', ['save_optimizer', 'save_param_scheduler'])
def test_a_run_that_cannot_be_resumed_starts_with_a_warning(tmp_path, monkeypatch, key):
    messages = []
    monkeypatch.setattr('mmmaskformer.hosts.checkpointing.print_log', lambda text, **_: messages.append(text))
    make_runner(tmp_path, iters=1, checkpoint={key: False}).train()
    assert messages == [f'default_hooks.checkpoint.{key}=False: this run cannot be resumed. Fix: {key}=True.']


@contextlib.contextmanager
def other_process_holds(folder):
    code = (
        f'from mmmaskformer.formats.folder_lock import hold_folder; hold_folder({str(folder)!r}, "training run");'
        'print(); input()'
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout.readline()
    yield
    process.kill()
    process.communicate()


def test_checkpoints_are_written_at_the_end_of_an_accumulation_cycle(tmp_path):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    make_runner(whole, iters=11, accumulate=4, checkpoint=SAVE_ALL).train()
    # the last cycle is shorter
    assert [name for name in names(whole) if name.startswith('iter')] == ['iter_11.pth', 'iter_4.pth', 'iter_8.pth']
    resumed.mkdir()
    (resumed / 'iter_4.pth').write_bytes((whole / 'iter_4.pth').read_bytes())
    make_runner(resumed, iters=11, accumulate=4, resume=True, checkpoint=SAVE_ALL).train()
    assert weights(resumed / 'iter_11.pth') == weights(whole / 'iter_11.pth')


def test_each_metric_has_its_own_best_checkpoint(tmp_path):
    checkpoint = dict(save_best=['mIoU', 'other'], rule=['greater', 'less'])

    class Two(toy_runs.Jumps):
        def compute_metrics(self, results):
            return dict(super().compute_metrics(results), other=-runner.iter)

    runner = make_runner(tmp_path, checkpoint=checkpoint, metric=Two())
    runner.train()
    assert names(tmp_path) == ['best_mIoU_iter_6.pth', 'best_other_iter_8.pth', 'iter_6.pth', 'iter_8.pth']


def test_weights_that_became_nan_replace_no_checkpoint(tmp_path):
    class Diverges(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 5:
                with torch.no_grad():
                    runner.model.linear.weight[0, 1] = torch.inf

    runner = make_runner(tmp_path, checkpoint=dict(max_keep_ckpts=1))
    runner.register_hook(Diverges())
    message = rf'iter_6.pth is not written: 1 of 2 parameters .*\(linear.weight\). .* checkpoint is {tmp_path}/iter_4'
    with pytest.raises(FloatingPointError, match=message):
        runner.train()
    assert is_whole(tmp_path / 'iter_4.pth') and not (tmp_path / 'iter_6.pth').exists()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_4.pth')
