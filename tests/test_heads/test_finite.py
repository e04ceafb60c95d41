"""Predictions from inf, NaN or incomplete weights are refused, naming image and file, with or without gradients."""

import copy

import pytest
import torch
from helpers import hosts, waits

from mmmaskformer.core.inference.query_masks import DeferredMaskLogits
from mmmaskformer.core.masks import Plain, Product
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.heads import finite
from mmmaskformer.heads.finite import begin_finite_check

EVERY_RESULT = dict(panoptic=dict(), detr=dict(), semantic=dict(), general=dict(), instance=dict())


def batch(make_sample, *, bad: int | None = None) -> dict:
    """Two float images with file names; one pixel of image ``bad`` is NaN."""
    pairs = [make_sample((64, 96), seed=seed, img_path=f'images/{seed}.jpg') for seed in range(2)]
    images, samples = zip(*pairs, strict=True)
    images = [image.float() for image in images]
    if bad is not None:
        images[bad][1, 20, 30] = float('nan')
    return dict(inputs=images, data_samples=list(samples))


def semantic(segmentor='EncoderDecoder', **test_cfg):
    return hosts.make_segmentor(segmentor=segmentor, test_cfg=dict(mode='whole') | test_cfg), hosts.make_sample


SLIDING = dict(mode='slide', crop_size=(64, 64), stride=(64, 32))
MODELS = {
    'stock': lambda: semantic(),
    'ours': lambda: semantic('mmmaskformer.EncoderDecoder'),
    'stock sliding': lambda: semantic(**SLIDING),
    'ours sliding': lambda: semantic('mmmaskformer.EncoderDecoder', **SLIDING),
    'general': lambda: semantic('mmmaskformer.EncoderDecoder', inference='general'),
    'panoptic': lambda: (hosts.make_detector(EVERY_RESULT), hosts.make_panoptic_sample),
}


@pytest.mark.parametrize('bad', [0, 1])
@pytest.mark.parametrize('kind', MODELS)
def test_an_image_with_nan_is_named(kind, bad):
    model, make_sample = MODELS[kind]()
    message = rf'^the logits of image {bad} of the batch \(images/{bad}.jpg\) are inf or NaN'
    with torch.no_grad(), pytest.raises(NonFiniteLogitsError, match=message):
        model.test_step(batch(make_sample, bad=bad))


@pytest.mark.parametrize('weight', ['class_embed.weight', 'mask_embed.layers.2.bias', 'pixel_decoder'])
@pytest.mark.parametrize('kind', ['ours', 'panoptic'])
def test_weights_that_are_nan_are_found(kind, weight):
    model, make_sample = MODELS[kind]()
    head = model.decode_head if kind == 'ours' else model.panoptic_head
    with torch.no_grad():
        # the last one is the convolution that computes the mask features
        [value for name, value in head.classifier.named_parameters() if weight in name][-1].view(-1)[0] = float('nan')
    with torch.no_grad(), pytest.raises(NonFiniteLogitsError, match=r'image 0 .*images/0.jpg.*image 1 .*images/1.jpg'):
        model.test_step(batch(make_sample))


def test_finite_factors_whose_product_overflows_for_one_query():
    embed, features = torch.ones(2, 6, 4, dtype=torch.float16), torch.full((2, 4, 3, 5), 0.5, dtype=torch.float16)
    prediction = MaskPrediction(torch.zeros(2, 6, 3, dtype=torch.float16), Product(embed, features))
    begin_finite_check(prediction, [])()
    embed[1, 5] = 60_000
    assert embed.isfinite().all() and not (embed[1] @ features[1].flatten(1)).isfinite().all()
    with pytest.raises(NonFiniteLogitsError, match=r'^the logits of image 1 of the batch \(b.jpg\) are inf or NaN'):
        begin_finite_check(prediction, [dict(img_path='a.jpg'), dict(img_path='b.jpg')])()


@pytest.mark.parametrize('kind', MODELS)
def test_a_test_step_with_gradients_gives_the_same(kind):
    model, make_sample = MODELS[kind]()
    with torch.no_grad():
        expected = model.test_step(batch(make_sample))
    found = model.test_step(batch(make_sample))
    for ours, theirs in zip(found, expected, strict=True):
        for field in ('pred_sem_seg', 'pred_panoptic_seg'):
            if field in theirs:
                for key, value in theirs.get(field).items():
                    assert torch.equal(ours.get(field).get(key), value) and not ours.get(field).get(key).requires_grad


