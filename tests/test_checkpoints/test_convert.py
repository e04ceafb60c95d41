"""Round trips through every package are exact; missing, unknown or inconvertible weights are errors."""

import pytest
import torch
from helpers.foreign import weights_of

from mmmaskformer.checkpoints.classes import inverse
from mmmaskformer.checkpoints.convert import COUNTER_REASON, convert
from mmmaskformer.checkpoints.key_maps import BOX_REASON
from mmmaskformer.checkpoints.made import position_index
from mmmaskformer.checkpoints.neutral import ConversionError, read_neutral

PACKAGES = ['mmmaskformer', 'mmmaskformer-panoptic', 'mmseg', 'mmdet', 'transformers', 'official']


def equal(one: dict, other: dict) -> bool:
    """Whether two state dicts are bitwise equal."""
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    return all(torch.equal(value, other[name]) and value.dtype == other[name].dtype for name, value in one.items())


@pytest.fixture(scope='module')
def models():
    """Weights of the hosts' models by (package, network, encoder)."""
    cases = [
        ('mmseg', 'resnet', False),
        ('mmdet', 'resnet', True),
        ('mmdet', 'swin', False),
        ('mmseg', 'deeplab', True),
        ('mmdet', 'resnext', True),
    ]
    return {case: weights_of(case[0], case[1], encoder=case[2]) for case in cases}


@pytest.mark.parametrize('target', PACKAGES)
@pytest.mark.parametrize(
    'case',
    [
        ('mmseg', 'resnet', False),
        ('mmdet', 'resnet', True),
        ('mmdet', 'swin', False),
        ('mmseg', 'deeplab', True),
        ('mmdet', 'resnext', True),
    ],
)
def test_round_trips_are_exact(models, case, target):
    source, net, encoder = case
    weights = models[case]
    if target == 'transformers' and (encoder or net == 'deeplab'):
        with pytest.raises(ConversionError, match="transformers' MaskFormer has no place for .* of the weights: .*Fix"):
            convert(weights, source, target)
        return
    there = convert(weights, source, target)
    assert equal(convert(there.weights, target, source).weights, weights)
    # and in the other direction, from the converted file
    again = convert(convert(there.weights, target, source).weights, source, target)
    assert equal(again.weights, there.weights)


def test_dropped_and_computed_weights_have_a_reason(models):
    weights = models['mmdet', 'resnet', True]
    found = convert(weights, 'mmdet', 'official')
    counters = [name for name in weights if name.endswith('num_batches_tracked')]
    assert sorted(found.dropped) == sorted(counters) and set(found.dropped.values()) == {COUNTER_REASON}
    assert list(found.made) == ['criterion.empty_weight']
    assert found.weights['criterion.empty_weight'].tolist() == pytest.approx([1] * 5 + [0.1])
    assert len(found.weights) == len(weights) - len(counters) + 1


@pytest.mark.parametrize('name, what', [
    ('panoptic_head.cls_embed.weight', 'panoptic_head.cls_embed.weight is missing'),
    ('panoptic_head.transformer_decoder.layers.1.norms.2.bias', 'layers.1.norms.2.bias is missing'),
    ('panoptic_head.pixel_decoder.lateral_convs.1.gn.weight', 'lateral_convs.1.gn.weight is missing'),
    ('backbone.stages.1.blocks.0.attn.w_msa.qkv.bias', 'qkv.bias is missing'),
    ('backbone.norm2.weight', 'backbone.norm2.weight is missing'),
])  # fmt: skip
def test_a_missing_weight_is_named(models, name, what):
    weights = dict(models['mmdet', 'swin', False])
    del weights[name]
    with pytest.raises(ConversionError, match=f'{what}.*Fix: copy the file again'):
        convert(weights, 'mmdet', 'mmmaskformer')


def test_any_missing_weight_of_a_model_stops_the_conversion(models):
    weights = models['mmdet', 'swin', False]
    for name in list(weights)[::7]:
        if not name.endswith('relative_position_index'):
            with pytest.raises(ConversionError):
                read_neutral({other: value for other, value in weights.items() if other != name}, 'mmdet')


def test_another_shape_is_named(models):
    weights = dict(models['mmseg', 'resnet', False])
    weights['decode_head.mask_embed.2.weight'] = torch.zeros(31, 32)
    with pytest.raises(ConversionError, match=r'mask_embed.2.weight has the shape \(31, 32\) instead of \(32, 32\)'):
        convert(weights, 'mmseg', 'official')


def test_an_unknown_weight_is_named(models):
    weights = models['mmseg', 'resnet', False] | {'decode_head.extra.weight': torch.zeros(2)}
    with pytest.raises(ConversionError, match="1 of its .* weights are not part of MMSegmentation's .*extra.weight"):
        convert(weights, 'mmseg', 'official')


