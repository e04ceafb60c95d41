"""Run settings that mmengine does not check, in the hosts' own training scripts and in this process."""

import errno
import inspect
import re

import pytest
from helpers import runs
from helpers.host_tools import script
from helpers.in_turn import run_in_turn
from helpers.toy_runs import make_runner
from mmengine.config import Config
from mmengine.runner import Runner

from mmmaskformer.core import checks
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.run_settings import check_run, explaining_disk, locate, unread_options, uses_this_package


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    root = tmp_path_factory.mktemp('settings')
    write_scenes(root / 'scenes', 2, 2)
    return {
        host: runs.write_config(root / f'{host}.py', root / 'scenes', panoptic=host == 'mmdet', iters=2)
        for host in ('mmseg', 'mmdet')
    }


@pytest.mark.parametrize('option, value, message', [
    ('train_cfg.max_iters', 'a', "train_cfg.max_iters: found 'a', expected a whole number of at least 1"),
    ('train_cfg.max_iters', 2.5, 'train_cfg.max_iters: found 2.5'),
    ('train_cfg.val_begin', -3, 'train_cfg.val_begin: found -3, expected a whole number of at least 0'),
    ('randomness.seed', 'a', "randomness.seed: found 'a', expected a whole number in .0, 4294967295. or None"),
    ('randomness.seed', -1, 'randomness.seed: found -1'),
    ('log_level', 'LOUD', "log_level: found 'LOUD', expected 'CRITICAL' or"),
    ('load_from', 5, 'load_from: found 5, expected a path or None'),
    ('resume', 'maybe', "resume: found 'maybe', expected True or False"),
    ('train_dataloader', 'x', "train_dataloader: found 'x', expected a dict"),
    ('train_dataloader.batch_size', 0, 'train_dataloader.batch_size: found 0'),
    ('val_dataloader.num_workers', -1, 'val_dataloader.num_workers: found -1'),
    ('test_dataloader.persistent_workers', 'no', "test_dataloader.persistent_workers: found 'no'"),
    ('env_cfg.dist_cfg', 'x', "env_cfg.dist_cfg: found 'x', expected a dict"),
    ('custom_hooks', 'x', "custom_hooks: found 'x', expected a list of dicts"),
    ('auto_scale_lr.base_batch_size', 0, 'auto_scale_lr.base_batch_size: found 0'),
    ('default_hooks.logger.interval', 'a', "default_hooks.logger.interval: found 'a'"),
    ('param_scheduler.0.by_epoch', 'no', "param_scheduler.0.by_epoch: found 'no', expected True or False"),
    ('param_scheduler.0.power', -1, 'param_scheduler.0.power: found -1, expected a number of at least 0 or None'),
    ('param_scheduler.0.end', -5, 'param_scheduler.0.end: found -5'),
    ('val_cfg.fp16', 'no', "val_cfg.fp16: found 'no', expected True or False"),
    ('log_processor.window_size', 0, 'log_processor.window_size: found 0, expected a whole number of at least 1'),
    ('log_processor.by_epoch', 'no', "log_processor.by_epoch: found 'no', expected True or False"),
])  # fmt: skip
def test_values_are_named_before_anything_is_built(configs, option, value, message):
    cfg = Config.fromfile(configs['mmseg'])
    cfg.merge_from_dict({option: value})
    with pytest.raises(ValueError, match=f'^{message}'):
        Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    'error, explained',
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'could not be written: No space left on device. Fix'),
        (PermissionError(errno.EPERM, 'No', 'run/log'), r'could not be written: No \(run/log\). Fix: make room'),
        (PermissionError(errno.EACCES, 'No', 'data/image.png'), None),
        (OSError(errno.ENOSPC, 'No space', 'elsewhere'), None),
        (FileNotFoundError(errno.ENOENT, 'No such file', 'run/iter_1.pth'), None),
        (OSError('explained already'), None),
    ],
)
def test_errors_of_the_disk_name_the_work_dir(error, explained):
    with pytest.raises(type(error)) as found, explaining_disk('run'):
        raise error
    if explained is None:
        assert found.value is error
    else:
        assert found.match(f"^work_dir='run': a file of the run {explained}")


