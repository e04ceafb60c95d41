"""Every ablation of the paper is a config switch; each runs a training step and a prediction."""

import pytest
import torch
from helpers import hosts
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

DECODER = hosts.head_config()['transformer_decoder']
LOSSES = ('loss_cls', 'loss_mask', 'loss_dice')


def trained(host='mmseg', **head):
    """A model after the backward pass of a training step, and the losses; then predicts with it."""
    if host == 'mmseg':
        model, samples = hosts.make_segmentor(**head), [hosts.make_sample((64, 96), seed=i) for i in range(2)]
    else:
        model = hosts.make_detector(dict(panoptic=dict(object_threshold=0.0)), **head)
        samples = [hosts.make_panoptic_sample((64, 96), seed=i) for i in range(2)]
    data = dict(inputs=[image for image, _ in samples], data_samples=[sample for _, sample in samples])
    losses = model.train()(**model.data_preprocessor(data, training=True), mode='loss')
    model.parse_losses(losses)[0].backward()
    with torch.no_grad():
        result = model.eval().test_step(data)[0]
    found = result.pred_sem_seg.data if host == 'mmseg' else result.pred_panoptic_seg.sem_seg
    assert tuple(found.shape) == (1, 64, 96)
    head = model.decode_head if host == 'mmseg' else model.panoptic_head
    assert all(parameter.grad is not None for parameter in head.parameters())
    return head, {key.removeprefix('decode.'): loss for key, loss in losses.items()}


@pytest.mark.parametrize('num_queries', [20, 50, 100, 150, 300, 1000])
def test_number_of_queries(num_queries):
    head, losses = trained(num_queries=num_queries)
    assert head.classifier.transformer_decoder.query_embed.num_embeddings == num_queries
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize('num_layers', range(1, 7))
def test_number_of_decoder_layers(num_layers):
    head, losses = trained(transformer_decoder=dict(DECODER, num_layers=num_layers))
    assert len(head.classifier.transformer_decoder.layers) == num_layers
    prefixes = [*(f'd{layer}.' for layer in range(num_layers - 1)), '']
    assert set(losses) == {f'{prefix}{name}' for prefix in prefixes for name in LOSSES}


def test_zero_decoder_layers_are_refused():
    message = r'model.decode_head.transformer_decoder.num_layers: found 0, expected a whole number of at least 1'
    with pytest.raises(ValueError, match=message):
        hosts.make_segmentor(transformer_decoder=dict(DECODER, num_layers=0))
    part = MODELS.get('mmmaskformer.TransformerDecoder')
    with pytest.raises(
        ValueError, match=r'^TransformerDecoder.num_layers: found 0, expected a whole number of at least 1'
    ):
        part(in_channels=8, num_layers=0)


@pytest.mark.parametrize('host', ['mmseg', 'mmdet'])
def test_no_self_attention(host):
    torch.manual_seed(0)
    head, _ = trained(host, transformer_decoder=dict(DECODER, self_attention=False))
    names = [name for name, _ in head.classifier.transformer_decoder.named_parameters()]
    assert not any('self_attn' in name or 'norm1' in name for name in names)
    # Without it, queries do not interact.
    decoder = head.classifier.transformer_decoder.eval()
    memory = torch.randn(1, decoder.memory_proj.in_channels if host == 'mmseg' else decoder.channels, 2, 3)
    with torch.no_grad():
        before = decoder(memory)[-1]
        decoder.query_embed.weight[0] += 1
        after = decoder(memory)[-1]
    assert torch.equal(before[:, 1:], after[:, 1:]) and not torch.allclose(before[:, 0], after[:, 0])


@pytest.mark.parametrize('host', ['mmseg', 'mmdet'])
def test_no_deep_supervision(host):
    _, losses = trained(host, deep_supervision=False)
    assert set(losses) == set(LOSSES)


def test_fixed_matching():
    head, losses = trained(num_queries=5, matcher=dict(type='mmmaskformer.FixedMatcher'))
    assert head.criterion.matcher.weights == {} and all(loss.isfinite() for loss in losses.values())
    with pytest.raises(ValueError, match='one query per class, found num_queries=7 and num_classes=5'):
        hosts.make_segmentor(matcher=dict(type='mmmaskformer.FixedMatcher'))


