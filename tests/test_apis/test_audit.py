"""Every shipped config is compared with the published values; the audit reports differences."""

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
    # PerPixelBaseline has no decoder to compare
    assert len(compared) >= (19 if path.stem.startswith('per-pixel-baseline_') else 24), 'nearly everything is compared'


def test_every_listed_difference_is_one():
    """Reasons that no longer explain a difference must be removed."""
    for row in published()['differences']:
        listed = [path for path in PUBLISHED if path.match(f'{row["models"]}.py')]
        found = [settings_of(Config.fromfile(path))[row['key']] for path in listed]
        assert listed and all(
            value != published_settings(path.stem)[row['key']] for value, path in zip(found, listed, strict=True)
        )
        assert len(row['reason']) > 20


def test_published_groups_are_those_of_the_built_optimisers():
    """Compares the counts in the data file with the parameter lists of the official code."""
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
    """The audit does not list settings that have their default value."""
    assert TRANSFORMS.build(dict(type='mmseg.RandomCrop', crop_size=(4, 4))).cat_max_ratio == 1.0
    assert TRANSFORMS.build(dict(type='mmseg.RandomFlip', prob=0.5)).direction == 'horizontal'
    assert list(steps_of([dict(type='mmseg.RandomCrop', crop_size=(4, 8), cat_max_ratio=0.75)])) == [
        'crop 4 x 8, one class at most 0.75'
    ]
    assert list(steps_of([dict(type='mmcv.Resize'), dict(type='LoadImageFromFile')])) == ['Resize']


@pytest.fixture
def changed(tmp_path):
    """A config with the name of a published one and different settings."""

    def write(name: str, lines: str, base: Path = R50) -> Path:
        path = tmp_path / name
        path.write_text(f'_base_ = {str(base)!r}\n{lines}')
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