def test_training_on_a_full_disk_names_the_work_dir(tmp_path, monkeypatch):
    runner = make_runner(tmp_path, iters=1)

    def full(*arguments, **_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(runner, 'call_hook', full)
    with pytest.raises(OSError, match=f"^work_dir='{tmp_path}': a file of the run could not be written: No space"):
        runner.train()


def test_shipped_configs_are_valid_and_those_of_other_packages_are_not_checked(configs):
    for config in configs.values():
        check_run(Config.fromfile(config))
    for config in sorted((runs.ROOT / 'configs').glob('*/*_*.py'))[::6]:
        cfg = Config.fromfile(config)
        assert uses_this_package(cfg)
        check_run(cfg)
        cfg.custom_imports = dict(imports=['my_parts'])
        assert uses_this_package(cfg), 'one that inherits from it and imports parts of its own'
    for imports in ({}, {'custom_imports': None}, {'custom_imports': dict(imports=['mine'])}):
        assert not uses_this_package(imports | dict(model=dict(type='EncoderDecoder'), val_evaluator=[]))


def test_parts_are_found_below_the_keys_of_a_run(monkeypatch):
    class Hook:
        pass

    cfg = Config(dict(
        variable=dict(type='my.Hook', interval=0), model=dict(type='Net', parts=[dict(type=Hook, size=float('nan'))]),
        default_hooks=dict(checkpoint=dict(type='my.Hook', interval=0)), custom_hooks=[dict(type='Other', interval=0)],
    ))  # fmt: skip
    monkeypatch.setattr('mmmaskformer.run_settings._config', [cfg])
    assert locate in checks.locators
    assert locate(Hook, 'interval', 0) == 'default_hooks.checkpoint'
    assert locate(Hook, 'size', float('nan')) == 'model.parts.0'
    assert locate(Hook, 'interval', 1) is None and locate(Config, 'interval', 0) is None


SCRIPTS = {
    'mmseg': {
        'default_hooks.checkpoint.interval=0': 'ValueError: default_hooks.checkpoint.interval: found 0, expected',
        'train_dataloader.sampler.shuffle=yes': "ValueError: train_dataloader.sampler.shuffle: found 'yes', expected",
        'train_dataloader.dataset.data_root=5': 'ValueError: train_dataloader.dataset.data_root: found 5, expected',
        'default_hooks.checkpoint.max_keep_ckpts=0': (
            'ValueError: default_hooks.checkpoint.max_keep_ckpts: found 0, expected'
        ),
        'model.data_preprocessor.std=[1,1]': (
            'ValueError: model.data_preprocessor: found mean=[123.675, 116.28, 103.53] and'
        ),
        'model.data_preprocessor.std=0': 'ValueError: model.data_preprocessor.std: found 0, expected',
        'model.decode_head.num_query=3': (
            "TypeError: model.decode_head: MaskFormerHead does not take the key 'num_query'. Did you mean 'num_queries'"
        ),
        'model.decode_head.criterion.loss_weights.mask=-1': (
            'ValueError: model.decode_head.criterion.loss_weights.mask: found -1, expected a number of at least 0'
        ),
        'model.decode_head.criterion.loss_weights.msk=1': (
            "ValueError: model.decode_head.criterion.loss_weights has a weight for 'msk'; expected"
        ),
        'optim_wrapper.clip_grad.max_norm=-1': 'ValueError: optim_wrapper.clip_grad.max_norm: found -1, expected',
    },
    'mmdet': {
        'val_evaluator.clasw=3': (
            "TypeError: val_evaluator: PanopticMetric does not take the key 'clasw'. Did you mean 'classwise'"
        ),
        'train_dataloader.dataset.filter_cfg.min_size=a': (
            "ValueError: ScenesPanopticDataset.filter_cfg.min_size: found 'a', expected a number of at least 0"
        ),
        'model.panoptic_head.pixel_decoder=None': 'TypeError: model.panoptic_head.pixel_decoder must be a dict with',
        'optim_wrapper.optimizer.betas=x': "ValueError: optim_wrapper.optimizer.betas: found 'x', expected a list of 2",
        'optim_wrapper.clip_grad.maxnorm=1': (
            "TypeError: optim_wrapper.clip_grad does not take the key 'maxnorm'. Did you mean 'max_norm'"
        ),
        'randomness.seed=a': "ValueError: randomness.seed: found 'a', expected a whole number",
    },
}


@pytest.mark.parametrize('host', list(SCRIPTS))
def test_the_last_line_of_a_hosts_script_names_the_key_as_it_was_written(configs, host):
    start = [script(host, 'train.py'), configs[host], '--work-dir', 'out', '--cfg-options']
    in_the_way = configs[host]
    elsewhere = [*start[:3], str(in_the_way), '--cfg-options', 'val_cfg=None']
    *ended, refused = run_in_turn(*([*start, option] for option in SCRIPTS[host]), elsewhere, cwd=configs[host].parent)
    assert refused.error.startswith(f'FileExistsError: work_dir: {in_the_way}: found a file, expected a folder or')
    for (option, message), found in zip(SCRIPTS[host].items(), ended, strict=True):
        assert found.error.startswith(message), (option, found.error)


@pytest.mark.parametrize(
    ('key', 'fix'),
    [
        ('data_root', 'Fix: set train_dataloader.dataset.data_root or val_dataloader.dataset.datasets.0.data_root'),
        ('test_dataloder.dataset.data_rot', 'Fix: set test_dataloader.dataset.data_rot'),
        ('zzz', 'Fix: remove it, or set it in a config file'),
    ],
)
def test_an_option_without_effect_is_reported_with_the_keys_to_set(key, fix):
    part = dict(data_root='data')
    cfg = dict(train_dataloader=dict(dataset=part), val_dataloader=dict(dataset=dict(datasets=[part])), data_root='b')
    [text] = unread_options(cfg, ['train_dataloader.dataset.data_root', key, 'tta_model.type', 'model.a.b'])
    assert f'neither mmengine nor the hosts read {key!r}' in text and text.endswith(fix)


def test_keys_that_mmengine_reads_from_the_config_are_options():
    read = set(re.findall(r"\.cfg\.get\(\s*'(\w+)'", inspect.getsource(Runner)))
    assert {'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn', 'compile', 'efficient_conv_bn_eval'} <= read
    assert not unread_options({}, sorted(read))
