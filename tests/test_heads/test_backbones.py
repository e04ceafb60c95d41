"""What a head derives from the backbone and neck."""

import copy
import gc

import pytest
import torch
from helpers import hosts
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from mmmaskformer.core.modeling.feature_pyramid import FeatureMapError
from mmmaskformer.heads.features import OneMapError, feature_maps, measure, misfit

LEFT_OUT = dict(in_channels=None, feature_strides=None)
VIT = dict(type='VisionTransformer', img_size=(64, 96), embed_dims=16, num_layers=4, num_heads=2)
UNET = dict(
    type='UNet', base_channels=4, num_stages=3, strides=(1, 1, 1), enc_num_convs=(1,) * 3, dec_num_convs=(1,) * 2,
    downsamples=(True,) * 2, enc_dilations=(1,) * 3, dec_dilations=(1,) * 2,
)  # fmt: skip
DDRNET = dict(type='DDRNet', channels=4, ppm_channels=8, norm_cfg=dict(type='BN'))
ERFNET = dict(type='ERFNet', enc_downsample_channels=(4, 8, 16), enc_non_bottleneck_channels=(8, 16),
              dec_upsample_channels=(8, 4), dec_non_bottleneck_channels=(8, 4))  # fmt: skip
FLOOR = dict(type='TIMMBackbone', model_name='convnext_atto', features_only=True, pretrained=False)
SWIN = dict(FLOOR, model_name='swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1), embed_dim=24, img_size=64)


@pytest.fixture
def logged(monkeypatch):
    """Log messages of the head."""
    messages = []
    monkeypatch.setattr('mmmaskformer.heads.feature_input.print_log', lambda text, **_: messages.append(text))
    return messages


def segmentor(backbone=None, neck=None, **head):
    from mmengine.registry import init_default_scope

    init_default_scope('mmseg')
    torch.manual_seed(0)
    config = dict(type='EncoderDecoder', data_preprocessor=dict(hosts.PREPROCESSOR, test_cfg=None), neck=neck)
    config |= dict(backbone=backbone or hosts.TINY_RESNET, decode_head=hosts.head_config(**LEFT_OUT | head))
    return MODELS.build(ConfigDict(config, train_cfg=dict(), test_cfg=dict(mode='whole')))


def train_and_predict(model, train_size=(64, 96), test_size=(65, 97)):
    data = [hosts.make_sample(train_size, seed=seed) for seed in range(2)]
    data = dict(inputs=[image for image, _ in data], data_samples=[sample for _, sample in data])
    sum(model.train().loss(**model.data_preprocessor(data, training=True)).values()).backward()
    gradients = [parameter.grad for parameter in model.decode_head.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    image, sample = hosts.make_sample(test_size)
    with torch.no_grad():
        result = model.eval().test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert tuple(result.pred_sem_seg.shape) == test_size


def test_a_model_is_measured_once(logged):
    """mmengine reassigns every module when it searches for synchronised norms."""
    revert_sync_batchnorm(segmentor())
    assert [text for text in logged if 'measured' in text] == logged and len(logged) == 1


def test_measured_channels_and_strides_give_the_model_of_written_ones():
    measured, written = segmentor(), segmentor(in_channels=[4, 8, 16, 32], feature_strides=[4, 8, 16, 32])
    assert measured.decode_head.in_channels == [4, 8, 16, 32]
    assert measured.decode_head.feature_strides == [4, 8, 16, 32]
    state, expected = measured.state_dict(), written.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)


def test_measured_in_the_detector_too():
    model = hosts.make_detector(**LEFT_OUT)
    assert model.panoptic_head.in_channels == [4, 8, 16, 32]
    expected = hosts.make_detector().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_measuring_changes_nothing():
    backbone = dict(hosts.TINY_RESNET, norm_eval=False)
    torch.manual_seed(0)
    alone = MODELS.build(dict(backbone, _scope_='mmseg'))
    following = torch.rand(1)
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = MODELS.build(dict(backbone, _scope_='mmseg'))
    model.extract_feat = model.backbone
    model.backbone.layer1.eval()
    modes = [module.training for module in model.modules()]
    measure(model, 'model.decode_head')
    assert torch.equal(torch.rand(1), following)
    assert [module.training for module in model.modules()] == modes
    expected = alone.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_weights_are_there_for_optimiser_copies_and_checkpoints():
    model = segmentor()
    assert not any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    in_head = {id(parameter) for parameter in model.decode_head.parameters()}
    optimizer = torch.optim.SGD(model.parameters())
    assert in_head <= {id(parameter) for parameter in optimizer.param_groups[0]['params']} and len(in_head) > 50


def test_an_image_of_more_bands_is_measured():
    model = segmentor(dict(hosts.TINY_RESNET, in_channels=5))
    assert model.decode_head.in_channels == [4, 8, 16, 32]


def test_a_model_on_the_meta_device_is_measured():
    with torch.device('meta'):
        model = segmentor()
    assert model.decode_head.feature_strides == [4, 8, 16, 32]


def test_a_head_without_a_model_needs_its_channels():
    head = MODELS.build(ConfigDict(hosts.head_config(**LEFT_OUT)))
    with pytest.raises(ValueError, match='decode_head.in_channels is not set, but the head is not part of a model'):
        head([torch.randn(1, 4, 8, 8)])
    with pytest.raises(
        ValueError, match='in_channels is not set, but ModuleList has no backbone.*Fix: set in_channels'
    ):
        nn.ModuleList([head])
    head = MODELS.build(ConfigDict(hosts.head_config(feature_strides=None)))
    assert nn.ModuleList([head])[0].feature_strides == [4, 8, 16, 32]


def test_heads_are_not_kept_alive():
    before = sum(type(x).__name__ == 'MaskFormerHead' for x in gc.get_objects())
    segmentor()
    gc.collect()
    assert sum(type(x).__name__ == 'MaskFormerHead' for x in gc.get_objects()) <= before


@pytest.mark.parametrize('test_size', [(65, 97), (63, 99), (3, 40)])
def test_sizes_that_the_backbone_rounds_down(test_size):
    model = segmentor(dict(FLOOR, dims=(8, 12, 16, 20), depths=(1, 1, 1, 1)))
    if min(test_size) < 32:
        model.data_preprocessor.test_cfg = dict(size_divisor=32)
    train_and_predict(model, test_size=test_size)
    finest = model.extract_feat(torch.randn(1, 3, 65, 99))[0]
    assert tuple(finest.shape[-2:]) == (16, 24)
    sizes = dict(head='model.decode_head', sliding=False)
    find = model.decode_head.feature_input.input_size
    assert find([dict(pad_shape=(65, 99), img_shape=(64, 96))], finest, **sizes) == (65, 99)
    assert find([dict(pad_shape=(65, 99), img_shape=(64, 96))], finest, 'model', sliding=True) == (64, 96)
    assert find([dict()], finest, **sizes) == (64, 96)


def test_a_head_that_was_not_measured_takes_sizes_rounded_either_way():
    head = MODELS.build(ConfigDict(hosts.head_config())).eval()
    for sizes in ([(16, 24), (8, 12), (4, 6), (2, 3)], [(17, 25), (9, 13), (5, 7), (3, 4)]):
        features = [torch.randn(1, c, *size) for c, size in zip(head.in_channels, sizes, strict=True)]
        with torch.no_grad():
            assert head.predict(features, [dict(img_shape=(65, 99))]).shape[-2:] == (65, 99)


def test_coarsest_first_is_sorted():
    model = segmentor(UNET)
    assert model.decode_head.in_channels == [4, 8, 16] and model.decode_head.feature_strides == [1, 2, 4]
    written = segmentor(UNET, in_channels=[16, 8, 4], feature_strides=[4, 2, 1])
    expected = written.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    train_and_predict(model, test_size=(64, 96))
    assert model(torch.randn(1, 3, 64, 96), mode='tensor')[1].shape[-2:] == (64, 96)
    message = r'strides \[4, 2, 1\] with .*, but the head has feature_strides=\[4, 8, 16\]. Fix: set .*=\[4, 2, 1\], or'
    with pytest.raises(ValueError, match=message):
        segmentor(UNET, in_channels=[16, 8, 4], feature_strides=[4, 8, 16])


def test_channels_last_features_are_permuted():
    model = segmentor(SWIN)
    assert model.extract_feat(torch.randn(1, 3, 64, 64))[0].shape == (1, 16, 16, 24)
    assert model.decode_head.in_channels == [24, 48, 96, 192]
    train_and_predict(model, train_size=(64, 64), test_size=(64, 64))
    alone = MODELS.build(ConfigDict(hosts.head_config(in_channels=[24, 48, 96, 192])))
    features = model.extract_feat(torch.randn(1, 3, 64, 64))
    expected = [feature.permute(0, 3, 1, 2) for feature in features]
    for head in (model.decode_head, alone):
        assert all(torch.equal(a, b) for a, b in zip(head.prepare(features), expected, strict=True))


def test_a_plain_vit_is_measured_and_its_coarse_masks_are_reported(logged):
    message = (
        r'VisionTransformer returns .* strides \[16, 16, 16, 16\] with .*, but .* feature_strides=\[4, 8, 16, 32\]'
    )
    backbone = dict(VIT, out_indices=(0, 1, 2, 3))
    with pytest.raises(ValueError, match=message):
        segmentor(backbone, in_channels=[16] * 4, feature_strides=[4, 8, 16, 32])
    assert segmentor(backbone).decode_head.feature_strides == [16] * 4
    assert logged[0] == f'model.decode_head: measured features of channels {[16] * 4} and strides {[16] * 4}.'
    assert 'the masks, have stride 16' in logged[1] and 'mmmaskformer.SimpleFeaturePyramid' in logged[1]


@pytest.mark.parametrize(
    'neck',
    [
        dict(type='mmmaskformer.SimpleFeaturePyramid', in_channels=16, out_channels=12),
        dict(type='MultiLevelNeck', in_channels=[16] * 4, out_channels=12, scales=[4, 2, 1, 0.5]),
        dict(type='Feature2Pyramid', embed_dim=16, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
    ],
    ids=lambda neck: neck['type'],
)
def test_plain_vits_work_through_necks(neck):
    one = neck['type'].startswith('mmmaskformer')
    model = segmentor(dict(VIT, out_indices=3 if one else (0, 1, 2, 3)), neck)
    assert model.decode_head.feature_strides == [4, 8, 16, 32]
    train_and_predict(model)


def test_the_neck_suggested_for_one_map_works():
    for backbone, bare in ((DDRNET, True), (ERFNET, False), (dict(VIT, out_indices=3), False)):
        with pytest.raises(OneMapError, match='returns one feature map') as error:
            segmentor(backbone, in_channels=[4, 8], feature_strides=[4, 8])
        assert ('in evaluation' in str(error.value)) == bare
        model = segmentor(backbone, dict(error.value.neck, out_channels=12))
        assert model.decode_head.feature_strides == [4, 8, 16, 32]
        train_and_predict(model, test_size=(64, 96))


def test_a_neck_that_does_not_fit_raises_its_own_error():
    neck = dict(type='mmmaskformer.SimpleFeaturePyramid', in_channels=17)
    with pytest.raises(FeatureMapError, match=r'^SimpleFeaturePyramid takes a map \(B, 17, h, w\) with .*Fix'):
        segmentor(dict(VIT, out_indices=3), neck)


def test_features_that_are_not_maps_are_named():
    with pytest.raises(ValueError, match=r'feature 0 of VisionTransformer is a list of 2, .*output_cls_token=False'):
        segmentor(dict(VIT, out_indices=(0, 1, 2, 3), output_cls_token=True))
    with pytest.raises(ValueError, match=r'feature 0 of Logits is a tensor of shape \(1, 1000\).*features_only=True'):
        feature_maps(torch.zeros(1, 1000), (32, 32), 'Logits', 'head')
    with pytest.raises(ValueError, match=r"dict of features with the keys \['a', 'b'\]"):
        feature_maps(dict(a=torch.zeros(1, 4, 8, 8), b=torch.zeros(1, 4, 4, 4)), (32, 32), 'Dicts', 'head')
    head = MODELS.build(ConfigDict(hosts.head_config()))
    with pytest.raises(ValueError, match='feature 0 of the backbone is a list of 2'):
        head([[torch.zeros(1, 4, 8, 8), torch.zeros(1, 4)]])
    with pytest.raises(ValueError, match=r'one tensor \(1, 4, 8, 8\); model.decode_head needs a list.*Fix: add a neck'):
        head(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match='feature 1 of Odd is a NoneType; expected a map'):
        feature_maps([torch.zeros(1, 4, 8, 8), None], (32, 32), 'Odd', 'head')


class FailingBackbone(nn.Module):
    """Accepts no image at all."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        raise RuntimeError(f'no image of {tuple(x.shape)}')


def test_a_backbone_that_cannot_be_measured(logged):
    message = (
        r'FailingBackbone could not be measured.*RuntimeError: no image of \(1, 3, 128, 192\). Fix: .* set model.decode'
    )
    with pytest.raises(ValueError, match=message):
        segmentor(dict(type=FailingBackbone))
    model = segmentor(dict(type=FailingBackbone), in_channels=[4, 8])
    assert model.decode_head.feature_strides == [4, 8]
    assert len(logged) == 1 and logged[0].startswith('model.decode_head is not checked at start-up: the features of')


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((1, 5, 32, 48), (5, 4, False)),
        ((1, 32, 48, 5), (5, 4, True)),
        ((1, 5, 31, 47), (5, 4, False)),
        ((1, 5, 9, 13), (5, 16, False)),
        ((1, 5, 10, 14), (5, 13, False)),
        ((1, 5, 8, 13), (5, 16, False)),
        ((1, 5, 8, 12), (5, 16, False)),
        ((1, 5, 2, 3), (5, 64, False)),
    ],
)
def test_layout_and_stride_of_a_feature(shape, expected):
    pair = [torch.zeros(shape), torch.zeros(1, 1, 1, 1)]
    assert tuple(feature_maps(pair, (128, 192), 'Backbone', 'head')[0][:3]) == expected


def test_misfit_counts_pixels_of_the_feature():
    assert misfit((65, 99), (16, 24), 4) == 0.75 and misfit((65, 99), (17, 25), 4) == 0.75
    assert misfit((64, 96), (8, 12), 4) == 12
