"""The head in MMSegmentation's stock `EncoderDecoder`."""

import copy

import pytest
import torch
from helpers import hosts
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict

from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import general_scores, semantic_inference
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import IGNORED
from mmmaskformer.core.training.targets import semantic_targets
from mmmaskformer.heads.data_samples import targets_from_seg_samples


def scores_of(prediction, input_size, image_size=None, out_size=None):
    """Scores of the first image, computed by the core alone."""
    image_size = image_size or input_size
    masks = QueryMasks.of_logits(prediction.mask_logits(0), tuple(input_size), image_size, out_size or image_size)
    return semantic_inference(prediction.class_logits[0], masks)


def batch(*sizes, **meta):
    pairs = [hosts.make_sample(size, seed=i, **meta) for i, size in enumerate(sizes)]
    return dict(inputs=[image for image, _ in pairs], data_samples=[sample for _, sample in pairs])


def test_loss_equals_the_core_on_a_batch_of_mixed_sizes():
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96), (50, 70)), training=True)
    assert data['inputs'].shape == (2, 3, 64, 96)
    losses = model.loss(**data)
    head = model.decode_head
    predictions = head.classifier(model.extract_feat(data['inputs']), all_layers=True)
    labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    expected = head.criterion(predictions, semantic_targets(labels, num_classes=5))
    assert set(losses) == {f'decode.{key}' for key in expected}
    for key, value in expected.items():
        torch.testing.assert_close(losses[f'decode.{key}'], value)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(expected.values()))


def test_padding_is_ignored_in_the_labels_of_smaller_images():
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96), (50, 70)), training=True)
    padded = data['data_samples'][1].gt_sem_seg.data[0]
    assert (padded[50:] == 255).all() and (padded[:, 70:] == 255).all()


@pytest.mark.parametrize('size, original', [((64, 96), (64, 96)), ((75, 107), (113, 160)), ((94, 126), (47, 63))])
@torch.no_grad()
def test_predict_equals_the_core_at_the_original_size(size, original):
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch(size, ori_shape=original))
    result = model.predict(**data)[0]
    prediction = model.decode_head.classifier(model.extract_feat(data['inputs']), all_layers=False)[0]
    expected = scores_of(prediction, data['inputs'].shape[-2:], size, original)
    torch.testing.assert_close(result.seg_logits.data, expected)
    assert torch.equal(result.pred_sem_seg.data[0], expected.argmax(0))


@torch.no_grad()
def test_a_test_batch_of_mixed_sizes_gives_each_image_its_own_size():
    model = hosts.make_segmentor()
    results = model.test_step(batch((64, 96), (50, 70)))
    assert [tuple(result.pred_sem_seg.shape) for result in results] == [(64, 96), (50, 70)]
    images = [image for image, _ in (hosts.make_sample((64, 96)), hosts.make_sample((50, 70), seed=1))]
    preprocessor = model.data_preprocessor
    for image, result in zip(images, results, strict=True):
        normalised = (image[[2, 1, 0]].float() - preprocessor.mean) / preprocessor.std
        padded = torch.zeros(1, 3, 64, 96)
        padded[0, :, : image.shape[1], : image.shape[2]] = normalised
        prediction = model.decode_head.classifier(model.extract_feat(padded), all_layers=False)[0]
        size = tuple(image.shape[1:])
        expected = scores_of(prediction, (64, 96), size)
        torch.testing.assert_close(result.seg_logits.data, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_switch_gives_general_inference():
    model = hosts.make_segmentor(test_cfg=dict(mode='whole', inference='general', object_threshold=0.1))
    data = model.data_preprocessor(batch((64, 96)))
    found = model.predict(**data)[0].seg_logits.data
    prediction = model.decode_head.classifier(model.extract_feat(data['inputs']), all_layers=False)[0]
    masks = QueryMasks.of_logits(prediction.mask_logits(0), (64, 96), (64, 96), (64, 96))
    torch.testing.assert_close(found, general_scores(prediction.class_logits[0], masks.logits(), 0.1))
    assert found.any()
    model.test_cfg.inference = 'panoptic'
    with pytest.raises(ValueError, match=r"model.test_cfg.inference: found 'panoptic', expected 'semantic' or"):
        model.predict(**data)


@torch.no_grad()
def test_slide_mode_averages_the_windows():
    model = hosts.make_segmentor(test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 48)))
    data = model.data_preprocessor(batch((96, 130)))
    found = model.predict(**data)[0].seg_logits.data
    inputs = data['inputs']
    total, count = torch.zeros(5, *inputs.shape[-2:]), torch.zeros(inputs.shape[-2:])
    lefts = sorted({min(x, inputs.shape[-1] - 64) for x in (0, 48, 96)})
    for top in (0, 32):
        for left in lefts:
            window = inputs[..., top : top + 64, left : left + 64]
            prediction = model.decode_head.classifier(model.extract_feat(window), all_layers=False)[0]
            total[:, top : top + 64, left : left + 64] += scores_of(prediction, (64, 64))
            count[top : top + 64, left : left + 64] += 1
    torch.testing.assert_close(found, (total / count)[:, :96, :130])


