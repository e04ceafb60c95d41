import pytest
import torch
from helpers import mask2former_peer, toy
from torch.nn import functional as F

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.structures import Layers, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher, NonFiniteLogitsError
from mmmaskformer.core.training.parts import Pairs
from mmmaskformer.core.training.points import PointMaskCost, PointMaskLoss, masks_at_points, members_at_points
from mmmaskformer.core.upsampling import sample_points

WEIGHTS = dict(cls=2.0, mask=5.0, dice=5.0)
SIZE = (32, 48)


def make_targets(*, overlapping=False, ignored=False):
    targets = [toy.make_target(count, SIZE, seed=count, ignored=ignored) for count in (3, 0, 4)]
    return Targets.of([toy.as_masks(target) for target in targets] if overlapping else targets)


def make_points(*shape, seed=0):
    return torch.rand(*shape, 2, generator=torch.Generator().manual_seed(seed))


def make_criterion(seed=None, num_points=40, **settings):
    mask_loss = PointMaskLoss(num_points=num_points, seed=seed)
    matcher = HungarianMatcher(mask_loss=mask_loss, loss_weights=WEIGHTS)
    return SetCriterion(num_classes=5, matcher=matcher, mask_loss=mask_loss, loss_weights=WEIGHTS, **settings)


@pytest.mark.parametrize('overlapping', [False, True])
def test_true_masks_at_points_are_those_of_bilinear_sampling(overlapping):
    targets = make_targets(overlapping=overlapping)
    points = make_points(3, 200)
    points[:, 0], points[:, 1] = 0.0, 1.0  # corners, with half of their neighbours outside
    found = members_at_points(targets, points)
    for image, target in enumerate(targets):
        masks = target.all_masks().float()[None]
        expected = sample_points(masks, points[image, None])[0] if len(masks[0]) else torch.zeros(0, 200)
        torch.testing.assert_close(found[image, : len(expected)], expected, rtol=1e-5, atol=1e-5)
        assert not found[image, len(expected) :].any()
    pairs = Pairs([2, 0, 2], torch.tensor([2, 0, 1, 3]))
    truth, counted = masks_at_points(targets, pairs, make_points(4, 50, seed=1))
    expected = sample_points(targets.masks_of(*pairs).float()[:, None], make_points(4, 50, seed=1))[:, 0]
    torch.testing.assert_close(truth, expected, rtol=1e-5, atol=1e-5)
    assert counted.all()


def test_masks_at_points_are_samples_of_the_logits():
    generator = torch.Generator().manual_seed(0)
    embed, x = torch.randn(2, 7, 6, generator=generator), torch.randn(2, 4, 8, 12, generator=generator)
    weight, bias = torch.randn(6, 4, 3, 3, generator=generator), torch.randn(6, generator=generator)
    conv = LastConv(x, weight, bias)
    product = Product(embed, conv.mask_features())
    points = make_points(2, 30)
    expected = sample_points(product.multiplied_out(), points)
    for masks in (product, Folded(embed, conv), Plain(product.multiplied_out())):
        found = masks.at_points(points)
        assert found.size == (1, 30)
        torch.testing.assert_close(found.multiplied_out()[:, :, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['bce', 'focal'])
@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('overlapping', [False, True])
def test_costs_of_all_pairs_are_the_equations_at_the_points(monkeypatch, kind, ignore, fast, overlapping):
    predictions = toy.make_predictions(batch=3, dtype=torch.float64)
    targets = make_targets(overlapping=overlapping, ignored=True).leaving_out_ignored(ignore)
    cost, points = PointMaskCost(num_points=60, kind=kind), make_points(3, 60)
    monkeypatch.setattr(cost.points, 'draw', lambda *shape, device: points)
    before = set_fast_paths(fast)
    try:
        mask, dice = cost(Layers.of(predictions), targets)
    finally:
        set_fast_paths(**before)
    for layer, prediction in enumerate(predictions):
        for image, target in enumerate(targets):
            logits = sample_points(prediction.mask_logits(image)[None], points[image, None])[0]
            columns, rows = (points[image] * torch.tensor([48, 32])).long().unbind(1)
            counted = ~target.ignored_pixels()[rows, columns] if ignore else torch.ones(60, dtype=torch.bool)
            for segment, true_mask in enumerate(target.all_masks()):
                truth = sample_points(true_mask.double()[None, None], points[image, None])[0, 0]
                expected = equations.soft_mask_losses(logits, truth, counted, kind)
                for found, wanted in zip((mask, dice), expected, strict=True):
                    torch.testing.assert_close(found[layer, image, :, segment], wanted, rtol=1e-5, atol=1e-6)


def test_hard_points_give_the_losses_of_hard_masks():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 30, generator=generator, dtype=torch.float64)
    masks, counted = (torch.rand(4, 30, generator=generator) > 0.4 for _ in range(2))
    for kind in equations.PER_PIXEL:
        found = equations.soft_mask_losses(logits, masks.double(), counted, kind)
        for value, expected in zip(found, equations.mask_losses(logits, masks, counted, kind), strict=True):
            torch.testing.assert_close(value, expected)
    soft = equations.soft_mask_losses(
        logits, torch.full_like(logits, 0.3), torch.ones(1, 30, dtype=torch.bool).expand(4, 30), 'bce'
    )
    expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.3), reduction='none').mean(1)
    torch.testing.assert_close(soft[0], expected)


