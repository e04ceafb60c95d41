"""The shipped configs build, use our parts, and are short."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import official
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmmaskformer.apis import cli
from mmmaskformer.apis.model_size import build_on_meta

CONFIGS = Path(__file__).parents[2] / 'configs'
SHIPPED = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
BASES = sorted((CONFIGS / '_base_').rglob('*.py'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_config_builds_from_parts_of_this_package(path):
    config = Config.fromfile(path)
    model = build_on_meta(config)
    scope, key = ('mmdet', 'panoptic_head') if 'panoptic_head' in config.model else ('mmseg', 'decode_head')
    head = getattr(model, key)
    parts = [head, head.classifier, head.criterion, *head.criterion.children(), *head.classifier.children()]
    ours = [part for part in parts if not isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    assert all(type(part).__module__.startswith('mmmaskformer.') for part in ours)
    if 'per-pixel' not in path.stem:
        weights = head.criterion.matcher.weights
        if 'matching' not in path.stem:
            assert weights == head.criterion.loss_weights
        assert weights.items() <= head.criterion.loss_weights.items()
    assert config.default_scope == scope
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        with DefaultScope.overwrite_default_scope(scope):
            dataset = DATASETS.build(dict(config[loader].dataset, lazy_init=True, pipeline=[]))
        assert len(dataset.metainfo['classes']) == head.num_classes
        if 'isthing' in dataset.metainfo:
            assert head.is_thing.tolist() == [bool(thing) for thing in dataset.metainfo['isthing']]
    if scope == 'mmdet':
        fusion = model.panoptic_fusion_head
        assert fusion.num_classes == head.num_classes and torch.equal(fusion.is_thing, head.is_thing)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_the_config_file_sets_the_class_count_once(path):
    text = path.read_text().replace('num_queries=_base_.num_classes', '')  # of fixed matching: one query per class
    lines = [line.strip() for line in text.splitlines() if 'num_classes' in line]
    semantic = ('model = dict(decode_head=dict(num_classes=_base_.num_classes))',
                'decode_head=dict(num_classes=_base_.num_classes, ignore_index=_base_.ignore_index),')  # fmt: skip
    panoptic = 'panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things)'
    assert len(lines) <= 1 and all(line in semantic or panoptic in line for line in lines)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_the_config_is_short_and_does_not_repeat_sizes_of_its_dataset(path):
    lines = path.read_text().splitlines()
    assert len(lines) < 40
    bases = {line.strip().strip("',").rpartition('/')[2] for line in lines if '_base_/datasets/' in line}
    if 'camvid' not in path.stem:  # small runs with their own crops
        assert not any('crop_size' in line for line in lines) and len(bases) <= 1


def test_each_backbone_starts_from_its_own_weights():
    """Depth, window and ImageNet checkpoint agree with the name of the config."""
    marks = {'r50-': 'resnet50', 'r101-': 'resnet101', 'r101c-': 'deeplab_r103', 'swin-t': 'tiny_patch4_window7_224',
             'swin-s': 'small_patch4_window7_224', 'swin-b': 'base_patch4_window12_384',
             'swin-l': 'large_patch4_window12_384_22k'}  # fmt: skip
    seen = set()
    for path in SHIPPED:
        found = [key for key in marks if f'_{key}' in path.stem]
        if found:
            backbone = Config.fromfile(path).model.backbone
            checkpoint = backbone.init_cfg.checkpoint
            assert marks[found[0]] in checkpoint and ('22k' in checkpoint) == ('in22k' in path.stem), path
            assert backbone.get('window_size', 7) == (12 if 'window12' in checkpoint else 7)
            seen.update(found)
    assert seen == set(marks)


def test_each_base_sets_the_crop_size_once():
    """Everything else is derived; the sizes of the synthetic scenes are chosen individually."""
    for path in BASES:
        code = [line.partition('#')[0] for line in path.read_text().splitlines()]
        stated = [line for line in code if line.startswith('crop_size = (')]
        assert len(stated) <= 1
        for line in stated if 'scenes' not in path.stem else ():
            height = line.split('(')[1].split(',')[0]
            assert sum(f'{height},' in other or f'{height})' in other for other in code) == 1, path


NARROW = """
_base_ = {base!r}
model = dict(backbone=dict(depth=50, base_channels=4, stem_channels=16))
"""


def test_r101c_is_the_published_backbone(tmp_path, capsys):
    """The backbone of the config, narrower and less deep, with the weights and features of the published code.

    The weights are stored as in detectron2's initial weights, and converted by the command.
    """
    case = official.load('backbones')['cases']['resnet50_deeplab_multigrid']
    path = CONFIGS / 'ade20k/maskformer_r101c-d32_8xb2-160k_ade20k-512x512.py'
    (tmp_path / 'narrow.py').write_text(NARROW.format(base=str(path)))
    arrays = {key: value.numpy() for key, value in case['state_dict'].items()} | {'stem.fc.bias': np.zeros(3)}
    (tmp_path / 'R-103.pkl').write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone'}))
    arguments = [str(tmp_path / name) for name in ('R-103.pkl', 'weights/r103.pth')]
    assert cli.main(['convert', *arguments, '--to', 'backbone']) == 0
    assert 'which a backbone does not have (stem.fc.bias)' in capsys.readouterr().out
    config = Config.fromfile(tmp_path / 'narrow.py').model.backbone
    config.init_cfg.checkpoint = arguments[1]
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build(config)
    backbone.init_weights()
    backbone.eval()
    with torch.no_grad():
        features = backbone(case['image'])
    for found, expected in zip(features, case['features'].values(), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_r101c_dilates_only_its_last_stage():
    path = CONFIGS / 'cityscapes/maskformer_r101c-d32_8xb2-90k_cityscapes-512x1024.py'
    backbone = build_on_meta(Config.fromfile(path)).backbone
    stages = [getattr(backbone, name) for name in backbone.res_layers]
    dilations = [[block.conv2.dilation[0] for block in stage] for stage in stages]
    assert dilations == [[1] * 3, [1] * 4, [1] * 23, [1, 2, 4]]
    assert [stage[0].conv2.stride[0] for stage in stages] == [1, 2, 2, 2]
    convolutions = [module for module in backbone.stem if isinstance(module, torch.nn.Conv2d)]
    assert [(conv.out_channels, conv.stride[0]) for conv in convolutions] == [(64, 2), (64, 1), (128, 1)]
    backbone.train()
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 106 and not any(norm.training or norm.weight.requires_grad for norm in norms)