@torch.no_grad()
def test_slide_windows_of_odd_size_keep_their_size():
    model = hosts.make_segmentor(test_cfg=dict(mode='slide', crop_size=(61, 67), stride=(40, 40)))
    model.data_preprocessor.test_cfg = None
    result = model.test_step(batch((62, 100)))[0]
    assert tuple(result.pred_sem_seg.shape) == (62, 100)


@torch.no_grad()
def test_tensor_mode_gives_the_raw_outputs():
    model = hosts.make_segmentor()
    class_logits, mask_logits = model(torch.randn(2, 3, 75, 107), mode='tensor')
    assert class_logits.shape == (2, 7, 6) and mask_logits.shape == (2, 7, 19, 27)


@torch.no_grad()
def test_predict_without_data_samples():
    model = hosts.make_segmentor()
    result = model.predict(torch.randn(1, 3, 64, 70))[0]
    assert tuple(result.pred_sem_seg.shape) == (64, 70)


@torch.no_grad()
def test_a_single_class_is_always_class_0():
    model = hosts.make_segmentor(num_classes=1)
    assert not model.test_step(batch((64, 96), num_classes=1))[0].pred_sem_seg.data.any()


BACKBONES = {
    'ResNet': (dict(type='ResNet', depth=18, base_channels=4, stem_channels=8), [4, 8, 16, 32]),
    'ResNetV1c': (dict(type='ResNetV1c', depth=50, base_channels=4, stem_channels=8), [16, 32, 64, 128]),
    'Swin': (
        dict(type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=3),
        [8, 16, 32, 64],
    ),
    'MiT': (
        dict(type='MixVisionTransformer', embed_dims=4, num_layers=[1] * 4, num_heads=[1, 2, 4, 8]),
        [4, 8, 16, 32],
    ),
    'ConvNeXt through timm': (
        dict(type='TIMMBackbone', model_name='convnext_atto', features_only=True, pretrained=False),
        [40, 80, 160, 320],
    ),
    'EfficientNet through timm': (
        dict(
            type='TIMMBackbone',
            model_name='tf_efficientnet_lite0',
            features_only=True,
            pretrained=False,
            out_indices=(1, 2, 3, 4),
        ),
        [24, 40, 112, 320],
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_train_and_predict(name):
    backbone, in_channels = BACKBONES[name]
    model = hosts.make_segmentor(backbone, in_channels=in_channels)
    losses = model.loss(**model.data_preprocessor(batch((64, 96), (64, 80)), training=True))
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.decode_head.parameters())
    assert any(parameter.grad.any() for parameter in model.backbone.parameters() if parameter.grad is not None)
    with torch.no_grad():
        result = model.test_step(batch((75, 107)))[0]
    assert tuple(result.pred_sem_seg.shape) == (75, 107) and result.pred_sem_seg.data.max() < 5


def test_other_strides_are_allowed_if_set():
    dilated = dict(hosts.TINY_RESNET, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    model = hosts.make_segmentor(dilated, feature_strides=[4, 8, 8, 8])
    with torch.no_grad():
        assert tuple(model.test_step(batch((75, 107)))[0].pred_sem_seg.shape) == (75, 107)
    features = model.extract_feat(torch.randn(1, 3, 64, 96))
    head = MODELS.build(ConfigDict(hosts.head_config(feature_strides=[4, 8, 16, 32])))
    message = r'feature 2 .*strides of about \[4, 8, 8, 8\].*feature_strides=\[4, 8, 16, 32\]. Fix'
    with pytest.raises(ValueError, match=message):
        head(features)
    message = r'ResNet returns .* strides \[4, 8, 8, 8\] .*=\[4, 8, 16, 32\]. Fix: set .*feature_strides=\[4, 8, 8, 8\]'
    with pytest.raises(ValueError, match=message):
        hosts.make_segmentor(dilated, feature_strides=[4, 8, 16, 32])


def test_strides_that_are_all_wrong_by_one_factor_are_found():
    with pytest.raises(
        ValueError, match=r'strides \[4, 8, 16, 32\] with .* but the head has feature_strides=\[2, 4, 8, 16\]'
    ):
        hosts.make_segmentor(feature_strides=[2, 4, 8, 16])
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    features = model.extract_feat(data['inputs'])
    head = MODELS.build(ConfigDict(hosts.head_config(feature_strides=[2, 4, 8, 16])))
    message = r'is \(16, 24\) for an input of \(64, 96\), a stride of about 4; the head has feature_strides\[0\]=2. Fix'
    with pytest.raises(ValueError, match=message):
        head.loss(features, data['data_samples'])
    with pytest.raises(ValueError, match=message), torch.no_grad():
        head.predict(features, [dict(img_shape=(64, 96))])


@pytest.mark.filterwarnings('ignore:an image has')
def test_847_classes_with_their_own_ignored_label():
    model = hosts.make_segmentor(num_classes=847, ignore_index=65535)
    model.data_preprocessor.seg_pad_val = 65535
    image, sample = hosts.make_sample((50, 70), num_classes=847)
    sample.gt_sem_seg.data[sample.gt_sem_seg.data == 255] = 65535
    expected = sorted(set(sample.gt_sem_seg.data.unique().tolist()) - {65535})
    assert max(expected) > 255
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), training=True)
    target = targets_from_seg_samples(data['data_samples'], num_classes=847, ignore_index=65535)[0]
    assert target.labels.tolist() == expected and (target.segment_map[50:] == IGNORED).all()
    sum(model.loss(**data).values()).backward()
    with torch.no_grad():
        result = model.test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert tuple(result.seg_logits.data.shape) == (847, 50, 70)


