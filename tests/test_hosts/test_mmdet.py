"""Batch augmentations of MMDetection with panoptic and instance samples."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmmaskformer.heads.data_samples import targets_from_det_samples
from mmmaskformer.hosts.hooks import CheckClassesHook

PAD = dict(type='BatchFixedSizePad', size=(64, 96), pad_mask=True, pad_seg=True)
RESIZE = [
    dict(type='BatchResize', scale=(64, 64), pad_size_divisor=32),
    dict(type='BatchSyncRandomResize', random_size_range=(64, 128), interval=1),
]


def preprocessor(augment):
    settings = dict(mean=[0.0] * 3, std=[1.0] * 3, pad_size_divisor=1, batch_augments=[augment])
    with DefaultScope.overwrite_default_scope('mmdet'):  # the host builds the augmentations in the scope of the process
        return MODELS.build(dict(type='mmmaskformer.DetDataPreprocessor', **settings))


def panoptic_sample():
    segments = torch.arange(2, dtype=torch.int16).repeat_interleave(20 * 30).view(1, 40, 30)
    sample = DetDataSample(metainfo=dict(img_shape=(40, 30)), gt_instances=InstanceData())
    sample.gt_panoptic_seg = PixelData(metainfo=dict(labels=(3, 1)), segment_map=segments)
    return sample


def instance_sample():
    masks = BitmapMasks(np.ones((1, 40, 30), np.uint8), 40, 30)
    instances = InstanceData(labels=torch.tensor([2]), bboxes=torch.tensor([[0.0, 0, 30, 40]]), masks=masks)
    sample = DetDataSample(metainfo=dict(img_shape=(40, 30)), gt_instances=instances)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return sample


def preprocessed(augment, sample):
    return preprocessor(augment)(dict(inputs=[torch.full((3, 40, 30), 7.0)], data_samples=[sample]), training=True)


@pytest.mark.parametrize(('sample', 'areas'), [(panoptic_sample, [600, 600]), (instance_sample, [1200])])
def test_images_are_padded_to_a_fixed_size_with_their_segments(sample, areas):
    batch = preprocessed(PAD, sample())
    assert batch['inputs'].shape == (1, 3, 64, 96)
    assert (batch['inputs'][0, :, :40, :30] == 7).all() and batch['inputs'].sum() == 7 * 3 * 40 * 30
    [target] = targets_from_det_samples(
        batch['data_samples'], is_thing=torch.ones(5, dtype=torch.bool), input_size=(64, 96), device='cpu'
    )
    assert target.size == (64, 96)
    masks = target.masks_of(torch.arange(len(target.labels)))
    assert masks.flatten(1).sum(1).tolist() == areas
    assert not masks[:, 40:].any() and not masks[:, :, 30:].any()


def test_masks_are_padded_where_only_some_batches_have_them():
    model = preprocessor(PAD)
    image = torch.zeros(3, 40, 30)
    model(dict(inputs=[image], data_samples=[panoptic_sample()]), training=True)
    batch = model(dict(inputs=[image], data_samples=[instance_sample()]), training=True)
    assert batch['data_samples'][0].gt_instances.masks.masks.shape == (1, 64, 96)


@pytest.mark.parametrize('augment', RESIZE, ids=lambda augment: augment['type'])
@pytest.mark.parametrize('sample', [panoptic_sample, instance_sample])
def test_augmentations_that_resize_only_images_are_refused(augment, sample):
    with pytest.raises(ValueError, match=f'{augment["type"]}, which resizes images and boxes'):
        preprocessed(augment, sample())


def test_resizing_is_allowed_if_there_are_only_boxes():
    sample = instance_sample()
    del sample.gt_instances.masks
    batch = preprocessed(RESIZE[0], sample)
    assert batch['inputs'].shape[2:] == (64, 64)
    assert batch['data_samples'][0].gt_instances.bboxes.tolist() == [[0, 0, 48, 64]]


@pytest.mark.parametrize(
    ('kind', 'loader'), [('mmdet', 'panoptic'), ('mmdet', 'instance'), ('mmmaskformer', 'panoptic')]
)
def test_the_hosts_own_preprocessor_does_not_augment_segments(kind, loader):
    loaders = dict(
        panoptic=dict(type='mmmaskformer.LoadPanopticAnnotations'), instance=dict(type='mmdet.LoadAnnotations')
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = MODELS.build(dict(type=f'{kind}.DetDataPreprocessor', batch_augments=[PAD]))
        transforms = [TRANSFORMS.build(loaders[loader])]
    dataset = SimpleNamespace(metainfo={}, pipeline=transforms)
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset), model=SimpleNamespace(data_preprocessor=built)
    )
    if (kind, loader) == ('mmdet', 'panoptic'):
        with pytest.raises(
            ValueError, match=r"^model.data_preprocessor.batch_augments: .* Fix: use type='mmmaskformer"
        ):
            CheckClassesHook().before_train(runner)
    else:
        CheckClassesHook().before_train(runner)
