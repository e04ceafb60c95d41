import copy

import pytest
import torch
import torch.distributed.fsdp
from helpers import distributed, oracles, toy, waits

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Targets
from mmmaskformer.core.training import criterion, matcher, parts
from mmmaskformer.core.training.assignment import HungarianAssignment
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher
from mmmaskformer.core.training.parts import ClassCost, CrossEntropyDiceCost, CrossEntropyDiceLoss


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
    leaves = [predictions[0].masks.features, *(x for p in predictions for x in (p.class_logits, p.masks.embed))]
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
    scaled = toy.make_criterion(loss_weights=dict(cls=2.0, mask=5.0, dice=3.0))(predictions, targets)
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
        assert prediction.masks.embed.grad is not None and not prediction.masks.embed.grad.any()
    assert not predictions[0].masks.features.grad.any()
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
    results = distributed.run_two(distributed.train_rank)
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


def test_in_one_process_the_mean_over_ranks_is_the_value_itself():
    predictions, targets = toy.make_predictions(), [toy.make_target(3), toy.make_target(0)]
    expected = toy.make_criterion()(predictions, targets)
    found = toy.make_criterion(class_mean_over_ranks=True)(predictions, targets)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: toy.make_criterion(loss_weights=dict(masks=5.0)), r"criterion.loss_weights has a weight for 'masks'"),
        (
            lambda: HungarianMatcher(weights=dict(focal=1.0)),
            r"matcher.weights has a weight for 'focal'; expected 'cls',",
        ),
        (lambda: toy.make_criterion(class_weight=[1.0] * 6), 'class_weight has 6 entries; expected 5, one per class'),
    ],
)
def test_unknown_weights_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_cross_entropy_takes_the_place_of_the_focal_loss():
    predictions, target = toy.make_predictions(batch=1, num_layers=1, dtype=torch.float64), toy.make_target(2)
    weights, mask_loss = dict(mask=5.0), CrossEntropyDiceLoss()
    set_criterion = SetCriterion(
        num_classes=5,
        mask_loss=mask_loss,
        loss_weights=weights,
        matcher=HungarianMatcher(mask_loss=mask_loss, loss_weights=weights),
    )
    losses = set_criterion(predictions, [target])
    expected = 0
    for query, segment in zip(*set_criterion.matcher(predictions, [target]).pairs(0, 0), strict=True):
        logits = oracles.upsample(predictions[0].mask_logits(0)[query], target.size)
        expected = expected + 5 * oracles.bce(logits.sigmoid(), target.masks_of(segment[None])[0]).mean() / 2
    torch.testing.assert_close(losses['loss_mask'], expected)


def test_the_matcher_uses_loss_and_weights_of_the_criterion_by_default():
    mask_loss = CrossEntropyDiceLoss()
    matcher = HungarianMatcher(mask_loss=mask_loss, loss_weights=dict(dice=3.0, mask=5.0), weights=dict(mask=7.0))
    assert matcher.weights == dict(cls=1.0, mask=7.0, dice=3.0)
    assert [type(cost) for cost in matcher.costs] == [ClassCost, CrossEntropyDiceCost]
    assert HungarianMatcher().weights == dict(cls=1.0, mask=20.0, dice=1.0)


def test_class_weights_weight_the_classes():
    predictions = toy.make_predictions(batch=1, num_layers=1, dtype=torch.float64)
    target = toy.make_target(3)._replace(labels=torch.tensor([0, 2, 4]))
    weights = [0.5, 1.0, 3.0, 1.0, 2.0]
    set_criterion = toy.make_criterion(class_weight=weights, no_object_weight=0.25)
    found = set_criterion(predictions, [target])['loss_cls']
    pairs = set_criterion.matcher(predictions, [target]).pairs(0, 0)
    label_of = {int(q): int(target.labels[t]) for q, t in zip(*pairs, strict=True)}
    log_probs = predictions[0].class_logits[0].log_softmax(-1)
    terms = [(label_of.get(q, 5), (weights + [0.25])[label_of.get(q, 5)]) for q in range(7)]
    expected = -sum(weight * log_probs[q, label] for q, (label, weight) in enumerate(terms))
    torch.testing.assert_close(found, expected / sum(weight for _, weight in terms))


