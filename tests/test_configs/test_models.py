"""The shipped configs: they build, their parts are ours, and they are short."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

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