def test_the_least_certain_points_are_chosen_and_the_rest_is_random():
    """The logit is zero along the middle column and grows towards both sides."""
    logits = torch.linspace(-5, 5, 16).expand(2, 1, 16, 16)
    loss = PointMaskLoss(num_points=100, seed=0)
    points = loss.choose(logits)
    assert points.shape == (2, 100, 2)
    # Within half a pixel of the border, sampling mixes in zeros, as in Mask2Former.
    inner = ((points[..., 1] - 0.5).abs() < 0.46).float()
    distance = (points[..., 0] - 0.5).abs() * inner
    assert distance[:, :75].max() < 0.16 and distance[:, 75:].max() > 0.4
    none = PointMaskLoss(num_points=100, importance_ratio=0.0, seed=0).choose(logits)
    assert (none[..., 0] - 0.5).abs().mean() == pytest.approx(0.25, abs=0.03)
    everything = PointMaskLoss(num_points=100, importance_ratio=1.0, seed=0).choose(logits)
    assert everything.shape == (2, 100, 2) and (everything[..., 0] - 0.5).abs().mean() < 0.1


def test_a_seed_repeats_the_points_independently_of_the_generator():
    predictions, targets = toy.make_predictions(), [toy.make_target(3), toy.make_target(2)]
    runs = []
    for disturb in (False, True):
        criterion, found = make_criterion(seed=3), []
        for _ in range(2):
            if disturb:
                torch.rand(5)
            found.append(criterion(predictions, targets))
        runs.append(found)
    assert runs[0] == runs[1] and runs[0][0]['loss_mask'] != runs[0][1]['loss_mask']
    assert make_criterion(seed=4)(predictions, targets)['loss_mask'] != runs[0][0]['loss_mask']
    unseeded = []
    for _ in range(2):
        torch.manual_seed(7)
        unseeded.append(make_criterion()(predictions, targets))
    assert unseeded[0] == unseeded[1]


def test_non_finite_logits_are_found_at_any_points():
    targets = [toy.make_target(3, SIZE), toy.make_target(2, SIZE)]
    for num_points in (1, 4):
        predictions = toy.make_predictions()
        logits = predictions[0].masks.multiplied_out().detach()
        logits[1, 2, 3, 4] = float('nan')
        predictions[0] = predictions[0]._replace(masks=Plain(logits))
        with pytest.raises(NonFiniteLogitsError, match=r'layer 1 of 2, image 1 .*in mask logits \(1 of '):
            make_criterion(seed=0, num_points=num_points)(predictions, targets)


def test_costs_and_losses_have_points_of_their_own():
    loss = PointMaskLoss(seed=3)
    ours, of_cost = (part.points.draw(1, 4, device=torch.device('cpu')) for part in (loss, loss.matching_cost()))
    assert not torch.equal(ours, of_cost) and not any('points' in key for key in loss.state_dict())


def test_matches_and_losses_equal_those_of_mmdets_mask2former():
    """One layer, with the same points, since both draw from torch's generator in the same order."""
    from mmengine.structures import InstanceData

    [prediction] = toy.make_predictions(num_layers=1, num_queries=9)
    targets = [toy.make_target(4, SIZE), toy.make_target(3, SIZE, seed=1)]
    head = mask2former_peer.make_head(num_classes=5, num_queries=9, num_points=200)
    instances = [InstanceData(labels=target.labels, masks=target.all_masks().long()) for target in targets]
    mask_logits = torch.stack([prediction.mask_logits(image) for image in range(2)])
    torch.manual_seed(0)
    expected = head._loss_by_feat_single(prediction.class_logits, mask_logits, instances, [{}, {}])
    criterion = make_criterion(num_points=200)
    torch.manual_seed(0)
    found = criterion([prediction], targets)
    for key, value in zip(('loss_cls', 'loss_mask', 'loss_dice'), expected, strict=True):
        torch.testing.assert_close(found[key], value.squeeze(), rtol=1e-5, atol=0)
    leaves = (prediction.class_logits, prediction.masks.embed, prediction.masks.features)
    theirs = torch.autograd.grad(sum(expected), leaves, retain_graph=True)
    for ours, gradient in zip(torch.autograd.grad(sum(found.values()), leaves), theirs, strict=True):
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-6)


def test_points_of_ignored_pixels_are_not_used():
    """Logits of ignored pixels have no effect."""
    predictions = toy.make_predictions(num_layers=1, batch=1)
    target = toy.make_target(3, (8, 12), ignored=True)  # on the grid of the logits
    target.segment_map[:, 6:] = -2
    losses = []
    for shift in (0.0, 30.0):
        logits = predictions[0].masks.multiplied_out().detach().clone()
        logits[..., 8:] += shift  # beyond the reach of bilinear sampling
        changed = [predictions[0]._replace(masks=Plain(logits))]
        criterion = make_criterion(seed=1, ignore_in_loss=True)
        criterion.mask_loss.importance_ratio = 0.0  # otherwise the logits determine the points
        losses.append(criterion(changed, [target]))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize('counts', [(0, 0), (9, 1)])
@pytest.mark.filterwarnings('ignore:an image has')
def test_no_segments_and_more_segments_than_queries(counts):
    predictions = toy.make_predictions()
    losses = make_criterion()(predictions, [toy.make_target(count) for count in counts])
    sum(losses.values()).backward()
    assert all(prediction.masks.embed.grad is not None for prediction in predictions)
    assert bool(losses['loss_mask'] > 0) == any(counts)


@pytest.mark.parametrize(
    'settings',
    [dict(num_points=0), dict(oversample_ratio=0.5), dict(importance_ratio=1.5), dict(kind='l1'), dict(seed=-1)],
)
def test_values_out_of_range_are_refused(settings):
    [key] = settings
    with pytest.raises(ValueError, match=rf'criterion.mask_loss.{key}: found .*, expected'):
        PointMaskLoss(**settings)
