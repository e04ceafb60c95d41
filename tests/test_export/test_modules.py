"""Modules for export, compared with the models of both hosts, run as the hosts run them."""

import numpy as np
import pytest
import torch
from helpers.exports import SETTINGS, small_detector, small_segmentor
from helpers.hosts import make_panoptic_sample, make_sample, make_segmentor
from torch import nn

from mmmaskformer.export.attention import PortableAttention, make_portable
from mmmaskformer.export.modules import export_module
from mmmaskformer.export.verify import labels_of, model_outputs
from mmmaskformer.formats.mmdet_codes import decode_panoptic

SIZES = [(64, 96), (65, 70), (33, 40)]


def as_rgb(bgr: torch.Tensor) -> torch.Tensor:
    return bgr.flip(0)[None]


@pytest.mark.parametrize('size', SIZES)
def test_semantic_equals_mmsegmentation(size):
    model = small_segmentor()
    image, sample = make_sample(size)
    expected = model.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_sem_seg.data
    labels, _, _ = export_module(model, 'semantic')(as_rgb(image))
    assert labels.dtype == torch.int32 and len(labels.unique()) > 1
    assert torch.equal(labels.long(), expected)


@pytest.mark.parametrize('size', SIZES)
def test_panoptic_equals_mmdetection(size):
    model = small_detector()
    image, sample = make_panoptic_sample(size)
    found = model.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_panoptic_seg.sem_seg[0].numpy()
    ids, labels, _, valid, _, _ = export_module(model, 'panoptic')(as_rgb(image))
    expected = decode_panoptic(found, 5)
    assert valid.sum() == len(expected.labels) > 1
    pairs = np.unique(np.stack([ids[0].numpy(), expected.ids]).reshape(2, -1), axis=1)
    assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))  # the same segments, regardless of their ids
    names = labels_of('panoptic', dict(segment_ids=ids.numpy(), segment_labels=labels.numpy()))[0]
    assert np.array_equal(names, np.concatenate([[-1], expected.labels])[expected.ids])


@pytest.mark.parametrize('model', [small_segmentor, small_detector])
def test_raw_equals_the_model(model):
    model = model()
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 50, 70), dtype=np.uint8)
    found = export_module(model, 'raw')(torch.from_numpy(images))
    for tensor, expected in zip(found, model_outputs(model, 'raw', images).values(), strict=True):
        torch.testing.assert_close(tensor, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_model_is_not_changed():
    model = small_detector()
    before = [type(module) for module in model.modules()]
    export_module(model, 'panoptic')
    assert [type(module) for module in model.modules()] == before
    assert any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize('bgr_to_rgb', [False, True])
def test_channel_order_follows_the_preprocessor(bgr_to_rgb):
    model = small_segmentor()
    model.data_preprocessor.channel_conversion = bgr_to_rgb
    image, sample = make_sample((64, 64))
    expected = model.test_step(dict(inputs=[image], data_samples=[sample]))[0].pred_sem_seg.data
    assert torch.equal(export_module(model, 'semantic')(as_rgb(image))[0].long(), expected)


@pytest.mark.parametrize('batch_first', [True, False])
def test_portable_attention_equals_pytorch(batch_first):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    if not batch_first:
        query, memory = query.transpose(0, 1), memory.transpose(0, 1)
    expected = module(query, memory, 2 * memory, need_weights=False)[0]
    make_portable(module)
    assert type(module) is PortableAttention
    torch.testing.assert_close(module(query, memory, 2 * memory)[0], expected, rtol=1e-5, atol=1e-6)


def test_unknown_task():
    with pytest.raises(ValueError, match=r"task='instance' is unknown; expected one of \['raw'"):
        export_module(small_segmentor(), 'instance')


def test_semantic_model_has_no_panoptic_task():
    with pytest.raises(ValueError, match='cannot separate things. Fix: use --task semantic'):
        export_module(small_segmentor(), 'panoptic')


def test_panoptic_results_must_be_enabled():
    with pytest.raises(ValueError, match=r"model.test_cfg requests \['detr'\] only. Fix"):
        export_module(small_detector(dict(detr=dict())), 'panoptic')


@pytest.mark.parametrize(
    ('key', 'test_cfg'),
    [
        ('mode', dict(mode='slide', crop_size=(32, 32), stride=(16, 16))),
        ('inference', dict(mode='whole', inference='general')),
    ],
)
def test_other_inference_modes_are_refused(test_cfg, key):
    with pytest.raises(ValueError, match=f'model.test_cfg.{key}=.* is not in the graph'):
        export_module(small_segmentor(test_cfg), 'semantic')


def test_padding_to_one_size_is_refused():
    model = small_segmentor()
    model.data_preprocessor.test_cfg = dict(size=(64, 64))
    with pytest.raises(ValueError, match='pads to one size; the file takes any. Fix: use size_divisor'):
        export_module(model, 'raw')


def test_foreign_model_is_refused():
    with pytest.raises(ValueError, match='found Linear without a head of this package'):
        export_module(nn.Linear(1, 1), 'raw')


def test_thresholds_are_those_of_the_config():
    assert export_module(small_detector(), 'panoptic').thresholds == SETTINGS


def test_per_pixel_models_are_refused():
    pixel_decoder = dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=4)
    head = dict(type='mmmaskformer.PerPixelHead', num_classes=5, channels=16, pixel_decoder=pixel_decoder)
    for task in ('semantic', 'raw'):
        with pytest.raises(ValueError, match='PerPixelHead is a per-pixel model .* not exported. Expected'):
            export_module(make_segmentor(whole_head=head), task)
