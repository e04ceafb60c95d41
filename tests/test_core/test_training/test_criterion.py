import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers import distributed, oracles, toy, waits

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.structures import MaskPrediction, MaskTarget
from mmmaskformer.core.training import criterion, matcher
from mmmaskformer.core.training.matcher import HungarianMatcher


@pytest.mark.parametrize('counts', [(3, 2), (0, 4), (0, 0), (9, 1)])
@pytest.mark.parametrize('overlapping', [False, True])
@pytest.mark.filterwarnings('ignore:an image has')
def test_losses_and_gradients_equal_the_equations(counts, overlapping):
    predictions = toy.make_predictions(dtype=torch.float64)
    targets = [toy.make_target(count, (31, 45), seed=i) for i, count in enumerate(counts)]
    set_criterion = toy.make_criterion()
    losses = set_criterion(predictions, [toy.as_masks(t) for t in targets] if overlapping else targets)
    expected = oracles.set_loss(predictions, targets, set_criterion.matcher(predictions, targets))
    assert set(losses) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-10, atol=1e-14)
    leaves = [predictions[0].mask_features, *(x for p in predictions for x in (p.class_logits, p.mask_embed))]
    found = torch.autograd.grad(sum(losses.values()), leaves)
    for gradient, wanted in zip(
        found, torch.autograd.grad(sum(expected.values()), leaves, allow_unused=True), strict=True
    ):
        torch.testing.assert_close(
            gradient, torch.zeros_like(gradient) if wanted is None else wanted, rtol=1e-9, atol=1e-14
        )


def test_every_key_is_summed_by_mmengine():
    losses = toy.make_criterion()(toy.make_predictions(num_layers=3), [toy.make_target(2), toy.make_target(1)])
    assert list(losses) == [f'{p}loss_{kind}' for p in ('d0.', 'd1.', '') for kind in ('cls', 'mask', 'dice')]


def test_losses_may_be_scaled_in_place():
    losses = toy.make_criterion()(toy.make_predictions(), [toy.make_target(2), toy.make_target(1)])
    before = float(losses['d0.loss_cls'].detach())
    losses['d0.loss_cls'] *= 2
    losses['loss_mask'] *= 3
    sum(losses.values()).backward()
    assert float(losses['d0.loss_cls'].detach()) == pytest.approx(2 * before)


def test_weights_scale_their_losses():
    predictions, targets = toy.make_predictions(), [toy.make_target(3), toy.make_target(2)]
    plain = toy.make_criterion()(predictions, targets)
    scaled = toy.make_criterion(class_weight=2.0, mask_weight=5.0, dice_weight=3.0)(predictions, targets)
    for kind, ratio in (('cls', 2), ('mask', 0.25), ('dice', 3)):
        torch.testing.assert_close(scaled[f'loss_{kind}'], plain[f'loss_{kind}'] * ratio)


def test_order_of_segments_does_not_matter():
    predictions = toy.make_predictions(batch=1, dtype=torch.float64)
    target = toy.as_masks(toy.make_target(5))
    order = torch.tensor([3, 1, 4, 0, 2])
    set_criterion = toy.make_criterion()
    losses = set_criterion(predictions, [target])
    shuffled = set_criterion(predictions, [MaskTarget(target.labels[order], masks=target.masks[order])])
    for key, value in losses.items():
        torch.testing.assert_close(shuffled[key], value)