def test_wrong_in_channels_are_named_with_the_right_ones():
    head = MODELS.build(ConfigDict(hosts.head_config(in_channels=[4, 8, 16, 64])))
    features = hosts.make_segmentor().extract_feat(torch.randn(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r'channels \[4, 8, 16, 32\], but the head has in_channels=\[4, 8, 16, 64\]'):
        head(features)
    message = (
        r'ResNet returns 4 features of strides \[4, 8, 16, 32\] with channels \[4, 8, 16, 32\], but the head has '
        r'in_channels=\[4, 8, 16, 64\]. Fix: set model.decode_head.in_channels=\[4, 8, 16, 32\]'
    )
    with pytest.raises(ValueError, match=message):
        hosts.make_segmentor(in_channels=[4, 8, 16, 64])


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(num_querys=5), "MaskFormerHead does not take the key 'num_querys'. Did you mean 'num_queries'"),
        (
            dict(pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_group=4)),
            r"pixel_decoder \(FPNPixelDecoder\) does not take the key 'norm_group'. Did you mean 'norm_groups'",
        ),
        (
            dict(criterion=dict(type='mmmaskformer.SetCriterion', num_classes=5)),
            "'num_classes' follows from the head's own settings; remove it here",
        ),
        (dict(matcher='HungarianMatcher'), "matcher must be a dict with a 'type'"),
    ],
)
def test_unknown_keys_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        MODELS.build(ConfigDict(hosts.head_config(**changes)))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(num_classes=0), 'num_classes: found 0, expected a whole number of at least 1'),
        (dict(in_channels=[4, 8, 16], feature_strides=[4, 8, 16, 32]), 'differ in length'),
        (dict(on_class_mismatch='ignore'), "'error' or 'reinit'"),
        (dict(init_cfg=dict(type='Xavier', layer='Conv2d')), "type='Xavier' would overwrite the published init"),
        (dict(num_queries=0), 'num_queries: found 0'),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(ConfigDict(hosts.head_config(**changes)))


def test_parts_come_from_our_package_with_or_without_prefix():
    head = MODELS.build(ConfigDict(hosts.head_config(pixel_decoder=dict(type='FPNPixelDecoder', norm_groups=4))))
    assert type(head.classifier.pixel_decoder).__module__ == 'mmmaskformer.core.modeling.pixel_decoder'
    with pytest.raises(KeyError, match="pixel_decoder: type='PixelDecoder' is not registered"):
        MODELS.build(ConfigDict(hosts.head_config(pixel_decoder=dict(type='PixelDecoder'))))


def test_building_does_not_change_the_config():
    config = ConfigDict(hosts.head_config())
    before = copy.deepcopy(config)
    MODELS.build(config)
    assert config == before


def test_labels_outside_the_class_list_name_their_file():
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96), (64, 96)), training=True)
    data['data_samples'][1].gt_sem_seg.data[0, 0, 0] = 9
    data['data_samples'][1].set_metainfo(dict(seg_map_path='labels/bad.png'))
    with pytest.raises(ValueError, match=r'^labels/bad.png: label ids \[9\] are outside.*0 to 4, or 255.*Fix'):
        model.loss(**data)