def test_a_training_step_names_iteration_and_files():
    model, make_sample = MODELS['ours']()
    data = batch(make_sample, bad=1)
    model.train()
    prepared = model.data_preprocessor(data, True)
    with pytest.raises(NonFiniteLogitsError, match=r'iteration \d+.*batch: 0: images/0.jpg, 1: images/1.jpg'):
        model.loss(**prepared)


@pytest.mark.parametrize('kind', ['stock', 'ours', 'panoptic'])
def test_a_model_that_was_loaded_in_part_does_not_predict_but_trains(kind):
    model, make_sample = MODELS[kind]()
    whole = dict(model.state_dict())
    part = {name: value for name, value in whole.items() if 'transformer_decoder' not in name}
    model.load_state_dict(part, strict=False)
    with torch.no_grad(), pytest.raises(ValueError, match=r'_head: the checkpoint .* lacks \d+ of the \d+ weights'):
        model.test_step(batch(make_sample))
    # the remaining weights may come from a second file
    model.load_state_dict({name: value for name, value in whole.items() if name not in part}, strict=False)
    with torch.no_grad():
        model.test_step(batch(make_sample))
    model, make_sample = MODELS[kind]()
    model.load_state_dict(part, strict=False)
    model.train()
    model(**model.data_preprocessor(batch(make_sample), True), mode='loss')
    model.eval()
    with torch.no_grad():
        model.test_step(batch(make_sample))


@pytest.mark.parametrize('is_backbone_first', [True, False])
@pytest.mark.parametrize('kind', ['stock', 'panoptic'])
def test_the_backbone_may_be_loaded_separately(kind, is_backbone_first):
    model, make_sample = MODELS[kind]()
    rest = {name: value for name, value in model.state_dict().items() if not name.startswith('backbone.')}
    loads = [
        lambda part: part.backbone.load_state_dict(model.backbone.state_dict()),
        lambda part: part.load_state_dict(rest, strict=False),
    ]
    first, second = loads if is_backbone_first else loads[::-1]
    other = MODELS[kind]()[0]
    first(other)
    other = copy.deepcopy(other)
    second(other)
    with torch.no_grad():
        other.test_step(batch(make_sample))
    other = MODELS[kind]()[0]
    loads[1](other)
    with torch.no_grad(), pytest.raises(ValueError, match=r'lacks \d+ of the weights of the model.*backbone'):
        other.test_step(batch(make_sample))


@pytest.mark.parametrize('output', ['panoptic', 'general'])
def test_the_check_adds_no_synchronisation_with_a_gpu(monkeypatch, output):
    """The flag is copied while the first image is processed, whose result needs a synchronisation anyway."""
    order = []

    class Event:
        def synchronize(self):
            order.append('read')

    stream = type('Stream', (), dict(record_event=lambda self: Event()))()
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda: stream)
    monkeypatch.setattr(finite, '_tolist', lambda flags: [True] * len(flags))
    fusion = hosts.make_detector({output: dict()}).panoptic_fusion_head
    samples = [hosts.make_panoptic_sample((64, 96), seed=seed)[1] for seed in range(2)]
    num_classes = fusion.num_classes
    with waits.counting() as counter:
        counter.waits = order
        class_logits = torch.rand(2, 7, num_classes + 1, device='cuda')
        masks = Plain(torch.rand(2, 7, 16, 24, device='cuda'))
        fusion.is_thing = torch.zeros(num_classes, dtype=torch.bool, device='cuda')
        check = begin_finite_check(MaskPrediction(class_logits, masks), [])
        fusion.predict(class_logits, DeferredMaskLogits(masks, (64, 96), check), samples)
    assert order == ['copy beside', 'nonzero', 'nonzero', 'read']


def test_foreign_fusion_heads_get_no_mask_logits_that_are_nan():
    masks = DeferredMaskLogits(
        Plain(torch.zeros(1, 1, 2, 2)),
        (8, 8),
        begin_finite_check(
            MaskPrediction(torch.full((1, 1, 2), torch.nan), Plain(torch.zeros(1, 1, 2, 2))), [dict(img_path='a.jpg')]
        ),
    )
    with pytest.raises(NonFiniteLogitsError, match='a.jpg'):
        masks[0]
