"""The kind of a checkpoint is recognised from the names in real models of each kind."""

import pytest
import timm
import torch
from helpers import hosts
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from mmmaskformer.checkpoints.layouts import describe_layout
from mmmaskformer.heads.checkpoint_layouts import require_own_weights

SEMANTIC = ('model.decode_head', 'decode_head.classifier.class_embed.bias')
PANOPTIC = ('model.panoptic_head', 'panoptic_head.classifier.class_embed.bias')
NAMES = {
    "detectron2's MaskFormer, the published one": [
        'backbone.stem.conv1.weight', 'sem_seg_head.pixel_decoder.layer_4.weight',
        'sem_seg_head.predictor.query_embed.weight'],
    "detectron2's Mask2Former": [
        'sem_seg_head.predictor.query_feat.weight', 'sem_seg_head.predictor.query_embed.weight'],
    'a semantic model of detectron2': ['sem_seg_head.predictor2.weight', 'backbone.stem.conv1.weight'],
    "MMDetection's Mask2Former": ['panoptic_head.query_feat.weight', 'panoptic_head.query_embed.weight'],
    "MMSegmentation's Mask2Former": ['decode_head.query_feat.weight', 'decode_head.query_embed.weight'],
    "transformers' MaskFormer": [
        'class_predictor.weight', 'mask_embedder.0.0.weight',
        'model.pixel_level_module.encoder.embeddings.norm.weight'],
    "transformers' Mask2Former": ['class_predictor.weight', 'model.transformer_module.queries_features.weight'],
    'DETR': ['transformer.encoder.layers.0.linear1.weight', 'class_embed.weight', 'bbox_embed.layers.0.weight'],
    'a bare backbone': ['module.layer1.0.conv1.weight', 'module.fc.bias'],
    'a backbone, with the names that it has in a whole model': ['backbone.layer1.0.conv1.weight'],
}  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_names_as_published(name):
    what, _ = describe_layout(NAMES[name])
    assert what.startswith(f'it looks like {name} (')


@pytest.mark.parametrize('model', ['resnet18', 'swin_tiny_patch4_window7_224', 'convnext_atto', 'efficientnet_lite0'])
def test_backbones_of_timm(model):
    with torch.device('meta'):
        keys = timm.create_model(model).state_dict()
    what, fix = describe_layout(keys)
    assert what.startswith('it looks like a bare backbone') and "init_cfg=dict(type='Pretrained'" in fix


def test_models_of_the_hosts():
    segmentor, detector = hosts.make_segmentor(), hosts.make_detector()
    assert describe_layout(segmentor.backbone.state_dict())[0].startswith('it looks like a bare backbone')
    init_default_scope('mmseg')
    head = MODELS.build(dict(type='mmseg.FCNHead', in_channels=8, channels=4, num_classes=3))
    what, _ = describe_layout(f'decode_head.{key}' for key in head.state_dict())
    assert what.startswith('it looks like a model of MMSegmentation with another decode head')
    for model in (segmentor, detector):
        assert 'ShareWeightsHook' in describe_layout(model.state_dict())[1]


def test_nothing_and_something_unknown():
    assert describe_layout([])[0] == 'it holds no weights'
    assert describe_layout(['x.a', 'x.b', 'x.c', 'x.d']) == (
        'its weights are x.a, x.b, x.c and 1 more',
        'use a checkpoint of this model',
    )


def test_one_weight_is_enough():
    require_own_weights(['head.a', 'head.b'], ['head.b', 'other'], 'model.head', ['head.b', 'other'])
    require_own_weights([], ['other'], 'model.head', ['other'])


@pytest.mark.parametrize('panoptic', [False, True])
@pytest.mark.parametrize('strict', [False, True])
def test_every_way_to_load_a_foreign_checkpoint_is_refused(tmp_path, panoptic, strict):
    """`load_checkpoint` is what both hosts' `init_model`, `init_detector` and inferencers call."""
    model = hosts.make_detector() if panoptic else hosts.make_segmentor()
    head, first = PANOPTIC if panoptic else SEMANTIC
    key = head.removeprefix('model.')
    count = len(list(getattr(model, key).parameters()))
    peer = "MMDetection's Ma" if panoptic else "MMSegmentation's Ma"
    none = f'none of the {count} weights of {head} is in it, .* {first}; '
    for name, message in (
        ('backbone.conv1.weight', f"{none}no name begins with '.*_head.'"),
        (f'{key}.query_feat.weight', f'{none}it looks like {peer}sk2Former'),
        (f'{key}.query_embed.weight', f'a.pth: it is {peer}skFormer, and cannot be converted: .*missing'),
    ):
        torch.save(dict(state_dict={name: torch.zeros(3, 2)}), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match=message):
            load_checkpoint(model, str(tmp_path / 'a.pth'), strict=strict)