@pytest.mark.parametrize('over_ranks', [False, True])
@pytest.mark.parametrize('counts', [(0, 0), (3, 2)])
def test_queries_without_weight_give_a_loss_and_gradients_of_zero(counts, over_ranks):
    """The weights of "no object" and of all classes in the batch are 0, which would give 0 / 0."""
    predictions = toy.make_predictions()
    criterion = SetCriterion(
        num_classes=5, matcher=HungarianMatcher(), class_weight=[0.0] * 5, no_object_weight=0.0,
        class_mean_over_ranks=over_ranks,
    )  # fmt: skip
    losses = criterion(predictions, [toy.make_target(count) for count in counts])
    assert losses['loss_cls'] == losses['d0.loss_cls'] == 0
    sum(losses.values()).backward()
    assert not any(prediction.class_logits.grad.any() for prediction in predictions)


def test_targets_that_do_not_fit_the_predictions_are_refused():
    target = toy.make_target(3)
    with pytest.raises(ValueError, match='there are 1 targets for 2 images'):
        toy.make_criterion()(toy.make_predictions(), [target])
    for labels in ([0, 1, 5], [0, -1, 2]):
        wrong = target._replace(labels=torch.tensor(labels))
        with pytest.raises(ValueError, match=r'labels \[(5|-1)\] of true segments are outside.*expected 0 to 4'):
            toy.make_criterion()(toy.make_predictions(), [target, wrong])
    both = target._replace(masks=target.all_masks())
    with pytest.raises(ValueError, match='target 1 of the batch has both segment_map and masks; expected one'):
        toy.make_criterion()(toy.make_predictions(), [target, both])


@pytest.mark.parametrize('batch, limit', [(2, 100), (16, 150)])
def test_a_gpu_is_synchronised_once_and_runs_few_large_kernels(monkeypatch, batch, limit):
    """Forward pass with six layers of 100 queries and 9 segments per image, without the inside of the mask loss."""
    pairs = Matches.of([[(range(9), range(9))] * batch] * 6)
    monkeypatch.setattr(HungarianAssignment, '__call__', lambda self, costs, targets: pairs)
    monkeypatch.setattr(matcher, '_check_finite', lambda costs, predictions, targets: None)
    monkeypatch.setattr(
        parts, 'batch_mask_losses', lambda logits, targets, counts, idx, kind: (logits.sum((1, 2)),) * 2
    )
    with waits.counting() as counter:
        features = torch.rand(batch, 256, 128, 128, device='cuda')
        last_conv = LastConv(features, torch.rand(256, 256, 3, 3, device='cuda'), torch.rand(256, device='cuda'))
        predictions = [
            MaskPrediction(
                torch.rand(batch, 100, 151, device='cuda'),
                Product(torch.rand(batch, 100, 256, device='cuda'), features, last_conv),
            )
            for _ in range(6)
        ]
        labels = torch.zeros(9, dtype=torch.long, device='cuda')
        segment_map = torch.zeros(512, 512, dtype=torch.int16, device='cuda')
        set_criterion = toy.make_criterion(150).cuda()
        before = counter.launches
        losses = set_criterion(predictions, [MaskTarget(labels, segment_map=segment_map)] * batch)
        launches = counter.launches - before
    assert len(losses) == 18 and losses['loss_cls'].is_cuda
    assert counter.waits == ['copy to cpu']
    assert launches <= limit


