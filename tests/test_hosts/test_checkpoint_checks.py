"""Checkpoints that fit the model only in part or not at all, in mmengine's runner."""

import re
from types import SimpleNamespace

import pytest
import torch
from helpers import hosts, runs
from helpers.checkpoints import Attack, content
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.hosts.checkpoint_checks import CheckCheckpointHook, compare_weights


def toy_runner(model):
    return SimpleNamespace(model=model, cfg=dict(load_from='a.pth'), work_dir='.')


def halved(model) -> dict:
    weights = dict(model.state_dict())
    for name in [name for name in weights if 'pixel_decoder' in name]:
        del weights[name]
    weights['decode_head.classifier.transformer_decoder.query_embed.weight'] = torch.zeros(9, 16)
    return weights | {'decode_head.conv_seg.weight': torch.zeros(1)}


def test_numbers():
    model = hosts.make_segmentor()
    own = [name for name in model.state_dict() if not name.endswith('num_batches_tracked')]
    fit = compare_weights(model, halved(model))
    missing = [name for name in own if 'pixel_decoder' in name]
    query = 'decode_head.classifier.transformer_decoder.query_embed.weight'
    assert fit.missing == missing and len(missing) > 5
    assert fit.reshaped == [f'{query} (9, 16) instead of (7, 16)']
    assert fit.unused == ['decode_head.conv_seg.weight']
    assert sorted(fit.loaded) == sorted(set(own) - set(missing) - {query})


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Log messages."""
    texts = []
    monkeypatch.setattr('mmmaskformer.hosts.checkpoint_checks.print_log', lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize('state', ['before_train', 'before_val', 'before_test'])
def test_matching_weights_pass_and_unused_ones_are_reported(log, state):
    model = hosts.make_segmentor()
    for prefix, extra, lines in (('', {}, 0), ('module.', {}, 0), ('', {'extra': torch.zeros(1)}, 1)):
        hook, weights = CheckCheckpointHook(), {prefix + key: value for key, value in model.state_dict().items()}
        hook.after_load_checkpoint(toy_runner(model), dict(state_dict=weights | extra))
        getattr(hook, state)(toy_runner(model))
        getattr(hook, state)(toy_runner(model))
        assert len(log) == lines
    assert 'a.pth: ' in log[0] and '1 of its weights are not in the model (extra)' in log[0]


@pytest.mark.parametrize('nesting', ['state_dict', 'model', None])
def test_another_model_of_detectron2_is_named(nesting):
    weights = {'sem_seg_head.predictor.query_feat.weight': torch.zeros(1), 'criterion.empty_weight': torch.zeros(1)}
    hook, model = CheckCheckpointHook(), hosts.make_detector()
    with pytest.raises(ValueError, match=r"^a\.pth: checkpoint: none of the .* looks like detectron2's Mask2Former"):
        hook.after_load_checkpoint(toy_runner(model), {nesting: weights} if nesting else weights)


def test_a_path_without_a_file_is_refused_before_anything_is_loaded(tmp_path):
    for path in ('torchvision://resnet50', 's3://bucket/a.pth', None):
        CheckCheckpointHook().before_run(SimpleNamespace(_load_from=path))
    CheckCheckpointHook().before_run(SimpleNamespace(_load_from=str(tmp_path), strategy='DeepSpeed'))
    with pytest.raises(FileNotFoundError, match='found a folder, expected a checkpoint, such as the iter_'):
        CheckCheckpointHook().before_run(SimpleNamespace(_load_from=str(tmp_path)))
    file = tmp_path / 'a.pth'
    file.touch()
    CheckCheckpointHook().before_run(SimpleNamespace(_load_from=str(file)))
    for path in (tmp_path / 'b.pth', tmp_path / 'none' / 'a.pth'):
        with pytest.raises(FileNotFoundError, match=rf"^load_from='{re.escape(str(path))}': .* Fix: correct load_from"):
            CheckCheckpointHook().before_run(SimpleNamespace(_load_from=str(path)))


def test_parameters_that_fsdp_has_joined_are_not_compared(log):
    model, hook = torch.nn.Module(), CheckCheckpointHook()
    model.decode_head = torch.nn.Module()
    model.decode_head.register_parameter('_flat_param', torch.nn.Parameter(torch.zeros(5)))
    hook.after_load_checkpoint(toy_runner(model), dict(state_dict={'decode_head.a': torch.zeros(5)}))
    hook.before_test(toy_runner(model))
    assert log == []


def test_parameters_that_fsdp_has_divided_are_not_compared(log):
    """With their own names, but shapes of parts."""
    model, hook = torch.nn.Module(), CheckCheckpointHook()
    model.decode_head = type('MMFullyShardedDataParallel', (torch.nn.Linear,), {})(1, 2)
    hook.after_load_checkpoint(toy_runner(model), dict(state_dict={'decode_head.weight': torch.zeros(5, 3)}))
    hook.before_test(toy_runner(model))
    assert log == []


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A config of a toy model on two scenes, and its weights."""
    root = tmp_path_factory.mktemp('checkpoints')
    write_scenes(root / 'data', 2, 1)
    file = runs.write_config(root / 'a.py', root / 'data', iters=1)
    cfg = Config.fromfile(file)
    cfg.work_dir = str(root / 'work')
    cfg.launcher = 'none'
    init_default_scope('mmseg')
    return cfg, Runner.from_cfg(cfg.copy()).model