def test_without_any_segment_every_factor_gets_a_zero_gradient():
    predictions = toy.make_predictions()
    losses = toy.make_criterion()(predictions, [toy.make_target(0), toy.make_target(0)])
    sum(losses.values()).backward()
    for prediction in predictions:
        assert losses['loss_mask'] == 0 and losses['loss_dice'] == 0
        assert prediction.mask_embed.grad is not None and not prediction.mask_embed.grad.any()
    assert not predictions[0].mask_features.grad.any()
    assert losses['loss_cls'] > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_losses_are_float32_under_autocast(dtype):
    model = toy.make_classifier(847, num_queries=9)
    features, targets = (
        toy.make_features(),
        [toy.make_target(4, (64, 96), num_classes=847), toy.make_target(0, (64, 96))],
    )
    with torch.autocast('cpu', dtype=dtype):
        losses = toy.make_criterion(847)(model(features, all_layers=True), targets)
    exact = toy.make_criterion(847)(model(features, all_layers=True), targets)
    for key, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[key], rtol=0.05, atol=0.01)
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_rank_without_targets_shares_normaliser_and_gradients():
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(distributed.train_rank, args=(distributed.free_port(), results), nprocs=2)
        (losses, gradient), (empty_losses, empty_gradient) = results[0], results[1]
    assert gradient == empty_gradient
    assert empty_losses['loss_mask'] == 0 and empty_losses['loss_cls'] > 0
    torch.manual_seed(0)
    model = toy.make_classifier()
    alone = toy.make_criterion()(
        model(toy.make_features(batch=1, seed=0), all_layers=True), [toy.make_target(3, (64, 96))]
    )
    # 3 segments on two ranks: each divides by 1.5, so that the mean over ranks divides by 3.
    assert losses['loss_dice'] == pytest.approx(2 * float(alone['loss_dice'].detach()), rel=1e-5)


@pytest.mark.parametrize('part', [lambda: toy.make_criterion(mask_loss='l1'), lambda: HungarianMatcher(mask_loss='l1')])
def test_unknown_mask_losses_are_refused(part):
    with pytest.raises(ValueError, match="mask_loss='l1' is unknown; expected 'focal' or 'bce'"):
        part()


def test_cross_entropy_takes_the_place_of_the_focal_loss():
    predictions, target = toy.make_predictions(batch=1, num_layers=1, dtype=torch.float64), toy.make_target(2)
    set_criterion = toy.make_criterion(mask_loss='bce', mask_weight=5.0)
    set_criterion.matcher = HungarianMatcher(mask_loss='bce', mask_weight=5.0)
    losses = set_criterion(predictions, [target])
    expected = 0
    for query, segment in zip(*set_criterion.matcher(predictions, [target])[0][0], strict=True):
        logits = oracles.upsample(predictions[0].mask_logits(0)[query], target.size)
        expected = expected + 5 * oracles.bce(logits.sigmoid(), target.masks_of(segment[None])[0]).mean() / 2
    torch.testing.assert_close(losses['loss_mask'], expected)


@pytest.mark.parametrize('batch, limit', [(2, 100), (16, 150)])
def test_a_gpu_is_waited_for_once_and_gets_few_large_kernels(monkeypatch, batch, limit):
    """Six layers of 100 queries and 9 segments per image, forwards, without the inside of the mask loss."""
    pairs = [(np.arange(9), np.arange(9))] * batch
    monkeypatch.setattr(matcher, '_assign', lambda costs, counts: [pairs] * len(costs))
    monkeypatch.setattr(matcher, '_check_finite', lambda costs, predictions: None)
    monkeypatch.setattr(
        criterion, 'batch_mask_losses', lambda logits, targets, counts, idx, kind: (logits.sum((1, 2)),) * 2
    )
    with waits.counting() as counter:
        features = torch.rand(batch, 256, 128, 128, device='cuda')
        last_conv = LastConv(features, torch.rand(256, 256, 3, 3, device='cuda'), torch.rand(256, device='cuda'))
        predictions = [
            MaskPrediction(
                torch.rand(batch, 100, 151, device='cuda'),
                torch.rand(batch, 100, 256, device='cuda'),
                features,
                last_conv,
            )
            for _ in range(6)
        ]
        labels = torch.zeros(9, dtype=torch.long, device='cuda')
        segment_map = torch.zeros(512, 512, dtype=torch.int16, device='cuda')
        before = counter.launches
        losses = toy.make_criterion(150)(predictions, [MaskTarget(labels, segment_map=segment_map)] * batch)
        launches = counter.launches - before
    assert len(losses) == 18 and losses['loss_cls'].is_cuda
    assert counter.waits == ['copy to cpu']
    assert launches <= limit


@pytest.mark.parametrize('counts, expected', [((1, 0), 1.0), ((5, 2), 3.5)])
def test_the_mean_over_ranks_is_at_least_one(monkeypatch, counts, expected):
    monkeypatch.setattr(criterion.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(criterion.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(criterion.dist, 'all_reduce', lambda total: total.fill_(sum(counts)))
    found = criterion.mean_num_segments([toy.make_target(counts[0])], torch.device('cpu'))
    assert float(found) == expected