SWIN_B = CONFIGS / 'ade20k/maskformer_swin-b-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py'
ADE_PANOPTIC = CONFIGS / 'ade20k_panoptic/maskformer_r50-6enc_8xb2-720k_ade20k-panoptic-640x640.py'
COCO = CONFIGS / 'coco_panoptic/maskformer_r50-6enc_64xb1-554k_coco-panoptic.py'
COCO_SWIN = CONFIGS / 'coco_panoptic/maskformer_swin-t_64xb1-554k_coco-panoptic.py'
PLUS = CONFIGS / 'ade20k/per-pixel-baseline-plus_r50-d32_8xb2-160k_ade20k-512x512.py'
STEP = 'steps = _base_.train_pipeline\nsteps[{}].update({})\ntrain_dataloader = dict(dataset=dict(pipeline=steps))'
# config, changes of a copy, and the only row that differs
FAULTS = [
    (R50, "param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=80_001, by_epoch=False)]", 'schedule'),
    (R50, "param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=160_001)]", 'schedule'),
    (R50, 'param_scheduler = []', 'schedule'),
    (R50, "param_scheduler = [*_base_.param_scheduler, dict(type='CosineAnnealingLR', T_max=9)]", 'schedule'),
    (COCO, "param_scheduler = [dict(type='MultiStepLR', milestones=[369_600], gamma=0.1)]", 'schedule'),
    (SWIN_B, 'warm = _base_.param_scheduler\nwarm[1].update(begin=500)\nparam_scheduler = warm', 'warm-up'),
    (R50, 'auto_scale_lr = dict(base_batch_size=32)', 'batch of the learning rate'),
    (R50, "optim_wrapper = dict(type='AmpOptimWrapper')", 'optimiser'),
    (R50, 'optim_wrapper = dict(optimizer=dict(amsgrad=True))', 'optimiser'),
    (R50, 'optim_wrapper = dict(clip_grad=None)', 'clipping'),
    (R50, 'optim_wrapper = dict(clip_grad=dict(norm_type=1))', 'clipping'),
    (R50, STEP.format(5, "direction='vertical'"), 'augmentation'),
    (R50, STEP.format(5, 'prob=0.4'), 'augmentation'),
    (R50, STEP.format(3, 'crop_size=(512, 640)'), 'augmentation'),
    (R50, STEP.format(3, 'ignore_index=0'), 'augmentation'),
    (R50, STEP.format(6, 'image_value=0'), 'augmentation'),
    (R50, STEP.format(2, 'max_size=None'), 'augmentation'),
    (COCO, STEP.format(3, 'prob=[0.4, 0.6]'), 'augmentation'),
    (R50, "train_dataloader = dict(dataset=dict(data_prefix=dict(img_path='images/validation')))", 'trained on'),
    (R50, "test_dataloader = dict(dataset=dict(data_prefix=dict(img_path='images/training')))", 'tested on'),
    (COCO, "train_dataloader = dict(dataset=dict(ann_file='annotations/panoptic_val2017.json'))", 'trained on'),
    (R50, 'train_dataloader = dict(sampler=dict(shuffle=False))', 'order of images'),
    (COCO, 'train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True)))', 'images left out'),
    (COCO, STEP.format(4, 'keep_vanished=False'), 'empty segments'),
    (R50, 'val = _base_.test_pipeline\nval[1].update(short_edge=500)\n'
     'val_dataloader = dict(dataset=dict(pipeline=val))', 'validation size'),
    (R50, 'views = _base_.tta_pipeline\nviews[-1].transforms[1].pop()\ntta_pipeline = views', 'test views'),
    (R50, "views = _base_.tta_pipeline\nviews[-1].transforms[1][1].update(direction='vertical')\ntta_pipeline = views",
     'test views'),
    (R50, 'tta_pipeline = [_base_.tta_pipeline[0], _base_.tta_pipeline[-1]]', 'views start from'),
    (R50, "model = dict(test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))", 'inference'),
    (R50, "model = dict(test_cfg=dict(inference='general'))", 'inference'),
    (ADE_PANOPTIC, 'model = dict(test_cfg=dict(panoptic=dict(object_threshold=0.8)))', 'object threshold'),
    (COCO, 'model = dict(test_cfg=dict(panoptic=dict(overlap_threshold=0.7)))', 'overlap threshold'),
    (ADE_PANOPTIC, 'model = dict(test_cfg=dict(semantic=dict(resize_masks_first=False)))', 'inference'),
    (ADE_PANOPTIC, 'test_evaluator = dict(listed_areas=False)', 'true areas in PQ'),
    (R50, 'model = dict(data_preprocessor=dict(mean=[0.0, 0.0, 0.0]))', 'normalisation'),
    (R50, 'model = dict(data_preprocessor=dict(bgr_to_rgb=False))', 'normalisation'),
    (R50, 'model = dict(data_preprocessor=dict(test_cfg=dict(size_divisor=1)))', 'size divisor'),
    (COCO, 'model = dict(data_preprocessor=dict(pad_size_divisor=32))', 'size divisor'),
    (R50, 'model = dict(backbone=dict(norm_eval=False))', 'backbone'),
    (R50, "model = dict(backbone=dict(style='caffe'))", 'backbone'),
    (R50, 'model = dict(backbone=dict(dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)))', 'backbone'),
    (SWIN_B, 'model = dict(backbone=dict(attn_drop_rate=0.1))', 'backbone'),
    (SWIN_B, 'model = dict(backbone=dict(drop_path_rate=0.2))', 'drop path'),
    (R50, 'model = dict(decode_head=dict(deep_supervision=False))', 'other settings of the head'),
    (R50, 'model = dict(decode_head=dict(pixel_decoder=dict(norm_groups=16)))', 'pixel decoder'),
    (COCO, 'model = dict(panoptic_head=dict(pixel_decoder=dict(dropout=0.0)))', 'pixel decoder'),
    (COCO_SWIN, 'model = dict(panoptic_head=dict(transformer_decoder=dict(self_attention=False)))', 'decoder'),
    (R50, 'model = dict(decode_head=dict(transformer_decoder=dict(num_heads=4)))', 'heads'),
    (R50, 'model = dict(decode_head=dict(transformer_decoder=dict(dropout=0.0)))', 'dropout'),
    (PLUS, 'model = dict(decode_head=dict(transformer_decoder=dict(dropout=0.0)))', 'dropout'),
    (R50, 'model = dict(decode_head=dict(matcher=dict(weights=dict(mask=5.0))))', 'matching'),
    (R50, 'model = dict(decode_head=dict(criterion=dict(ignore_in_loss=True)))', 'losses'),
    (R50, "model = dict(decode_head=dict(criterion=dict(mask_loss=dict(type='mmmaskformer.CrossEntropyDiceLoss'))))",
     'losses'),
    (R50, 'model = dict(decode_head=dict(criterion=dict(loss_weights=dict(dice=5.0))))', 'loss weights'),
    (R50, 'model = dict(decode_head=dict(ignore_index=254))', 'ignored label'),
    (R50, 'model = dict(backbone=dict(init_cfg=None))', 'starts from'),
    (COCO, "load_from = 'zoo://maskformer_r50_ade20k'", 'starts from'),
    (SWIN_B, "weights = dict(checkpoint='a/swin_base_patch4_window12_384_20220317-55b0104a.pth')\n"
     'model = dict(backbone=dict(init_cfg=weights))', 'starts from'),
    (R50, "custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook')]", 'other hooks'),
]  # fmt: skip


