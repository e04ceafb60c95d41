"""Every shipped config beside the published values, and what the audit says when they differ."""

import json
import logging
from pathlib import Path

import pytest
from helpers import official
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmmaskformer.apis import cli
from mmmaskformer.apis.audit import audit, published, published_settings, shipped_configs, table
from mmmaskformer.apis.model_size import build_on_meta, flops_of
from mmmaskformer.apis.settings_of_config import settings_of, steps_of

CONFIGS = Path(__file__).parents[2] / 'configs'
R50 = CONFIGS / 'ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
PUBLISHED = [path for path in shipped_configs() if published_settings(path.stem)]


@pytest.fixture(autouse=True)
def quiet():
    """Every model reports its features."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_every_config_is_in_the_paper_or_listed_as_beyond_it():
    names = {path.stem for path in shipped_configs()}
    assert names == {path.stem for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts}
    assert names == published()['models'].keys() | published()['beyond'].keys()
    assert not published()['models'].keys() & published()['beyond'].keys()


@pytest.mark.parametrize('path', PUBLISHED, ids=lambda path: path.stem)
def test_config_is_the_published_one(path):
    rows = audit(path)
    assert [row for row in rows if row.verdict == 'differs'] == []
    verdicts = {row.key: row.verdict for row in rows}
    assert {'iterations', 'batch', 'augmentation', 'test size', 'groups', 'parameters'} <= verdicts.keys()
    compared = [key for key, verdict in verdicts.items() if verdict != 'not published']
    # PerPixelBaseline has no decoder, so nothing to compare of it
    assert len(compared) >= (19 if path.stem.startswith('per-pixel-baseline_') else 24), 'nearly everything is compared'


def test_every_listed_difference_is_one():
    """A reason that explains nothing any more is taken out."""
    for row in published()['differences']:
        listed = [path for path in PUBLISHED if path.match(f'{row["models"]}.py')]
        found = [settings_of(Config.fromfile(path))[row['key']] for path in listed]
        assert listed and all(
            value != published_settings(path.stem)[row['key']] for value, path in zip(found, listed, strict=True)
        )
        assert len(row['reason']) > 20


def test_published_groups_are_those_of_the_built_optimisers():
    """The counts in the data file against the lists of parameter names that the official code gave."""
    optimizers = json.loads((official.DATA / 'optimizer.json').read_text())
    for name, expected in optimizers.items():
        models = [model for model in published()['models'].values() if model['config'] == name]
        groups = {f'lr {g["lr"]:g}, decay {g["weight_decay"]:g}' for g in expected['groups'].values()}
        assert models and all(model['groups'].keys() == groups for model in models)
        merged = {}
        for recipe in models[0]['recipes']:
            merged |= published()['recipes'][recipe]
        assert merged['iterations'] == expected['max_iter'] and merged['batch'] == expected['batch_size']
        assert merged['clipping'] == f'L{expected["clip_grad"]["norm_type"]:g} norm {expected["clip_grad"]["max_norm"]}'
        assert merged['optimiser'] == f'AdamW, betas {tuple(expected["betas"])}, eps {expected["eps"]}'


def test_defaults_on_which_the_words_rely():
    """The audit writes nothing of a setting that has its default."""
    assert TRANSFORMS.build(dict(type='mmseg.RandomCrop', crop_size=(4, 4))).cat_max_ratio == 1.0
    assert TRANSFORMS.build(dict(type='mmseg.RandomFlip', prob=0.5)).direction == 'horizontal'
    assert list(steps_of([dict(type='mmseg.RandomCrop', crop_size=(4, 8), cat_max_ratio=0.75)])) == [
        'crop 4 x 8, one class at most 0.75'
    ]
    assert list(steps_of([dict(type='mmcv.Resize'), dict(type='LoadImageFromFile')])) == ['Resize']


@pytest.fixture
def changed(tmp_path):
    """A config of the name of a published one, with other settings."""

    def write(name: str, lines: str) -> Path:
        path = tmp_path / name
        path.write_text(f'_base_ = {str(R50)!r}\n{lines}')
        return path

    return write


CHANGES = {
    'iterations': 'train_cfg = dict(max_iters=80_000)',
    'schedule': "param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=1e-4, end=160_001, by_epoch=False)]",
    'warm-up': "param_scheduler = [*_base_.param_scheduler, dict(type='LinearLR', start_factor=0.1, end=101)]",
    'clipping': 'optim_wrapper = dict(clip_grad=dict(max_norm=0.1))',
    'groups': 'optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=1.0))',
    'optimiser': 'optim_wrapper = dict(optimizer=dict(eps=1e-6))',
    'augmentation': 'train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline[:-2]))',
    'test size': 'test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline[:1] + _base_.test_pipeline[2:]))',
    'parameters': 'model = dict(backbone=dict(depth=101))',
    'loss weights': 'model = dict(decode_head=dict(criterion=dict(no_object_weight=0.5)))',
}


@pytest.mark.parametrize('key', CHANGES)
def test_a_changed_setting_is_found(changed, key):
    rows = audit(changed(R50.name, CHANGES[key]))
    assert key in {row.key for row in rows if row.verdict == 'differs'}


def test_table_status_and_errors(changed, capsys):
    path = changed(R50.name, CHANGES['iterations'])
    assert cli.main(['audit', str(path), '--differences']) == 1
    printed = capsys.readouterr().out
    assert 'iterations  differs        80,000' in printed and 'published      160,000' in printed
    assert '1 settings differ' in printed and 'clipping' not in printed
    assert cli.main(['audit', str(R50)]) == 0
    assert 'FLOPs' in capsys.readouterr().out
    own = changed('my_own.py', '')
    assert {row.verdict for row in audit(own)} == {'not published'} and 'my_own' in table('my_own', audit(own))
    assert cli.main(['audit', 'nowhere.py']) == 2
    assert 'config nowhere.py: no such file' in capsys.readouterr().err
    wrong = changed('maskformer_r50_8xb4_own.py', '')
    with pytest.raises(ValueError, match=r'the name means 4 images per GPU, but train_dataloader.batch_size is 2'):
        audit(wrong)


def test_models_without_memory_have_no_values():
    """Nothing is allocated for weights; the count of FLOPs grows with the input as convolutions do."""
    model = build_on_meta(Config.fromfile(R50))
    assert {parameter.device.type for parameter in model.parameters()} == {'meta'}
    assert flops_of(model, (512, 1024)) == pytest.approx(2 * flops_of(model, (512, 512)), rel=0.03)
