"""Changed settings of a resumed run are logged or refused, and the state that mmengine does not restore is restored."""

import numpy as np
import pytest
import torch
from helpers.toy_runs import make_runner
from mmengine.hooks import EarlyStoppingHook, EMAHook
from mmengine.registry import OPTIMIZERS

from mmmaskformer.checkpoints.config_text import read_config_text
from mmmaskformer.hosts.best_checkpoint import take_over_best
from mmmaskformer.hosts.resumed_settings import changes, describe_changes

CONFIG = """
model = dict(type='A', weight=0.1, sizes=(1, 2), low=-inf)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.1), clip_grad=dict(max_norm=0.01))
param_scheduler = [dict(type='PolyLR', end=9)]
train_cfg = dict(max_iters=8)
work_dir = 'one'
"""


def described(*replaced: tuple[str, str]) -> list[str]:
    text = CONFIG
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return list(describe_changes(read_config_text(CONFIG), read_config_text(text)))


def test_equal_settings_are_not_reported():
    assert described() == described(("'one'", "'two'")) == described(('(1, 2)', '[1, 2]')) == []
    assert list(describe_changes({}, read_config_text(CONFIG))) == []  # a checkpoint without a config


def test_ignored_and_followed_settings_are_distinguished():
    (ignored,) = described(('lr=0.1', 'lr=0.2'), ('end=9', 'end=17'))
    assert 'have no effect' in ignored and 'optim_wrapper.optimizer.lr 0.1 -> 0.2; param_scheduler.0.end 9' in ignored
    (followed,) = described(('weight=0.1', 'weight=1'), (', low', ', new=2, low'), ('max_norm=0.01', ''))
    assert 'model.weight 0.1 -> 1; model.new is new; optim_wrapper.clip_grad.max_norm is missing now. The' in followed


def test_long_and_many_values_are_shortened():
    assert list(changes([1, 2], [1, 2, 3], 'a')) == [('a', 'a list of 2 -> a list of 3')]
    assert list(changes('x' * 90, 'y', 'a')) == [('a', '(long values)')]
    before, now = ({f'k{number}': value for number in range(20)} for value in (1, 2))
    (text,) = describe_changes(dict(model=before), dict(model=now))
    assert 'model.k11 1 -> 2 and 8 more. The run' in text


@pytest.fixture
def interrupted(tmp_path):
    """Starts a run of 4 of 8 iterations, changed by a function, and makes a runner that resumes it."""

    def interrupt(change=lambda runner: None, **kwargs):
        runner = make_runner(tmp_path, **kwargs)
        change(runner)
        runner.train_loop._max_iters = 4
        runner.train()
        return lambda **more: make_runner(tmp_path, resume=True, **(kwargs | more))

    return interrupt


def add_ema(runner):
    runner.register_hook(EMAHook(momentum=0.5))


def test_averaged_weights_are_not_trained_on(interrupted, tmp_path):
    resume = interrupted(add_ema)
    with pytest.raises(ValueError, match='iter_4.pth is of a run with EMAHook.*Fix: add the hook to custom_hooks'):
        resume().train()
    again, whole = resume(), make_runner(tmp_path.with_name('whole'))
    for runner in (again, whole):
        add_ema(runner)
        runner.train()
    for step in (6, 8):
        found, expected = (
            torch.load(f'{runner.work_dir}/iter_{step}.pth', weights_only=True) for runner in (again, whole)
        )
        for key in ('state_dict', 'ema_state_dict'):
            assert all(torch.equal(found[key][name], value) for name, value in expected[key].items())


def test_another_optimizer_or_model_is_refused(interrupted):
    resume = interrupted()
    runner = resume()
    runner.model.second = torch.nn.Linear(2, 2)
    message = 'optimizer has 4 parameters in 1 groups.* state of 2 in 1: .*have changed. Fix: resume with the config'
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_another_type_of_optimizer_is_refused(interrupted, tmp_path):
    resume, name = interrupted(), 'iter_4.pth'
    checkpoint = torch.load(tmp_path / name, weights_only=False)
    checkpoint['meta']['cfg'] = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))"
    torch.save(checkpoint, tmp_path / name)
    runner = resume()
    runner.cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.2))
    assert OPTIMIZERS.get('AdamW') is not OPTIMIZERS.get('SGD')
    with pytest.raises(ValueError, match="optimizer.type: found 'AdamW', but .*iter_4.pth holds the state of 'SGD'"):
        runner.train()


