"""The head in MMDetection's stock `MaskFormer` detector."""

import pytest
import torch
from helpers import hosts, mmdet_peer, toy
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.heads.panoptic_head import thing_mask


def batch(*sizes):
    pairs = [hosts.make_panoptic_sample(size, seed=i) for i, size in enumerate(sizes)]
    return dict(inputs=[image for image, _ in pairs], data_samples=[sample for _, sample in pairs])


def det_samples(size, labels_and_stuff, num_things=2):
    """Samples from MMDetection's loaders: instances with boxes, and a label map of stuff."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for seed, labels in enumerate(labels_and_stuff):
        generator = torch.Generator().manual_seed(seed)
        masks = torch.rand(len(labels), *size, generator=generator) > 0.7
        label_map = torch.randint(0, 5, size, generator=generator)
        label_map[label_map < num_things] = 255
        sample = DetDataSample(metainfo=dict(ori_shape=size, img_shape=size, batch_input_shape=size, pad_shape=size))
        sample.gt_instances = InstanceData(
            labels=torch.tensor(labels), masks=BitmapMasks(masks.numpy().astype('u1'), *size)
        )
        sample.gt_sem_seg = PixelData(sem_seg=label_map[None])
        samples.append(sample)
    return samples


def test_loss_equals_the_core_on_a_batch_of_mixed_sizes():
    model = hosts.make_detector()
    data = model.data_preprocessor(batch((64, 96), (50, 70)), training=True)
    assert data['inputs'].shape == (2, 3, 64, 96)
    losses = model.loss(data['inputs'], data['data_samples'])
    head = model.panoptic_head
    targets = []
    for sample, (height, width) in zip(data['data_samples'], ((64, 96), (50, 70)), strict=True):
        segment_map = torch.full((64, 96), -1, dtype=torch.int16)
        segment_map[:height, :width] = sample.gt_panoptic_seg.segment_map[0]
        targets.append(MaskTarget(torch.tensor(sample.gt_panoptic_seg.labels), segment_map=segment_map))
    expected = head.criterion(head.classifier(model.extract_feat(data['inputs']), all_layers=True), targets)
    assert set(losses) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)


@pytest.mark.parametrize('labels', [[[0, 1, 1], [1]], [[0, 0, 0, 0], [1, 0]]])
def test_losses_and_gradients_equal_mmdetections_from_the_same_weights(labels):
    model = hosts.make_detector(things=[0, 1])
    torch.manual_seed(1)
    peer = mmdet_peer.make_head()
    head = model.panoptic_head
    head.load_state_dict(mmdet_peer.our_state_dict(peer.state_dict()))
    samples = det_samples((64, 96), labels)
    features = toy.make_features(in_channels=(4, 8, 16, 32))
    ours = [feature.clone().requires_grad_() for feature in features]
    theirs = [feature.clone().requires_grad_() for feature in features]
    found, expected = head.loss(ours, samples), peer.loss(theirs, samples)
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value.squeeze(), rtol=1e-5, atol=1e-6)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    for ours_i, theirs_i in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_i.grad, theirs_i.grad, rtol=0, atol=2e-5 * float(theirs_i.grad.abs().max()))


@torch.no_grad()
def test_predict_equals_mmdetections_from_the_same_weights():
    model = hosts.make_detector(things=[0, 1])
    peer = mmdet_peer.make_head()
    model.panoptic_head.load_state_dict(mmdet_peer.our_state_dict(peer.state_dict()))
    samples = det_samples((64, 96), [[0], [1]])
    features = toy.make_features(in_channels=(4, 8, 16, 32))
    class_logits, masks = model.panoptic_head.predict(features, samples)
    expected_class_logits, expected_masks = peer.predict(features, samples)
    torch.testing.assert_close(class_logits, expected_class_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.stack(list(masks)), expected_masks, rtol=1e-4, atol=1e-3)


def test_an_image_without_segments_trains():
    model = hosts.make_detector()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    panoptic = data['data_samples'][0].gt_panoptic_seg
    panoptic.set_metainfo(dict(labels=()))
    panoptic.segment_map.fill_(-1)
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
    assert losses['loss_mask'] == 0 and losses['loss_cls'] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.panoptic_head.parameters())


@torch.no_grad()
def test_tensor_mode_gives_the_raw_outputs():
    model = hosts.make_detector()
    class_logits, mask_logits = model(torch.randn(2, 3, 75, 107), mode='tensor')
    assert class_logits.shape == (2, 7, 6) and mask_logits.shape == (2, 7, 19, 27)


def test_which_classes_are_things_follows_the_config_not_the_checkpoint():
    model = hosts.make_detector()
    assert model.panoptic_head.is_thing.tolist() == [False, True, False, True, False]
    assert (model.panoptic_head.num_things_classes, model.panoptic_head.num_stuff_classes) == (2, 3)
    assert not any('is_thing' in key for key in model.state_dict())


@pytest.mark.parametrize('things', [[5], [-1], [1, 1], ['car'], [0.5]])
def test_wrong_things_are_named(things):
    with pytest.raises(ValueError, match=r'panoptic_head.things=.*must be different labels from 0 to 4'):
        thing_mask(5, things, 'model.panoptic_head')


def test_settings_of_other_implementations_are_refused():
    init_default_scope('mmdet')
    with pytest.raises(ValueError, match=r"model.train_cfg holds \['assigner'\]; expected nothing"):
        MODELS.build(hosts.detector_config() | dict(train_cfg=dict(assigner=dict())))
    with pytest.raises(TypeError, match='num_things_classes'):
        hosts.make_detector(num_things_classes=2)


def test_a_backbone_of_another_stride_is_named():
    message = r'Fix: set model.panoptic_head.feature_strides=\[4, 8, 16, 32\]'
    with pytest.raises(ValueError, match=message):
        hosts.make_detector(feature_strides=[2, 4, 8, 16])
    model = hosts.make_detector()
    data = model.data_preprocessor(batch((64, 96)), training=True)
    features = model.extract_feat(data['inputs'])
    config = {key: x for key, x in hosts.detector_config(feature_strides=[2, 4, 8, 16]).panoptic_head.items()}
    head = MODELS.build(config)
    with pytest.raises(ValueError, match='model.panoptic_head.feature_strides'):
        head.loss(features, data['data_samples'])
    with pytest.raises(ValueError, match='model.panoptic_head.feature_strides'):
        head.predict(features, data['data_samples'])
