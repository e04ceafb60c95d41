"""The per-pixel baselines in MMSegmentation's stock `EncoderDecoder` and in ours."""

import pytest
import torch
from helpers import hosts
from mmengine.logging import MessageHub
from torch.nn import functional as F

from mmmaskformer.core.numerics import NonFiniteLogitsError

PLUS = dict(
    transformer_decoder=dict(
        type='mmmaskformer.TransformerDecoder', num_layers=3, num_heads=4, ffn_channels=24, dropout=0.0
    )
)
KINDS = pytest.mark.parametrize('kind', ['PerPixelHead', 'PerPixelPlusHead'])


def make_segmentor(kind, segmentor='EncoderDecoder', test_cfg=None, **head):
    """A toy model; ``head`` holds further settings."""
    config = dict(
        type=f'mmmaskformer.{kind}',
        in_channels=[4, 8, 16, 32],
        num_classes=5,
        channels=16,
        pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=4),
    )
    config |= (PLUS if kind == 'PerPixelPlusHead' else {}) | head
    return hosts.make_segmentor(segmentor=segmentor, test_cfg=test_cfg, whole_head=config)


def batch(*sizes, **meta):
    pairs = [hosts.make_sample(size, seed=i, **meta) for i, size in enumerate(sizes)]
    return dict(inputs=[image for image, _ in pairs], data_samples=[sample for _, sample in pairs])


def assert_best(labels, logits):
    """Each label has the largest logit, up to rounding."""
    chosen = logits.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, logits.amax(0), rtol=0, atol=1e-5)
    assert (labels == logits.argmax(0)).float().mean() > 0.999


@KINDS
def test_loss_is_the_cross_entropy_of_the_labelled_pixels(kind):
    model = make_segmentor(kind)
    data = model.data_preprocessor(batch((64, 96), (50, 70)), training=True)
    losses = model.loss(**data)
    head = model.decode_head
    layers = head.classifier(model.extract_feat(data['inputs']), all_layers=True)
    labels = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    prefixes = ['decode.d0.', 'decode.d1.', 'decode.'] if kind == 'PerPixelPlusHead' else ['decode.']
    assert list(losses) == [f'{prefix}loss_ce' for prefix in prefixes]
    for loss, masks in zip(losses.values(), layers, strict=True):
        logits = F.interpolate(masks.multiplied_out(), size=(64, 96), mode='bilinear')
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels, ignore_index=255))
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_deep_supervision_can_be_switched_off():
    model = make_segmentor('PerPixelPlusHead', deep_supervision=False)
    losses = model.loss(**model.data_preprocessor(batch((64, 96)), training=True))
    assert list(losses) == ['decode.loss_ce']
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None for parameter in model.decode_head.parameters())


@pytest.mark.parametrize('mask_loss', [None, dict(type='mmmaskformer.CrossEntropyDiceLoss')])
def test_the_mask_losses_take_the_place_of_the_cross_entropy(mask_loss):
    criterion = dict(type='mmmaskformer.PixelMaskLosses', mask_loss=mask_loss, ignore_in_loss=True)
    model = make_segmentor('PerPixelPlusHead', criterion=criterion)
    losses = model.loss(**model.data_preprocessor(batch((64, 96), (50, 70)), training=True))
    assert set(losses) == {f'decode.{p}loss_{name}' for p in ('d0.', 'd1.', '') for name in ('mask', 'dice')}
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad.any() for parameter in model.decode_head.classifier.mask_embed.parameters())


@KINDS
@pytest.mark.parametrize('divisor', [1, 32])
@pytest.mark.parametrize('size, original', [((64, 96), (64, 96)), ((75, 107), (113, 160))])
@torch.no_grad()
def test_both_segmentors_give_the_published_labels(kind, divisor, size, original):
    """Logits are up-sampled by 4, cropped to the image and resized to the size of its file."""
    results = []
    for segmentor in ('EncoderDecoder', 'mmmaskformer.EncoderDecoder'):
        model = make_segmentor(kind, segmentor)
        model.data_preprocessor.test_cfg = dict(size_divisor=divisor)
        data = model.data_preprocessor(batch(size, ori_shape=original))
        logits = model.decode_head(model.extract_feat(data['inputs']))
        fine = F.interpolate(logits, scale_factor=4, mode='bilinear', align_corners=False)
        expected = F.interpolate(fine[..., : size[0], : size[1]], size=original, mode='bilinear', align_corners=False)
        results.append(model.predict(**data)[0])
        assert_best(results[-1].pred_sem_seg.data[0], expected[0])
    torch.testing.assert_close(results[0].seg_logits.data, expected[0], rtol=1e-4, atol=1e-5)
    assert not hasattr(results[1], 'seg_logits')


