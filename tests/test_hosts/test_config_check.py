"""Misspelt keys are reported, and a training run without iterations is refused."""

import ast
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import ROOT
from mmengine.config import Config, ConfigDict
from mmengine.optim.scheduler import ConstantLR, PolyLR

from mmmaskformer.hosts import config_check
from mmmaskformer.hosts.config_check import CheckConfigHook, idle_end, other_batch, unread_keys


@pytest.mark.parametrize(
    ('key', 'meant'),
    [
        ('load_form', 'load_from'),
        ('train_datalaoder', 'train_dataloader'),
        ('randomnes', 'randomness'),
        ('custom_hook', 'custom_hooks'),
        ('optim_wraper', 'optim_wrapper'),
        ('val_evaluater', 'val_evaluator'),
    ],
)
def test_misspelt_keys_are_reported_with_a_suggestion(key, meant):
    [text] = unread_keys({key: 1, meant: 2, 'my_own_name': 3})
    assert text == f"config: nothing reads the key '{key}'. Fix: if '{meant}' is meant, correct the spelling."


def test_unused_keys_of_dicts_are_reported():
    cfg = dict(auto_scale_lr=dict(enabled=True, base_batch_size=8), env_cfg=dict(cudnn_benchmark=True))
    [text] = unread_keys(cfg)
    assert "'auto_scale_lr.enabled'; expected one of ['base_batch_size', 'enable']" in text


def test_options_without_effect_are_reported(monkeypatch):
    printed = []
    monkeypatch.setattr(config_check, 'print_log', lambda text, **_: printed.append(text))
    options = ['--cfg-options', 'max_iters=10', 'train_cfg.val_interval=5', '--launcher', 'none', '--work-dir', 'a=b']
    monkeypatch.setattr(sys, 'argv', ['train.py', 'config.py', *options])
    cfg = Config(dict(train_cfg=dict(max_iters=800, val_interval=5), max_iters=10))
    CheckConfigHook().before_run(SimpleNamespace(cfg=cfg))
    [text] = printed
    assert text.startswith("--cfg-options: neither mmengine nor the hosts read 'max_iters'; the variables of a config")
    assert text.endswith('not later. Fix: set train_cfg.max_iters')


def test_no_variable_of_a_shipped_config_is_reported():
    files = sorted(ROOT.glob('configs/**/*.py'))
    statements = [node for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)]
    names = {target.id for node in statements for target in node.targets if isinstance(target, ast.Name)}
    assert len(names) > 40 and not list(unread_keys(dict.fromkeys(names)))


@pytest.mark.parametrize('key', ['max_iters', 'val_interval'])
def test_a_training_run_without_data_is_refused(key):
    train_cfg = dict(max_iters=5, val_interval=5) | {key: 0}
    runner = SimpleNamespace(cfg=ConfigDict(train_cfg=train_cfg), train_loop=SimpleNamespace(**train_cfg))
    with pytest.raises(ValueError, match=rf'^train_cfg\.{key}: found 0, expected a whole number of at least 1$'):
        CheckConfigHook().before_train(runner)
    train_cfg[key] = 1
    runner.train_loop = SimpleNamespace(**train_cfg)
    CheckConfigHook().before_train(runner)


BATCHES = [
    # GPUs, images per GPU, config, whether a warning is expected
    (8, 8, {}, False),
    (8, 1, {}, True),
    # with accumulation, the batch of a config is that of one pass
    (8, 8, dict(optim_wrapper=dict(accumulative_counts=8)), False),
    (8, 1, dict(auto_scale_lr=dict(base_batch_size=8), optim_wrapper=dict(accumulative_counts=8)), False),
    (1, 1, dict(auto_scale_lr=dict(base_batch_size=8), optim_wrapper=dict(accumulative_counts=8)), True),
    (8, 1, dict(auto_scale_lr=dict(base_batch_size=64, enable=True)), False),
    (8, 1, dict(auto_scale_lr=None), False),
    (8, None, {}, False),
    (64, 2, {}, True),
]


@pytest.mark.parametrize(('processes', 'images', 'more', 'is_reported'), BATCHES)
def test_another_batch_than_the_learning_rate_is_for(processes, images, more, is_reported):
    text = other_batch(dict(auto_scale_lr=dict(base_batch_size=64)) | more, processes, images)
    assert (text is not None) == is_reported
    if is_reported:
        assert f'(auto_scale_lr.base_batch_size), found {processes} processes x {images} ' in text


def test_the_batch_is_that_of_the_loader(monkeypatch):
    printed = []
    monkeypatch.setattr(config_check, 'print_log', lambda text, **_: printed.append(text))
    cfg = ConfigDict(train_cfg={}, auto_scale_lr=dict(base_batch_size=16))
    for batch_size in (16, 2):
        loop = SimpleNamespace(dataloader=SimpleNamespace(batch_size=batch_size))
        CheckConfigHook().before_train(SimpleNamespace(cfg=cfg, train_loop=loop))
    [text] = printed
    assert 'found 1 processes x 2 images' in text and 'scale the rate by 0.125' in text


@pytest.mark.parametrize(
    'end, by_epoch, eta_min, is_reported',
    [
        (9, False, 0.0, True),
        (12, False, 0.0, False),  # the last iteration only, as in the configs of MMSegmentation
        (13, False, 0.0, False),
        (9, False, 1e-6, False),
        (2, True, 0.0, True),
        (3, True, 0.0, False),
    ],
)
def test_a_learning_rate_that_is_zero_before_the_end_is_reported(end, by_epoch, eta_min, is_reported):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    schedulers = [
        ConstantLR(optimizer, 0.1, end=5, by_epoch=False),
        PolyLR(optimizer, end=end, by_epoch=by_epoch, eta_min=eta_min),
    ]
    text = idle_end(schedulers, SimpleNamespace(max_iters=12, max_epochs=3))
    assert (text is not None) == is_reported
    if is_reported:
        for _ in range(end - 1):
            optimizer.step()
            schedulers[1].step()
        assert optimizer.param_groups[0]['lr'] == 0
        length, unit = (3, 'epoch') if by_epoch else (12, 'iteration')
        assert f'PolyLR is 0 from {unit} {end} on' in text and f'param_scheduler.1.end={length + 1},' in text
    assert idle_end(None, SimpleNamespace()) is None