def test_fixed_matching_names_the_image_with_two_segments_of_a_class():
    """6 segments of 5 classes, so that every image has one class twice."""
    message = (
        r"image 0 of the batch has \d segments of class \d; fixed matching .*HungarianMatcher'\. "
        r'Images of the batch: 0: panoptic/a.png, 1: panoptic/a.png'
    )
    with pytest.raises(ValueError, match=message):
        trained('mmdet', num_queries=5, matcher=dict(type='mmmaskformer.FixedMatcher'))


def test_a_box_head_takes_no_part_in_predictions():
    """A model matched by boxes gives the same results as one with the same weights without boxes."""
    torch.manual_seed(0)
    plain = hosts.make_segmentor().eval()
    boxed = hosts.make_segmentor(matcher=dict(type='mmmaskformer.BoxMatcher')).eval()
    unused = plain.load_state_dict(boxed.state_dict(), strict=False).unexpected_keys
    assert unused and all('.box_embed.' in key for key in unused)
    image, sample = hosts.make_sample((64, 96))
    for inference in ('semantic', 'general'):
        results = []
        for model in (plain, boxed):
            model.test_cfg = ConfigDict(mode='whole', inference=inference, object_threshold=0.0)
            data = dict(inputs=[image], data_samples=[sample.clone()])
            with torch.no_grad():
                results.append(model.test_step(data)[0].pred_sem_seg.data)
        assert torch.equal(*results)


@pytest.mark.parametrize('host', ['mmseg', 'mmdet'])
@pytest.mark.parametrize('deep_supervision', [True, False])
def test_box_based_matching(host, deep_supervision):
    head, losses = trained(host, matcher=dict(type='mmmaskformer.BoxMatcher'), deep_supervision=deep_supervision)
    prefixes = ['d0.', ''] if deep_supervision else ['']
    assert set(losses) == {f'{prefix}{name}' for prefix in prefixes for name in (*LOSSES, 'loss_box', 'loss_giou')}
    assert all(parameter.grad.any() for parameter in head.classifier.box_embed.parameters())


def test_box_losses_beside_matching_by_masks():
    criterion = dict(type='SetCriterion', box_loss=dict(type='BoxLoss'), loss_weights=dict(giou=1.0))
    head, losses = trained(criterion=criterion)
    assert 'loss_giou' in losses and head.criterion.matcher.weights == dict(cls=1.0, mask=20.0, dice=1.0)
    assert head.criterion.loss_weights['giou'] == 1.0


@pytest.mark.parametrize('matcher', ['HungarianMatcher', 'FixedMatcher', 'BoxMatcher'])
@pytest.mark.parametrize(
    'mask_loss',
    [
        dict(type='FocalDiceLoss'),
        dict(type='CrossEntropyDiceLoss'),
        dict(type='PointMaskLoss', num_points=50),
        dict(type='PointMaskLoss', num_points=50, kind='focal', seed=0),
    ],
)
def test_mask_losses_with_class_weights_and_without_ignored_pixels(matcher, mask_loss):
    criterion = dict(
        type='SetCriterion', mask_loss=mask_loss, ignore_in_loss=True, class_weight=[1.0, 2.0, 0.5, 1.0, 3.0],
        loss_weights=dict(cls=2.0, mask=5.0, dice=5.0),
    )  # fmt: skip
    head, losses = trained(num_queries=5, matcher=dict(type=matcher), criterion=criterion)
    assert all(loss.isfinite() for loss in losses.values())
    weights = head.criterion.matcher.weights
    assert weights.items() <= head.criterion.loss_weights.items()
    assert (weights.get('mask') == 5.0) == (matcher == 'HungarianMatcher')


def test_points_are_the_costs_of_a_loss_at_points():
    head, _ = trained(criterion=dict(type='SetCriterion', mask_loss=dict(type='PointMaskLoss', num_points=50, seed=3)))
    cost = head.criterion.matcher.costs[1]
    assert type(cost).__name__ == 'PointMaskCost' and (cost.num_points, cost.points.seed) == (50, 3)


@pytest.mark.parametrize(
    'mask_loss, message',
    [
        (dict(type='PointMaskLoss', num_points=0), 'criterion.mask_loss.num_points: found 0, expected a whole number'),
        (dict(type='PointMaskLoss', kind='l1'), "criterion.mask_loss.kind: found 'l1', expected 'focal' or 'bce'"),
    ],
)
def test_settings_of_points_are_checked(mask_loss, message):
    config = ConfigDict(hosts.head_config(criterion=dict(type='SetCriterion', mask_loss=mask_loss)))
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)
