"""The shipped configs: they build, their parts are ours, and they are short."""

from pathlib import Path

import pytest
import torch
from helpers import official
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

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
    parts = [head, head.classifier, head.criterion, head.criterion.matcher, *head.classifier.children()]
    ours = [part for part in parts if not isinstance(part, torch.nn.Linear)]
    assert all(type(part).__module__.startswith('mmmaskformer.') for part in ours)
    assert head.criterion.matcher.weights == head.criterion.loss_weights
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
def test_class_count_is_not_repeated_in_the_config_file(path):
    lines = [line.strip() for line in path.read_text().splitlines() if 'num_classes' in line]
    semantic = ('model = dict(decode_head=dict(num_classes=_base_.num_classes))',
                'decode_head=dict(num_classes=_base_.num_classes, ignore_index=_base_.ignore_index),')  # fmt: skip
    panoptic = 'panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things)'
    assert len(lines) <= 1 and all(line in semantic or panoptic in line for line in lines)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_config_is_short_and_states_no_size_of_its_dataset_again(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    bases = {line.strip().strip("',").rpartition('/')[2] for line in lines if '_base_/datasets/' in line}
    if 'camvid' not in path.stem:  # small runs with crops of their own
        assert not any('crop_size' in line for line in lines) and len(bases) <= 1


def test_a_crop_size_stands_once_in_each_base():
    """Everything else is computed from it; the sizes of the invented scenes are chosen one by one."""
    for path in BASES:
        code = [line.partition('#')[0] for line in path.read_text().splitlines()]
        stated = [line for line in code if line.startswith('crop_size = (')]
        assert len(stated) <= 1
        for line in stated if 'scenes' not in path.stem else ():
            height = line.split('(')[1].split(',')[0]
            assert sum(f'{height},' in other or f'{height})' in other for other in code) == 1, path


def test_r101c_is_the_published_backbone():
    """The backbone of the config, narrower and less deep, with the weights and features of the published code."""
    case = official.load('backbones')['cases']['resnet50_deeplab_multigrid']
    config = Config.fromfile(CONFIGS / 'ade20k/maskformer_r101c-d32_8xb2-160k_ade20k-512x512.py').model.backbone
    config.pop('init_cfg')
    narrow = dict(depth=50, base_channels=case['config']['base_width'], stem_channels=case['config']['stem_channels'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build(config | narrow).eval()
    stem = {f'stem.conv{index + 1}.': (f'stem.{3 * index}.', f'stem.{3 * index + 1}.') for index in range(3)}
    weights = {}
    for key, value in case['state_dict'].items():
        if key.startswith('stem.'):
            conv, norm = stem[key[:11]]
            weights[key.replace(key[:11] + 'norm.', norm).replace(key[:11], conv)] = value
        else:
            weights[official.our_full_name(f'backbone.{key}').removeprefix('backbone.')] = value
    missing, unexpected = backbone.load_state_dict(weights, strict=False)
    assert not unexpected and all(key.endswith('num_batches_tracked') for key in missing)
    with torch.no_grad():
        features = backbone(case['image'])
    for found, expected in zip(features, case['features'].values(), strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_r101c_dilates_nothing_but_its_last_stage():
    path = CONFIGS / 'cityscapes/maskformer_r101c-d32_8xb2-90k_cityscapes-512x1024.py'
    backbone = build_on_meta(Config.fromfile(path)).backbone
    stages = [getattr(backbone, name) for name in backbone.res_layers]
    dilations = [[block.conv2.dilation[0] for block in stage] for stage in stages]
    assert dilations == [[1] * 3, [1] * 4, [1] * 23, [1, 2, 4]]
    assert [stage[0].conv2.stride[0] for stage in stages] == [1, 2, 2, 2]
    convolutions = [module for module in backbone.stem if isinstance(module, torch.nn.Conv2d)]
    assert [(conv.out_channels, conv.stride[0]) for conv in convolutions] == [(64, 2), (64, 1), (128, 1)]
    assert not any(module.training for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d))
