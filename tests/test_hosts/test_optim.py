"""Optimiser groups of the shipped configs, compared with the published ones."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers import official
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmmaskformer.hosts.optim import PublishedOptimWrapperConstructor

ROOT = Path(__file__).parents[2]
ADE20K, COCO = 'configs/ade20k/maskformer_', 'configs/coco_panoptic/maskformer_'
CASES = {
    f'{ADE20K}r50-d32_8xb2-160k_ade20k-512x512.py': 'ade20k-150/maskformer_R50_bs16_160k.yaml',
    f'{ADE20K}r101c-d32_8xb2-160k_ade20k-512x512.py': 'ade20k-150/maskformer_R101c_bs16_160k.yaml',
    f'{ADE20K}swin-t_8xb2-160k_ade20k-512x512.py': 'ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml',
    f'{COCO}r50-6enc_64xb1-554k_coco-panoptic.py': 'coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml',
    f'{COCO}swin-t_64xb1-554k_coco-panoptic.py': 'coco-panoptic/swin/maskformer_panoptic_swin_tiny_bs64_554k.yaml',
}


def build(name):
    config = Config.fromfile(ROOT / name)
    config.model.backbone.init_cfg = None
    init_default_scope(config.default_scope)
    import_module(f'{config.default_scope}.models')
    model = MODELS.build(config.model)
    return config, model, build_optim_wrapper(model, config.optim_wrapper)


@pytest.fixture(scope='module')
def published():
    return json.loads((official.DATA / 'optimizer.json').read_text())


@pytest.mark.parametrize('name', CASES)
def test_groups_equal_the_published_ones(name, published):
    expected = published[CASES[name]]
    _, model, wrapper = build(name)
    names = {parameter: key for key, parameter in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        assert group['betas'] == tuple(expected['betas']) and group['eps'] == expected['eps']
        for parameter in group['params']:
            found[names[parameter]] = (group['lr'], group['weight_decay'])
    keys = [key for group in expected['groups'].values() for key in group['names']]
    ours = official.our_full_names(keys, panoptic='panoptic' in name, encoder='6enc' in name)
    wanted = {
        ours[key]: (group['lr'], group['weight_decay'])
        for group in expected['groups'].values()
        for key in group['names']
    }
    assert found == wanted


@pytest.mark.parametrize('name', CASES)
def test_clipping_equals_the_published_one(name, published):
    expected = published[CASES[name]]['clip_grad']
    _, _, wrapper = build(name)
    assert wrapper.clip_grad_kwargs == dict(max_norm=expected['max_norm'], norm_type=expected['norm_type'])


@pytest.mark.parametrize('name', CASES)
def test_schedule_equals_the_published_one(name, published):
    from mmengine.registry import PARAM_SCHEDULERS

    expected = published[CASES[name]]
    config = Config.fromfile(ROOT / name)
    assert config.train_cfg.max_iters == expected['max_iter']
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [PARAM_SCHEDULERS.build(dict(cfg, optimizer=optimizer)) for cfg in config.param_scheduler]
    optimizer.step()  # otherwise the schedulers warn
    factors = {int(iteration): factor for iteration, factor in expected['lr_factor_at_iteration'].items()}
    for iteration in range(expected['max_iter']):
        if iteration in factors:
            assert optimizer.param_groups[0]['lr'] == pytest.approx(factors[iteration], rel=1e-6)
        for scheduler in schedulers:
            scheduler.step()


def toy_model():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.backbone.register_parameter('relative_position_bias_table', nn.Parameter(torch.zeros(3, 2)))
    model.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(3, 4))
    model.tied = model.head[0]
    model.backbone[0].bias.requires_grad_(False)
    return model


def config(**paramwise):
    return dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.5)), paramwise


def test_a_backbone_with_norms_and_its_own_rate():
    model = toy_model()
    wrapper = PublishedOptimWrapperConstructor(*config(backbone_lr_mult=0.1))(model)
    found = {(g['lr'], g['weight_decay']): g['params'] for g in wrapper.optimizer.param_groups}
    assert set(found) == {(0.1, 0.5), (0.1, 0.0), (1.0, 0.5), (1.0, 0.0)}
    assert [p.shape for p in found[0.1, 0.5]] == [(4, 3, 1, 1)], 'frozen parameters are left out'
    assert len(found[0.1, 0.0]) == 3 and len(found[1.0, 0.0]) == 3
    assert len(found[1.0, 0.5]) == 2, 'biases are decayed, shared parameters counted once'


def test_unknown_paramwise_keys_are_refused():
    with pytest.raises(TypeError, match="unknown key 'norm_decay_mult'.*only 'backbone_lr_mult'.*Fix"):
        PublishedOptimWrapperConstructor(*config(norm_decay_mult=0.0))


def test_amp_without_a_gpu_trains_under_bfloat16(monkeypatch):
    monkeypatch.setattr('mmmaskformer.hosts.optim.get_device', lambda: 'cpu')
    wrapper_cfg, paramwise = config()
    wrapper_cfg |= dict(type='AmpOptimWrapper', loss_scale='dynamic')
    model = toy_model()
    wrapper = PublishedOptimWrapperConstructor(wrapper_cfg, paramwise)(model)
    assert type(wrapper).__name__ == 'BFloat16OptimWrapper'
    with wrapper.optim_context(model):
        assert model.head[0](torch.ones(2, 4)).dtype == torch.bfloat16
    assert model.head[0](torch.ones(2, 4)).dtype == torch.float32
