"""The shipped configs: they build, their parts are ours, and their size is the published one."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmmaskformer.core.inference.semantic import scores_at_input

CONFIGS = Path(__file__).parents[2] / 'configs'
SHIPPED = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
R50 = 'ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
SWIN_T = 'ade20k/maskformer_swin-t_8xb2-160k_ade20k-512x512.py'
COCO_R50 = 'coco_panoptic/maskformer_r50-6enc_64xb1-554k_coco-panoptic.py'
COCO_SWIN_T = 'coco_panoptic/maskformer_swin-t_64xb1-554k_coco-panoptic.py'
ADE20K_R50 = 'ade20k_panoptic/maskformer_r50-6enc_8xb2-720k_ade20k-panoptic-640x640.py'


def build(config: Config):
    """The model of a config with random weights."""
    init_default_scope(config.default_scope)
    import_module(f'{config.default_scope}.models')
    config = config.copy()
    config.model.backbone.pop('init_cfg', None)
    return MODELS.build(config.model)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_config_builds_from_parts_of_this_package(path):
    config = Config.fromfile(path)
    model = build(config)
    scope, key = ('mmdet', 'panoptic_head') if 'panoptic_head' in config.model else ('mmseg', 'decode_head')
    head = getattr(model, key)
    parts = [head, head.classifier, head.criterion, head.criterion.matcher, *head.classifier.children()]
    ours = [part for part in parts if not isinstance(part, torch.nn.Linear)]
    assert all(type(part).__module__.startswith('mmmaskformer.') for part in ours)
    assert head.criterion.matcher.weights == head.criterion.loss_weights
    assert config.default_scope == scope
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = DATASETS.build(dict(config[loader].dataset, lazy_init=True, pipeline=[]))
        assert len(dataset.metainfo['classes']) == head.num_classes
        if 'isthing' in dataset.metainfo:
            assert head.is_thing.tolist() == [bool(thing) for thing in dataset.metainfo['isthing']]
    if scope == 'mmdet':
        fusion = model.panoptic_fusion_head
        assert fusion.num_classes == head.num_classes and torch.equal(fusion.is_thing, head.is_thing)


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_class_count_is_not_repeated_in_the_config_file(path):
    lines = [line for line in path.read_text().splitlines() if 'num_classes' in line]
    semantic = 'model = dict(decode_head=dict(num_classes=_base_.num_classes))'
    panoptic = 'panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things)'
    assert lines in ([], [semantic]) or (len(lines) == 1 and panoptic in lines[0])
    assert len(path.read_text().splitlines()) < 60


def swin(embed_dims, depths, num_heads, window_size):
    return dict(backbone=dict(embed_dims=embed_dims, depths=depths, num_heads=num_heads, window_size=window_size))


R101C = dict(
    backbone=dict(
        type='ResNetV1c',
        depth=101,
        stem_channels=128,
        multi_grid=(1, 2, 4),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
    )
)
# Changes to a shipped config, exact count, and the count in millions as the paper prints it.
PARAMETERS = {
    'R50': (R50, {}, 41_254_743, 41),
    'R101': (R50, dict(backbone=dict(depth=101)), 60_194_647, 60),
    'R101c': (R50, R101C, 60_318_039, 60),
    'Swin-T': (SWIN_T, {}, 41_757_009, 42),
    'Swin-S': (SWIN_T, swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7), 63_074_913, 63),
    'Swin-B': (SWIN_T, swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 12), 101_829_391, 102),
    'Swin-L': (SWIN_T, swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12), 211_575_627, 212),
    'COCO panoptic R50 + 6 Enc': (COCO_R50, {}, 45_012_038, 45),
    'COCO panoptic R101 + 6 Enc': (COCO_R50, dict(backbone=dict(depth=101)), 63_951_942, 64),
    'COCO panoptic Swin-T': (COCO_SWIN_T, {}, 41_752_640, 42),
    'ADE20K panoptic R50 + 6 Enc': (ADE20K_R50, {}, 45_016_407, 45),
}


def published_model(name):
    base, changes, *_ = PARAMETERS[name]
    config = Config.fromfile(CONFIGS / base)
    config.merge_from_dict(dict(model=changes))
    return build(config)


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameter_count_equals_the_published_one(name):
    *_, exact, printed = PARAMETERS[name]
    count = sum(parameter.numel() for parameter in published_model(name).parameters() if parameter.requires_grad)
    assert count == exact and round(count / 1e6) == printed


@pytest.mark.parametrize('name, published', [('R50', 53), ('R101', 73), ('R101c', 80), ('Swin-T', 55)])
def test_flops_at_the_published_input_equal_the_published_ones(name, published):
    model = published_model(name).eval().to('meta')
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        # With gradients on, as in training, the mask features are made: the plain computation, which the paper counts.
        # A test step needs 7 GFLOP less.
        features = model.extract_feat(torch.zeros(1, 3, 512, 512))
        prediction = model.decode_head.classifier(features, all_layers=False)[-1]
        scores_at_input(prediction.class_logits[0], prediction.mask_logits(0), (512, 512))
    # The counter counts a multiplication and its addition as two.
    assert counter.get_total_flops() / 2e9 == pytest.approx(published, rel=0.02)


def test_panoptic_configs_follow_the_published_recipe():
    coco, swin_t, ade20k = (Config.fromfile(CONFIGS / name) for name in (COCO_R50, COCO_SWIN_T, ADE20K_R50))
    assert coco.model.test_cfg.panoptic == dict(object_threshold=0.8, overlap_threshold=0.8)
    assert ade20k.model.test_cfg.panoptic == dict(object_threshold=0.7, overlap_threshold=0.8)
    assert (coco.model.data_preprocessor.pad_size_divisor, ade20k.model.data_preprocessor.pad_size_divisor) == (1, 32)
    for config, lr, decay, multiplier in (
        (coco, 1e-4, 1e-4, 0.1),
        (swin_t, 6e-5, 0.01, 1.0),
        (ade20k, 1e-4, 1e-4, 0.1),
    ):
        optimizer = config.optim_wrapper.optimizer
        assert (optimizer.lr, optimizer.weight_decay) == (lr, decay)
        assert config.optim_wrapper.paramwise_cfg.backbone_lr_mult == multiplier
        assert config.optim_wrapper.clip_grad.max_norm == 0.01
    assert (coco.train_cfg.max_iters, ade20k.train_cfg.max_iters) == (554_400, 720_000)
    assert 'FPNPixelDecoder' in swin_t.model.panoptic_head.pixel_decoder.type