@pytest.mark.parametrize('base, lines, key', FAULTS, ids=[f'{key}-{i}' for i, (*_, key) in enumerate(FAULTS)])
def test_a_fault_of_every_kind_shows_in_its_row(changed, base, lines, key):
    found = settings_of(Config.fromfile(changed(base.name, lines, base)))
    expected = published_settings(base.stem)
    compared = [row for row in expected if row in found]
    assert [row for row in compared if found[row] != expected[row]] == [key]
    assert set(expected) - set(found) == {'groups', 'parameters', 'printed parameters', 'FLOPs'} & set(expected)


def test_configs_that_leave_defaults_out(tmp_path):
    """The config is written as documented for user-defined models; the audit shows the defaults of the classes."""
    path = tmp_path / 'own.py'
    path.write_text(
        "_base_ = 'mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py'\n"
        "custom_imports = dict(imports=['mmmaskformer.registry'], allow_failed_imports=False)\n"
        'model = dict(backbone=dict(init_cfg=None), decode_head=dict(_delete_=True, '
        "type='mmmaskformer.MaskFormerHead', num_classes=150, pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder'), "
        "transformer_decoder=dict(type='mmmaskformer.TransformerDecoder'), "
        "matcher=dict(type='mmmaskformer.HungarianMatcher'), criterion=dict(type='mmmaskformer.SetCriterion')))\n"
    )
    found = settings_of(Config.fromfile(path))
    assert found['channels'] == 256 and found['queries'] == 100 and found['decoder layers'] == 6
    assert found['loss weights'] == 'class 1, mask 20, dice 1, no object 0.1' and found['clipping'] == 'none'
    path.write_text("_base_ = 'mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py'\n")
    with pytest.raises(
        ValueError, match=r'own\.py: found decode_head of type LightHamHead, expected .* of mmmaskformer'
    ):
        settings_of(Config.fromfile(path))


def test_table_status_and_errors(changed, capsys):
    path = changed(R50.name, CHANGES['iterations'])
    assert cli.main(['audit', str(path), '--differences']) == 1
    printed = capsys.readouterr().out
    assert 'iterations  differs        80,000' in printed and 'published      160,000' in printed
    assert 'schedule    differs        poly, power 0.9, over 160000 iterations' in printed, 'it would end early'
    assert '2 settings differ' in printed and 'clipping' not in printed
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
    """No memory is allocated for weights, and the FLOPs grow with the input like those of convolutions."""
    model = build_on_meta(Config.fromfile(R50))
    assert {parameter.device.type for parameter in model.parameters()} == {'meta'}
    assert flops_of(model, (512, 1024)) == pytest.approx(2 * flops_of(model, (512, 512)), rel=0.03)