@pytest.mark.parametrize('schedulers', [[], [dict(type='PolyLR', end=9, by_epoch=False)] * 2])
def test_another_number_of_schedulers_is_refused(interrupted, schedulers):
    runner = interrupted()()
    runner.param_schedulers = schedulers
    message = f'param_scheduler: found {len(schedulers)} schedulers, .*iter_4.pth holds the state of 1 schedulers'
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_schedulers_of_another_type_are_refused(interrupted, tmp_path):
    resume, name = interrupted(), 'iter_4.pth'
    checkpoint = torch.load(tmp_path / name, weights_only=False)
    checkpoint['meta']['cfg'] = "param_scheduler = dict(type='StepLR')"
    torch.save(checkpoint, tmp_path / name)
    runner = resume()
    runner.cfg.param_scheduler = [dict(type='PolyLR')]
    message = r'found 1 schedulers \(PolyLR\), but .* holds the state of 1 schedulers \(StepLR\). Fix'
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_a_sharded_run_is_not_resumed(interrupted):
    runner = interrupted()()
    runner.model.sharded = type('MMFullyShardedDataParallel', (torch.nn.Module,), {})()
    with pytest.raises(
        ValueError, match='iter_4.pth: a run with FSDPStrategy cannot be resumed.* Fix: start a new run'
    ):
        runner.train()


def stopping(patience=2):
    return EarlyStoppingHook(monitor='mIoU', rule='greater', patience=patience, min_delta=0)


def test_early_stopping_counts_the_validations_before_the_interruption(tmp_path, monkeypatch):
    """Scores fall, so that the third validation ends a run of patience 2."""
    scores = iter([3.0, 2.0, 1.0, 5.0])
    monkeypatch.setattr('helpers.toy_runs.Jumps.compute_metrics', lambda self, results: dict(mIoU=next(scores)))
    settings = dict(iters=12, checkpoint=dict(interval=3))
    first = make_runner(tmp_path, **settings)
    first.register_hook(stopping())
    first.train_loop._max_iters = 6
    first.train()
    second = make_runner(tmp_path, resume=True, **settings)
    second.register_hook(stopping())
    second.train()
    assert second.iter == 9 and second.train_loop.stop_training
    third, messages = make_runner(tmp_path, resume=True, **settings), []
    third.register_hook(stopping())
    monkeypatch.setattr('mmmaskformer.hosts.resuming.print_log', lambda text, **_: messages.append(text))
    third.train()
    assert third.iter == 9 and not third.model.seen
    assert 'The run was stopped early, after iteration 9; it is not continued.' in messages


def test_a_finished_run_is_reported(interrupted, monkeypatch):
    messages, resume = [], interrupted()
    monkeypatch.setattr('mmmaskformer.hosts.resuming.print_log', lambda text, **_: messages.append(text))
    runner = resume(iters=3)
    runner.train()
    assert not runner.model.seen
    assert 'The checkpoint is of iteration 4 and train_cfg ends the run at 3: nothing is left to train.' in messages


MIOU = dict(best_score=9, best_ckpt='best_mIoU_iter_4.pth')
MANY = MIOU | dict(best_score_PQ=1, best_ckpt_PQ='best_PQ_iter_2.pth')


@pytest.mark.parametrize(
    'keys, info, expected, is_reported',
    [
        (['mIoU'], dict(best_score=1, best_ckpt='a/best_mIoU_iter_4.pth'), {}, False),
        (['PQ'], dict(best_score=1, best_ckpt='best_PQ_St_iter_4.pth'), None, True),
        (['a/PQ'], dict(best_score=1, best_ckpt='best_a_PQ_iter_4.pth'), {}, False),
        (['PQ'], MANY, dict(best_score=1, best_ckpt='best_PQ_iter_2.pth'), False),
        (['PQ', 'mIoU'], MIOU, dict(best_score_mIoU=9, best_ckpt_mIoU='best_mIoU_iter_4.pth'), False),
        (['PQ'], {}, {}, False),
    ],
)
def test_best_scores_are_those_of_the_metric(keys, info, expected, is_reported):
    before = dict(info)
    lines = list(take_over_best(info, keys, 'iter_{}.pth'))
    assert info == ({} if expected is None else before | expected)
    assert bool(lines) == is_reported


@pytest.mark.parametrize('save_best', ['other', 'auto'])
def test_the_best_score_of_another_metric_does_not_count(interrupted, tmp_path, monkeypatch, save_best):
    """80 of the first metric would beat every score of the second one."""
    resume = interrupted(checkpoint=dict(save_best='mIoU', rule='greater'))
    (best,) = (path.name for path in tmp_path.glob('best_*'))
    runner = resume(checkpoint=dict(save_best=save_best, rule='greater'))
    runner.load_or_resume()
    runner.message_hub.update_info('best_score', 80.0)
    scores = dict(other=np.float64(1.5), mIoU=90.0)
    monkeypatch.setattr('helpers.toy_runs.Jumps.compute_metrics', lambda self, results: scores)
    runner.train()
    assert {path.name for path in tmp_path.glob('best_*')} == {best, 'best_other_iter_6.pth'}