def test_head_and_backbone_must_be_of_one_model(models):
    head = {k: v for k, v in models['mmdet', 'swin', False].items() if k.startswith('panoptic_head')}
    backbone = {k: v for k, v in models['mmdet', 'resnet', True].items() if k.startswith('backbone')}
    with pytest.raises(
        ConversionError, match=r'takes features of \(8, 16, 32, 64\) channels, but the backbone has \(4, 8'
    ):
        convert(head | backbone, 'mmdet', 'official')


def test_a_part_of_a_joined_weight_must_not_be_missing(models):
    weights = convert(models['mmdet', 'swin', False], 'mmdet', 'transformers').weights
    del weights['model.transformer_module.decoder.layers.0.encoder_attn.k_proj.bias']
    with pytest.raises(ConversionError, match=r"consists of 3 weights of the source, of which \['k'\] are missing"):
        convert(weights, 'transformers', 'mmdet')


def test_released_and_new_names_of_the_published_code_are_the_same(models):
    released = convert(models['mmdet', 'resnet', True], 'mmdet', 'official').weights
    new = {
        'module.' + (f'sem_seg_head.pixel_decoder.{name.removeprefix("sem_seg_head.")}'
                     if name.startswith('sem_seg_head.') and 'predictor' not in name else name): value
        for name, value in released.items()
    }  # fmt: skip
    assert sum('pixel_decoder' in name for name in new) > 20
    assert equal(convert(new, 'official', 'mmdet').weights, convert(released, 'official', 'mmdet').weights)
    with pytest.raises(ConversionError, match='both denote the weight'):
        convert(released | new, 'official', 'mmdet')


def test_classes_are_permuted_and_no_object_stays_last(models):
    weights, order = models['mmdet', 'resnet', True], [3, 0, 4, 1, 2]
    found = convert(weights, 'mmdet', 'mmmaskformer', permutation=order).weights
    rows = weights['panoptic_head.cls_embed.weight']
    assert torch.equal(found['decode_head.classifier.class_embed.weight'], rows[[3, 0, 4, 1, 2, 5]])
    assert equal(convert(found, 'mmmaskformer', 'mmdet', permutation=inverse(order)).weights, weights)


def test_a_backbone_without_a_table_is_copied_between_packages_with_the_hosts_backbones(models):
    weights = models['mmseg', 'resnet', False]
    weights = {name.replace('backbone.layer', 'backbone.timm_model.layer'): value for name, value in weights.items()}
    found = convert(weights, 'mmseg', 'mmmaskformer')
    assert 'a backbone without a table' in found.architecture.describe()
    assert equal(convert(found.weights, 'mmmaskformer', 'mmseg').weights, weights)
    with pytest.raises(ConversionError, match='has no place for .*timm_model'):
        convert(weights, 'mmseg', 'official')


def test_a_backbone_with_the_names_of_a_resnet_and_other_shapes_is_passed_on(models):
    """As for a RegNet. A ResNet with only one damaged weight is not another backbone, and is refused."""
    weights = models['mmdet', 'resnet', True]
    wide = {}
    for name, value in weights.items():
        other = name.startswith('backbone.layer2.') and value.dim() > 0
        wide[name] = torch.cat((value, value[:1])) if other else value
    found = convert(wide, 'mmdet', 'mmmaskformer')
    assert 'a backbone without a table' in found.architecture.describe()
    assert equal(convert(found.weights, 'mmmaskformer', 'mmdet').weights, wide)
    with pytest.raises(ConversionError, match='has no place for the backbone. It is a backbone without a table'):
        convert(wide, 'mmdet', 'official')
    name = 'backbone.layer2.0.conv1.weight'
    with pytest.raises(ConversionError, match=f'{name} has the shape'):
        convert(weights | {name: wide[name]}, 'mmdet', 'mmmaskformer')


def test_the_box_head_of_a_model_matched_by_boxes_is_dropped_with_the_reason(models):
    weights = convert(models['mmseg', 'resnet', False], 'mmseg', 'mmmaskformer').weights
    shapes = [(32, 32), (32, 32), (4, 32)]
    boxes = {
        f'decode_head.classifier.box_embed.layers.{layer}.{name}': torch.ones(shape if name == 'weight' else shape[:1])
        for layer, shape in enumerate(shapes)
        for name in ('weight', 'bias')
    }
    for target in PACKAGES:
        found = convert(weights | boxes, 'mmmaskformer', target)
        assert {name for name, reason in found.dropped.items() if reason == BOX_REASON} == set(boxes)
        assert equal(found.weights, convert(weights, 'mmmaskformer', target).weights)


@pytest.mark.parametrize('window', [3, 7, 12])
def test_the_position_index_equals_swins(window):
    from mmseg.models.backbones.swin import WindowMSA

    expected = WindowMSA(4, 1, (window, window)).relative_position_index
    assert torch.equal(position_index(window), expected)