def test_missing_ground_truth_names_the_file_and_the_loader():
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    del data['data_samples'][0].gt_sem_seg
    with pytest.raises(KeyError, match="labels/a.png: the data sample has no 'gt_sem_seg'.*LoadSegAnnotations"):
        model.loss(**data)


def test_non_finite_logits_name_iteration_and_layer():
    from mmengine.logging import MessageHub

    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    torch.nn.init.constant_(model.decode_head.classifier.class_embed.bias, float('nan'))
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 41)
    with pytest.raises(NonFiniteLogitsError, match='iteration 42, decoder layer 1 of 2, image 0.*class logits'):
        model.loss(**data)
    hub.update_info('iter', 0)


def test_a_checkpoint_of_another_class_count_is_refused():
    source = hosts.make_segmentor(num_classes=8)
    with pytest.raises(ValueError, match=r'is for 8 classes, but the model has num_classes=5. Fix: set num_classes=8'):
        load_state_dict(hosts.make_segmentor(), source.state_dict(), strict=False)


def test_a_checkpoint_of_another_class_count_can_be_fine_tuned():
    source, target = hosts.make_segmentor(num_classes=8), hosts.make_segmentor(on_class_mismatch='reinit')
    for parameter in source.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    fresh = target.decode_head.classifier.class_embed.weight.clone()
    load_state_dict(target, source.state_dict(), strict=True)
    assert torch.equal(target.decode_head.classifier.class_embed.weight, fresh)
    assert (target.decode_head.classifier.transformer_decoder.query_embed.weight == 0.5).all()


def test_saved_equals_loaded():
    source, target = hosts.make_segmentor(), hosts.make_segmentor()
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    target.load_state_dict(source.state_dict())
    with torch.no_grad():
        found, expected = (model.test_step(batch((64, 96)))[0].seg_logits.data for model in (target, source))
    assert torch.equal(found, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_trains_and_predicts(dtype):
    model = hosts.make_segmentor()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    with torch.autocast('cpu', dtype=dtype):
        losses = model.loss(**data)
        with torch.no_grad():
            half = model.test_step(batch((64, 96)))[0].seg_logits.data
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    with torch.no_grad():
        full = model.test_step(batch((64, 96)))[0].seg_logits.data
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.05)


@torch.no_grad()
def test_prediction_in_evaluation_mode_fuses_and_leaves_the_model_as_it_was():
    model = hosts.make_segmentor()
    head, seen = model.decode_head, []
    pixel_decoder = head.classifier.pixel_decoder
    pixel_decoder.register_forward_hook(lambda module, *_: seen.append(module.is_fused))
    features = model.extract_feat(torch.rand(1, 3, 64, 96))
    before = head(features)
    fused = model.test_step(batch((64, 96)))[0].seg_logits.data
    assert seen == [False, True] and not pixel_decoder.is_fused
    assert all(torch.equal(a, b) for a, b in zip(head(features), before, strict=True))
    head.classifier.train()  # as for dropout at test time
    plain = model.test_step(batch((64, 96)))[0].seg_logits.data
    assert seen == [False, True, False, False]
    torch.testing.assert_close(fused, plain)


EARLIER_STATE = {
    '_absent', '_absent_in_model', '_classifier_settings', '_is_init', '_loaded_apart', 'deep_supervision',
    'feature_input', 'ignore_index', 'init_cfg', 'num_classes', 'on_class_mismatch', 'out_channels',
    'box_loss', 'class_mean_over_ranks', 'ignore_in_loss', 'loss_weights', 'no_object_weight', 'uses_boxes',
    '_reshaped',
}  # fmt: skip
"""Attributes of heads, criteria and hooks in models that earlier versions pickled whole, with ``torch.save(model)``."""


def test_a_model_pickled_whole_by_an_earlier_version_still_works():
    model = hosts.make_segmentor()
    expected = model.predict(**model.data_preprocessor(batch((64, 96))))[0].seg_logits.data
    (watch,) = {hook.__self__ for hook in model._load_state_dict_post_hooks.values()}
    for part in (model.decode_head, model.decode_head.criterion, watch):
        for name in set(vars(part)) - set(vars(torch.nn.Module())) - EARLIER_STATE:
            del vars(part)[name]
    model = copy.deepcopy(model)
    assert model.loss(**model.data_preprocessor(batch((64, 96)), training=True))
    for _ in range(2):  # as it was pickled, and after its weights have been loaded
        found = model.predict(**model.data_preprocessor(batch((64, 96))))[0].seg_logits.data
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        load_state_dict(model, model.state_dict(), strict=True)
