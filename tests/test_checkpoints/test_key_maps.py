"""The tables of names match the packages' own models, at full size and on the meta device."""

import functools
import json

import pytest
import torch
from helpers import official
from helpers.foreign import host_model
from helpers.runs import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.apis.model_size import build_on_meta
from mmmaskformer.checkpoints.convert import convert, renamed
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.layouts import package_of
from mmmaskformer.checkpoints.zoo import zoo_models
from mmmaskformer.heads import panoptic_head

PUBLISHED = json.loads((official.DATA / 'state_dict_keys.json').read_text())
OLD, NEW = 'sem_seg_head.', 'sem_seg_head.pixel_decoder.'


def published_weights(name: str) -> dict[str, torch.Tensor]:
    """A published model without values, under the names of its state dict."""
    shapes = {}
    for part in PUBLISHED['configs'][name]['parts']:
        shapes |= PUBLISHED['parts'][part]
    return {
        key: torch.empty(shape, device='meta', dtype=torch.int64 if key.endswith('position_index') else torch.float32)
        for key, shape in shapes.items()
    }


def on_cpu(function):
    """A function whose tensors have values, regardless of the default device."""

    def call(*args):
        with torch.device('cpu'):
            return function(*args)

    return call


def facts(weights) -> dict:
    return {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}


@pytest.mark.parametrize('name', PUBLISHED['configs'])
def test_every_published_model_maps_without_remainder(name):
    weights = published_weights(name)
    assert package_of(weights) == 'official' and len(weights) == PUBLISHED['configs'][name]['num_keys']
    found = convert(weights, 'official', 'mmmaskformer')
    left_out = [key for key in weights if key.endswith('relative_position_index') or key == 'criterion.empty_weight']
    assert sorted(found.dropped) == sorted(left_out)
    assert found.architecture.head.num_classes == PUBLISHED['configs'][name]['num_classes']
    back = convert(found.weights, 'mmmaskformer', 'official')
    released = {OLD + key.removeprefix(NEW) if key.startswith(NEW) else key: value for key, value in weights.items()}
    assert facts(back.weights) == facts(released)


@pytest.mark.parametrize(
    'config, name',
    [
        ('ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py', 'ade20k-150/maskformer_R50_bs16_160k.yaml'),
        ('ade20k/maskformer_swin-t_8xb2-160k_ade20k-512x512.py', 'ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml'),
        (
            'coco_panoptic/maskformer_r50-6enc_64xb1-554k_coco-panoptic.py',
            'coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml',
        ),
        (
            'coco_panoptic/maskformer_swin-t_64xb1-554k_coco-panoptic.py',
            'coco-panoptic/swin/maskformer_panoptic_swin_tiny_bs64_554k.yaml',
        ),
    ],
)
def test_a_published_model_fills_the_model_of_our_config(config, name, monkeypatch):
    # These read values, which must exist: mmseg's Swin those of a range, our head the things among the classes.
    monkeypatch.setattr(torch, 'linspace', functools.partial(torch.linspace, device='cpu'))
    monkeypatch.setattr(panoptic_head, 'thing_mask', on_cpu(panoptic_head.thing_mask))
    cfg = Config.fromfile(ROOT / 'configs' / config)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    target = 'mmmaskformer-panoptic' if 'panoptic' in config else 'mmmaskformer'
    assert facts(convert(published_weights(name), 'official', target).weights) == facts(model.state_dict())


@pytest.mark.parametrize('package', ['mmseg', 'mmdet'])
@pytest.mark.parametrize('net, encoder', [('resnet', True), ('deeplab', False), ('swin', False)])
def test_every_weight_of_the_hosts_models_has_a_row_and_every_row_a_weight(package, net, encoder):
    state = host_model(package, net, encoder=encoder).state_dict()
    assert package_of(state) == package
    found = convert(state, package, 'mmmaskformer')
    assert set(found.dropped) == {key for key in state if key.endswith('relative_position_index')}
    assert facts(convert(found.weights, 'mmmaskformer', package).weights) == facts(state)


def test_names_of_packages_are_distinguished():
    texts = [
        [row.theirs.text for row in names.rows_of({choice.neutral for choice in names.choices}, neutral=True)]
        for names in NAMES.values()
    ]
    assert all(len(set(rows)) == len(rows) for rows in texts)


def test_names_of_whole_tensors_are_renamed_and_those_of_parts_are_omitted():
    names = ['sem_seg_head.predictor.query_embed.weight', 'sem_seg_head.layer_4.norm.bias', 'criterion.empty_weight']
    assert renamed(names, 'official', 'mmmaskformer') == {
        names[0]: 'decode_head.classifier.transformer_decoder.query_embed.weight',
        names[1]: 'decode_head.classifier.pixel_decoder.top_conv.norm.bias',
    }
    split = 'model.transformer_module.decoder.layers.0.self_attn.q_proj.weight'
    assert renamed([split, 'class_predictor.bias'], 'transformers', 'mmdet') == {
        'class_predictor.bias': 'panoptic_head.cls_embed.bias'
    }


ZOO = {name: model for name, model in zoo_models().items() if model.package in ('official', 'mmdet', 'mmseg')}
FOLDERS = {
    'semantic-ade20k': 'ade20k-150',
    'semantic-ade20k-full': 'ade20k-full-847',
    'semantic-coco-stuff-10k': 'coco-stuff-10k-171',
    'semantic-cityscapes': 'cityscapes-19',
    'semantic-mapillary-vistas': 'mapillary-vistas-65',
    'panoptic-coco': 'coco-panoptic',
    'panoptic-ade20k': 'ade20k-150-panoptic',
}
"""Folders of the published configs, by the prefix of their names in the published zoo."""


@functools.cache
def facts_of_config(path: str) -> dict:
    return facts(build_on_meta(Config.fromfile(ROOT / 'configs' / path)).state_dict())


@pytest.mark.parametrize('model', ZOO.values(), ids=ZOO)
def test_every_released_file_fits_the_config_that_the_zoo_names(model):
    """Names, shapes and dtypes from the published key lists and from the hosts' models."""
    group, name = model.released_as.split('/')
    if model.package == 'official':
        (key,) = [k for k in PUBLISHED['configs'] if k.startswith(f'{FOLDERS[group]}/') and k.endswith(f'/{name}.yaml')]
        weights = published_weights(key)
    else:
        base = f'{model.package}::maskformer/{name}.py'
        weights = build_on_meta(Config.fromstring(f'_base_ = {base!r}', '.py')).state_dict()
    target = 'mmmaskformer-panoptic' if model.task == 'panoptic' else 'mmmaskformer'
    assert facts(convert(weights, model.package, target).weights) == facts_of_config(model.config)
