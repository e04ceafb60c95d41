"""Checkpoints of other packages, loaded into a model with different settings that no weight reveals."""

import logging
from dataclasses import replace

import pytest
import torch
from helpers.foreign import CLASSES, SETTINGS, THINGS, architecture, weights_of
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint

from mmmaskformer.apis.model_configs import host_config, own_config
from mmmaskformer.apis.verifying import build
from mmmaskformer.checkpoints import classes as orders
from mmmaskformer.checkpoints.convert import convert
from mmmaskformer.checkpoints.preprocessors import hub_preprocessor
from mmmaskformer.checkpoints.transformers_files import hub_config
from mmmaskformer.checkpoints.writers import write_transformers


@pytest.fixture
def log():
    found: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: found.append(f'{record.levelname} {record.getMessage()}')
    logger = MMLogger.get_instance('mmengine') if not MMLogger.check_instance_created('mmengine') else None
    logger = logger or MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def host_file(path, package, weights, dataset_meta=None, change=lambda cfg: None, arch=None):
    cfg = host_config(package, arch or architecture(), SETTINGS if arch is None else replace(SETTINGS, dataset_meta={}))
    change(cfg)
    meta = dict(cfg=cfg.pretty_text) | (dict(dataset_meta=dataset_meta) if dataset_meta else {})
    torch.save(dict(state_dict=weights, meta=meta), path)
    return str(path)


def hub_folder(path, settings=SETTINGS):
    weights = convert(weights_of('mmseg'), 'mmseg', 'transformers').weights
    write_transformers(path, weights, hub_config(architecture(), settings), hub_preprocessor(settings))
    return str(path)


@pytest.mark.parametrize('package', ['mmseg', 'transformers'])
def test_another_number_of_heads_is_refused(tmp_path, package):
    model = build(own_config(architecture(), replace(SETTINGS, num_heads=8), 'semantic'))
    files = {
        'mmseg': lambda: host_file(tmp_path / 'a.pth', 'mmseg', weights_of('mmseg')),
        'transformers': lambda: hub_folder(tmp_path / 'hub'),
    }
    with pytest.raises(
        ValueError, match=r'(a\.pth|hub): .*num_heads=4, the model has num_heads=8.*Fix: set num_heads=4'
    ):
        load_checkpoint(model, files[package](), map_location='cpu')


def test_another_number_of_groups_is_refused(tmp_path):
    model = build(own_config(architecture(), replace(SETTINGS, norm_groups=8), 'semantic'))
    with pytest.raises(ValueError, match='norm_groups=32, the model has norm_groups=8'):
        load_checkpoint(model, hub_folder(tmp_path / 'hub'), map_location='cpu')


def test_other_images_and_backbones_are_reported(tmp_path, log):
    def change(cfg):
        cfg.model.data_preprocessor.update(mean=[1.0, 2.0, 3.0], bgr_to_rgb=False)
        cfg.model.backbone.update(dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1))

    model = build(own_config(architecture(), SETTINGS, 'semantic'))
    load_checkpoint(model, host_file(tmp_path / 'a.pth', 'mmseg', weights_of('mmseg'), change=change), 'cpu')
    (warning,) = [text for text in log if text.startswith('WARNING') and 'a.pth' in text]
    for part in (
        'data_preprocessor.mean is (1.0, 2.0, 3.0) in the checkpoint and (123.675, 116.28, 103.53) in the model',
        'bgr_to_rgb is False in the checkpoint and True',
        'backbone.dilations is (1, 1, 2, 4) in the checkpoint and (1, 1, 1, 1)',
        'backbone.strides is (1, 2, 1, 1)',
    ):
        assert part in warning


def test_equal_settings_are_not_reported(tmp_path, log):
    for net in ('resnet', 'swin'):
        model = build(own_config(architecture(net), SETTINGS, 'semantic'))
        path = host_file(tmp_path / f'{net}.pth', 'mmseg', weights_of('mmseg', net), arch=architecture(net))
        load_checkpoint(model, path, map_location='cpu')
    load_checkpoint(build(own_config(architecture(), SETTINGS, 'semantic')), hub_folder(tmp_path / 'hub'), 'cpu')
    assert not [text for text in log if text.startswith('WARNING')]


@pytest.mark.parametrize('named', [True, False])
def test_mmdetections_order_is_undone_for_a_semantic_head(tmp_path, named):
    """MMDetection lists the things of ADE20K first; semantic configs list classes in the order of the dataset."""
    shape = architecture(classes=150)
    ade = orders.read_class_list('ade20k_panoptic')
    first = orders.permuted(ade, orders.things_first(ade['isthing']))
    weights = dict(build(host_config('mmdet', shape, replace(SETTINGS, classes=(), dataset_meta={}))).state_dict())
    weights['panoptic_head.cls_embed.bias'] = torch.tensor([*orders.things_first(ade['isthing']), 150.0])
    names = {'classes': first['classes'], 'palette': first['palette'], 'thing_classes': first['classes'][:100]}
    path = host_file(tmp_path / 'a.pth', 'mmdet', weights, names if named else None, arch=shape)
    for task, key in (('semantic', 'decode_head'), ('panoptic', 'panoptic_head')):
        model = build(own_config(shape, replace(SETTINGS, dataset_meta={'isthing': ade['isthing']}), task))
        content = load_checkpoint(model, path, map_location='cpu', strict=True)
        found = getattr(model, key).classifier.class_embed.bias
        assert torch.equal(found, torch.arange(151.0))
        assert list(content['meta']['dataset_meta']['classes']) == ade['classes']


def test_other_classes_are_left_to_the_head(tmp_path):
    """A permutation of the model's classes must not select rows of a classifier with other classes."""
    settings = replace(SETTINGS, classes=CLASSES[:4], dataset_meta={'isthing': THINGS[:4]})
    model = build(own_config(architecture(classes=4), settings, 'panoptic'))
    path = host_file(tmp_path / 'a.pth', 'mmdet', weights_of('mmdet'))
    with pytest.raises((ValueError, RuntimeError), match='class_embed'):
        load_checkpoint(model, path, map_location='cpu', strict=True)