@pytest.mark.parametrize('counts, expected', [((1, 0), 1.0), ((5, 2), 3.5)])
def test_the_mean_over_ranks_is_at_least_one(monkeypatch, counts, expected):
    monkeypatch.setattr(criterion.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(criterion.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(criterion.dist, 'all_reduce', lambda total: total.fill_(sum(counts)))
    found = criterion.mean_num_segments(Targets.of([toy.make_target(counts[0])]), torch.device('cpu'))
    assert float(found) == expected


@pytest.mark.parametrize('part', ['pixel_decoder', 'pixel_decoder.mask_conv'])
@pytest.mark.skipif(not hasattr(torch.distributed.fsdp, 'fully_shard'), reason='torch 2.6 brings fully_shard')
def test_sharded_training_has_the_gradients_of_the_whole_model(part):
    losses, gradient = distributed.run_two(distributed.train_sharded, part)[0]
    torch.manual_seed(0)
    model = toy.make_classifier()
    expected = toy.make_criterion()(model(toy.make_features(batch=1), all_layers=True), [toy.make_target(3, (64, 96))])
    sum(expected.values()).backward()
    assert losses == pytest.approx({key: float(value.detach()) for key, value in expected.items()}, rel=1e-5)
    wanted = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(torch.tensor(gradient), wanted, rtol=1e-4, atol=1e-6)


def own_features(dtype=torch.float64, **settings):
    """Predictions of layers with their own mask features."""
    return [toy.make_predictions(num_layers=1, seed=seed, dtype=dtype, **settings)[0] for seed in range(3)]


@pytest.mark.parametrize('counts', [(3, 2), (0, 4), (0, 0)])
def test_layers_with_features_of_their_own_get_loss_and_gradients_of_the_equations(counts):
    predictions = own_features()
    targets = [toy.make_target(count, (31, 45), seed=i) for i, count in enumerate(counts)]
    set_criterion = toy.make_criterion()
    losses = set_criterion(predictions, targets)
    expected = oracles.set_loss(predictions, targets, set_criterion.matcher(predictions, targets))
    leaves = [x for p in predictions for x in (p.class_logits, p.masks.embed, p.masks.features)]
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-10, atol=1e-14)
    found = torch.autograd.grad(sum(losses.values()), leaves)
    wanted = torch.autograd.grad(sum(expected.values()), leaves, allow_unused=True)
    for gradient, value in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            gradient, torch.zeros_like(gradient) if value is None else value, rtol=1e-9, atol=1e-14
        )


def test_matches_of_layers_with_features_of_their_own_are_those_of_each_layer_alone():
    predictions, targets = own_features(), [toy.make_target(3), toy.make_target(2)]
    matches = HungarianMatcher()(predictions, targets)
    for layer, prediction in enumerate(predictions):
        alone = HungarianMatcher()([prediction], targets)
        for image in range(2):
            for found, expected in zip(matches.pairs(layer, image), alone.pairs(0, image), strict=True):
                assert torch.equal(found, expected)


def test_losses_are_the_same_for_every_form_of_masks_and_without_gradients():
    torch.manual_seed(0)
    model = toy.make_classifier().double().eval()
    features, targets = (
        [x.double() for x in toy.make_features()],
        [toy.make_target(3, (64, 96)), toy.make_target(2, (64, 96))],
    )
    predictions = model(features, all_layers=True)
    set_criterion = toy.make_criterion()
    expected = set_criterion(predictions, targets)
    fused = fuse_for_inference(copy.deepcopy(model))
    with torch.no_grad():
        forms = {
            'no gradients': model(features, all_layers=True),
            'folded': fused(features, all_layers=True),
            'finished features': [p._replace(masks=p.masks._replace(made_by=None)) for p in predictions],
            'plain logits': [p._replace(masks=Plain(p.masks.multiplied_out())) for p in predictions],
        }
        last = set_criterion(model(features, all_layers=False), targets)
        of_all = {name: set_criterion(form, targets) for name, form in forms.items()}
    assert type(forms['folded'][0].masks) is Folded
    for losses in of_all.values():
        for key, value in expected.items():
            torch.testing.assert_close(losses[key], value)
    assert list(last) == ['loss_cls', 'loss_mask', 'loss_dice']
    for key, value in last.items():
        torch.testing.assert_close(value, expected[key])