def start(scenes, tmp_path, weights: dict, task: str) -> None:
    """Load as the hosts' scripts do, for ``load_from`` and for a checkpoint to test."""
    cfg, _ = scenes
    torch.save(dict(state_dict=weights, meta=dict()), tmp_path / 'given.pth')
    cfg = cfg.copy()
    cfg.load_from, cfg.work_dir, cfg.experiment_name = str(tmp_path / 'given.pth'), str(tmp_path), tmp_path.name
    getattr(Runner.from_cfg(cfg), task)()


@pytest.mark.parametrize('task', ['train', 'test', 'val'])
def test_a_backbone_is_refused(scenes, tmp_path, task):
    weights = {f'backbone.{key}': value for key, value in scenes[1].backbone.state_dict().items()}
    message = (
        r"given\.pth: checkpoint: none of the \d+ weights of model\.decode_head .* looks like a backbone, .*prefix='b"
    )
    with pytest.raises(ValueError, match=message):
        start(scenes, tmp_path, weights, task)


def test_a_part_is_reported_in_training(scenes, tmp_path):
    start(scenes, tmp_path, halved(scenes[1]), 'train')
    (log,) = tmp_path.glob('*/*.log')
    (line,) = [line for line in log.read_text().splitlines() if 'weights of the model are loaded' in line]
    assert 'WARNING' in line and 'are not in it (decode_head.classifier.pixel_decoder' in line
    assert '1 have another shape in it (decode_head.classifier.transformer_decoder.query_embed.weight (9, 16)' in line
    assert '1 of its weights are not in the model (decode_head.conv_seg.weight)' in line


@pytest.mark.parametrize('task', ['train', 'test', 'val'])
def test_weights_that_are_nan_are_refused(scenes, tmp_path, task):
    weights = {key: value.clone() for key, value in scenes[1].state_dict().items()}
    name = 'decode_head.classifier.class_embed.weight'
    weights[name].view(-1)[3] = float('nan')
    with pytest.raises(ValueError, match=rf'given\.pth: 1 of its \d+ weights hold inf or NaN \({name}\). Fix'):
        start(scenes, tmp_path, weights, task)


def test_a_part_is_refused_when_a_run_is_resumed():
    model, hook = hosts.make_segmentor(), CheckCheckpointHook()
    hook.after_load_checkpoint(toy_runner(model), dict(state_dict=halved(model)))
    runner = toy_runner(model)
    runner._resume = True
    with pytest.raises(ValueError, match=r'a.pth: .*are not in it.*resumed from it would differ'):
        hook.before_train(runner)


EMBED = 'decode_head.classifier.class_embed.weight'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (None, r'1 are not in it \(decode_head.*class_embed.weight\). A run resumed from it would differ'),
        (
            lambda weight: weight[:1],
            r'1 have another shape in it \(.*class_embed.weight \(1, 16\) instead of \(6, 16\)',
        ),
        (lambda weight: weight / 0, r'1 of its \d+ weights hold inf or NaN \(decode_head.*class_embed.weight\)'),
        (lambda weight: weight.to(torch.int8), r'1 of its \d+ weights are strided int8 \(decode_head.*class_embed'),
    ],
)
def test_the_weights_that_the_ema_hook_swaps_are_checked_on_resume(change, message):
    model, runner = hosts.make_segmentor(), toy_runner(hosts.make_segmentor())
    whole = dict(steps=torch.tensor(2)) | {f'module.{name}': value for name, value in model.state_dict().items()}
    weight = whole[f'module.{EMBED}']
    part = {name: value for name, value in whole.items() if name != f'module.{EMBED}'}
    part |= {} if change is None else {f'module.{EMBED}': change(weight)}
    runner._resume = True
    CheckCheckpointHook().after_load_checkpoint(runner, dict(state_dict=model.state_dict(), ema_state_dict=whole))
    with pytest.raises(ValueError, match=rf"a.pth, its 'ema_state_dict': .*{message}"):
        CheckCheckpointHook().after_load_checkpoint(runner, dict(state_dict=model.state_dict(), ema_state_dict=part))


def test_missing_statistics_of_batch_norms_are_refused_in_a_test():
    model, hook = hosts.make_segmentor(), CheckCheckpointHook()
    weights = {key: value for key, value in model.state_dict().items() if 'running_var' not in key}
    hook.after_load_checkpoint(toy_runner(model), dict(state_dict=weights))
    with pytest.raises(ValueError, match='running_var.*measures random weights'):
        hook.before_test(toy_runner(model))


@pytest.mark.parametrize('task', ['test', 'val'])
def test_a_part_is_refused_in_a_test(scenes, tmp_path, task):
    with pytest.raises(ValueError, match=r'given\.pth: \d+ of the \d+ weights of the model are loaded.*random weights'):
        start(scenes, tmp_path, halved(scenes[1]), task)


def test_the_hosts_test_script_refuses_nan_and_code(scenes, tmp_path, monkeypatch):
    """MMSegmentation's own script, also if torch loads code by default."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    cfg, model = scenes
    weights = dict(model.state_dict())
    name = 'decode_head.classifier.class_embed.bias'
    weights[name] = weights[name].clone().fill_(float('nan'))
    torch.save(dict(state_dict=weights, meta=dict()), tmp_path / 'nan.pth')
    torch.save(content(state_dict=dict(model.state_dict()), more=Attack(tmp_path / 'executed')), tmp_path / 'code.pth')
    for file, message in (('nan.pth', f'1 of its .* weights hold inf or NaN .{name}'), ('code.pth', 'execute code')):
        script = (str(runs.ROOT / 'tools/test.py'), cfg.filename, file, '--work-dir', 'out')
        done = runs.run_script(*script, cwd=tmp_path, check=False)
        assert done.returncode and re.search(message, done.stdout + done.stderr), done.stderr[-500:]
    assert not (tmp_path / 'executed').exists()