@KINDS
@torch.no_grad()
def test_sliding_windows_of_both_segmentors_agree(kind):
    test_cfg = dict(mode='slide', crop_size=(61, 67), stride=(40, 40))
    labels = []
    for segmentor in ('EncoderDecoder', 'mmmaskformer.EncoderDecoder'):
        model = make_segmentor(kind, segmentor, test_cfg)
        model.data_preprocessor.test_cfg = None
        labels.append(model.test_step(batch((90, 130), ori_shape=(81, 117)))[0].pred_sem_seg.data.long())
    assert torch.equal(*labels) and tuple(labels[0].shape) == (1, 81, 117)


@torch.no_grad()
def test_847_classes_and_their_ignored_label():
    model = make_segmentor('PerPixelPlusHead', 'mmmaskformer.EncoderDecoder', num_classes=847, ignore_index=65535)
    labels = model.test_step(batch((64, 96)))[0].pred_sem_seg.data
    assert labels.dtype == torch.int32 and labels.max() > 255


@torch.no_grad()
def test_a_single_class_is_always_class_0():
    for segmentor in ('EncoderDecoder', 'mmmaskformer.EncoderDecoder'):
        model = make_segmentor('PerPixelHead', segmentor, num_classes=1)
        assert not model.test_step(batch((64, 96), num_classes=1))[0].pred_sem_seg.data.any()


@torch.no_grad()
def test_there_is_no_general_inference():
    for segmentor in ('EncoderDecoder', 'mmmaskformer.EncoderDecoder'):
        model = make_segmentor('PerPixelHead', segmentor, dict(mode='whole', inference='general'))
        with pytest.raises(ValueError, match=r"test_cfg.inference: found 'general', expected 'semantic'"):
            model.test_step(batch((64, 96)))


@KINDS
def test_a_checkpoint_of_other_classes_is_refused_or_taken_without_its_classifier(kind):
    weights = make_segmentor(kind, num_classes=7).decode_head.state_dict()
    with pytest.raises(ValueError, match=r'weight is for 7 classes, but the model has num_classes=5. Fix'):
        make_segmentor(kind).decode_head.load_state_dict(dict(weights))
    head = make_segmentor(kind, on_class_mismatch='reinit').decode_head
    key = f'{head.class_layer}.weight'
    own = head.state_dict()[key].clone()
    head.load_state_dict(dict(weights))
    assert torch.equal(head.state_dict()[key], own)
    other = 'classifier.pixel_decoder.mask_conv.weight'
    assert torch.equal(head.state_dict()[other], weights[other])


@KINDS
@torch.no_grad()
def test_logits_that_are_not_finite_are_refused(kind):
    model = make_segmentor(kind)
    for parameter in model.decode_head.classifier.pixel_decoder.output_convs[0].norm.parameters():
        parameter.fill_(float('nan'))
    with pytest.raises(NonFiniteLogitsError, match=r'image 0 of the batch'):
        model.test_step(batch((64, 96)))
    MessageHub.get_instance(f'not finite, {kind}')  # a new run is at its first iteration
    with pytest.raises(NonFiniteLogitsError, match=r'iteration 1, decoder layer 1 of .*loss_ce is inf or NaN'):
        model.loss(**model.data_preprocessor(batch((64, 96)), training=True))


@pytest.mark.parametrize(
    'kind, changes, message',
    [
        ('PerPixelHead', PLUS, r'PerPixelClassifier\) does not take a transformer_decoder. Fix: transformer_decoder=N'),
        ('PerPixelPlusHead', dict(transformer_decoder=None), "transformer_decoder must be a dict with a 'type'"),
        ('PerPixelPlusHead', dict(num_queries=9), "does not take the key 'num_queries'"),
        ('PerPixelHead', dict(matcher=dict(type='HungarianMatcher')), "does not take the key 'matcher'"),
        ('PerPixelHead', dict(criterion=dict(type='PixelCrossEntropy', weight=1)), "not take the key 'weight'. Did"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kind, changes, message):
    with pytest.raises(TypeError, match=message):
        make_segmentor(kind, **changes)
