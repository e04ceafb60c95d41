"""Output of user-defined parts is used as intended or refused, and never misinterpreted."""

import warnings

import numpy as np
import pytest
import torch
from helpers import oracles, toy

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.training.assignment import HungarianAssignment
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import FixedMatcher, HungarianMatcher, SetMatcher
from mmmaskformer.core.training.parts import ClassCost, Cost, MaskLoss
from mmmaskformer.core.training.per_pixel_criterion import PixelMaskLosses


def batch():
    predictions = toy.make_predictions(dtype=torch.float64)
    return predictions, [toy.make_target(3), toy.make_target(2)]


class GivenMatches(torch.nn.Module):
    def __init__(self, matches):
        super().__init__()
        self.matches = matches

    def forward(self, layers, targets):
        return self.matches


def losses_with(matches):
    return SetCriterion(num_classes=5, matcher=GivenMatches(matches))(*batch())


def test_matches_may_come_in_any_order():
    matches = HungarianMatcher()(*batch())
    order = np.random.default_rng(0).permutation(len(matches.layer))
    torch.testing.assert_close(losses_with(Matches(*(x[order] for x in matches))), losses_with(matches))


@pytest.mark.parametrize(
    'column, change, message',
    [
        (
            'query',
            lambda x: 0 * x,
            r'GivenMatches matched query 0 of layer 0, image 0 .* segments 2 and 1; expected at',
        ),
        ('query', lambda x: x - 1, r'matched query -1 \(layer 0, image 0 of the batch\); expected 0 to 6'),
        ('segment', lambda x: x + 1, r'matched segment 3 \(layer 0, image 0 of the batch\); expected 0 to 2'),
        ('layer', lambda x: x + 1, r'matched layer 2 \(layer 2, image 0 of the batch\); expected 0 to 1'),
        ('image', lambda x: x - 1, r'matched image -1 \(layer 0, image -1 of the batch\); expected 0 to 1'),
    ],
)
def test_indices_out_of_range_are_refused(column, change, message):
    matches = HungarianMatcher()(*batch())
    with pytest.raises(ValueError, match=message):
        losses_with(matches._replace(**{column: change(getattr(matches, column))}))


@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('overlapping', [False, True])
@pytest.mark.parametrize('ignore', [False, True])
def test_a_segment_may_be_matched_to_several_queries_or_to_none(fast, overlapping, ignore):
    predictions = toy.make_predictions(dtype=torch.float64)
    targets = [toy.make_target(count, seed=count, ignored=True) for count in (3, 2)]
    matches = Matches.of([[([0, 3, 5, 6], [1, 1, 2, 1]), ([2], [1])], [([], []), (range(7), [0, 1, 0, 1, 1, 0, 0])]])
    criterion = SetCriterion(num_classes=5, matcher=GivenMatches(matches), ignore_in_loss=ignore)
    before = set_fast_paths(fast)
    try:
        losses = criterion(predictions, list(map(toy.as_masks, targets)) if overlapping else targets)
    finally:
        set_fast_paths(**before)
    expected = oracles.set_loss(predictions, targets, matches, ignore=ignore)
    leaves = [predictions[0].masks.features, *(x for p in predictions for x in (p.class_logits, p.masks.embed))]
    assert set(losses) == set(expected)
    torch.testing.assert_close([losses[key] for key in expected], list(expected.values()))
    found, wanted = (torch.autograd.grad(sum(x.values()), leaves) for x in (losses, expected))
    torch.testing.assert_close(found, wanted)


def test_layers_may_fold_convolutions_of_their_own_over_one_map():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 12, dtype=torch.float64)
    predictions = []
    for _ in range(2):
        logits, embed, weight, bias = map(torch.randn, [(2, 7, 6), (2, 7, 3), (3, 4, 3, 3), (3,)])
        masks = Folded(embed.double(), LastConv(x, weight.double(), bias.double()))
        predictions.append(MaskPrediction(logits.double(), masks))
    targets = batch()[1]
    criterion = toy.make_criterion()
    plain = [MaskPrediction(p.class_logits, Plain(p.masks.multiplied_out())) for p in predictions]
    torch.testing.assert_close(criterion(predictions, targets), criterion(plain, targets))


class ChosenCost(Cost):
    """0, and a value for the first query, or for segments that an image does not have."""

    names = ('chosen',)

    def __init__(self, value, *, padding):
        super().__init__()
        self.value, self.padding = value, padding

    def forward(self, layers, targets):
        costs = layers.class_logits.new_zeros(*layers.class_logits.shape[:3], max(targets.counts))
        for image, count in enumerate(targets.counts):
            (costs[:, image, :, count:] if self.padding else costs[:, image, 0]).fill_(self.value)
        return (costs,)


def matched_with(cost):
    return SetMatcher(assignment=HungarianAssignment(), costs=[ClassCost(), cost])(*batch())


def test_costs_of_segments_that_an_image_does_not_have_may_be_anything():
    found = matched_with(ChosenCost(float('nan'), padding=True))
    expected = SetMatcher(assignment=HungarianAssignment(), costs=[ClassCost()])(*batch())
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_a_cost_that_is_not_finite_is_named(value):
    with pytest.raises(
        ValueError, match=r"cost 'chosen' of ChosenCost is inf or NaN for 6 of 42 pairs of image 0 .* such as 1e6"
    ):
        matched_with(ChosenCost(value, padding=False))


class GivenCost(Cost):
    names = ('given',)

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, layers, targets):
        return self.values


class GivenLoss(MaskLoss):
    names = ('given',)

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, mask_logits, targets, pairs):
        return self.give(mask_logits)


@pytest.mark.parametrize(
    'values, message',
    [
        (
            torch.zeros(2, 2, 7, 3),
            r'GivenCost returned \(2, 2, 7, 3\) float32; expected a tuple with a tensor for each',
        ),
        ((torch.zeros(2, 7, 3),), r"GivenCost returned \(2, 7, 3\) float32 as 'given'; expected \(2, 2, 7, 3\)"),
        ((torch.zeros(2, 2, 3, 7),), r'expected \(2, 2, 7, 3\)'),
        ((torch.zeros(2, 2, 7, 3),) * 2, 'GivenCost returned a tuple of 2; expected'),
    ],
)
def test_costs_of_another_shape_or_number_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        matched_with(GivenCost(values))


def test_a_cost_may_be_one_value_for_all_layers_images_queries_or_segments():
    cost = torch.rand(2, 2, 7, 1, dtype=torch.float64)
    found, expected = (matched_with(GivenCost((x,))) for x in (cost, cost.expand(2, 2, 7, 3)))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    'give, message',
    [
        (lambda x: (x.mean(),), r"GivenLoss returned \(\) float64 as 'given'; expected \(10,\)"),
        (lambda x: (x,), r"GivenLoss returned \(10, 8, 12\) float64 as 'given'; expected \(10,\)"),
        (lambda x: x.mean((1, 2)), 'expected a tuple with a tensor for each of its names'),
        (lambda x: dict(given=x.mean((1, 2))), 'GivenLoss returned a dict; expected a tuple'),
    ],
)
def test_losses_of_another_shape_or_number_are_refused(give, message):
    criterion = toy.make_criterion(mask_loss=GivenLoss(give))
    with pytest.raises(ValueError, match=message):
        criterion(*batch())
    with pytest.raises(ValueError, match=message):
        PixelMaskLosses(num_classes=5, mask_loss=GivenLoss(give))([Plain(torch.rand(2, 5, 8, 12).double())], batch()[1])


@pytest.mark.parametrize('names', ['mask', ('a', 'a'), ('cls',), (), (1,)])
def test_names_of_losses_are_different(names, monkeypatch):
    monkeypatch.setattr(GivenLoss, 'names', names)
    with pytest.raises(
        ValueError, match=r"GivenLoss.names: found .*, expected a tuple of different names, none .*'cls'"
    ):
        toy.make_criterion(mask_loss=GivenLoss(None))


@pytest.mark.parametrize('dtype', [torch.long, torch.bool, torch.complex64])
def test_losses_and_costs_are_real_numbers(dtype):
    criterion = toy.make_criterion(mask_loss=GivenLoss(lambda x: (x.sum((1, 2)).to(dtype),)))
    name = str(dtype).removeprefix('torch.')
    with pytest.raises(ValueError, match=rf"GivenLoss returned \(10,\) {name} as 'given'; expected \(10,\) float"):
        criterion(*batch())
    cost = torch.randint(2, (2, 2, 7, 3)).to(dtype)
    if dtype.is_complex:
        with pytest.raises(ValueError, match=r"GivenCost returned .* complex64 as 'given'; expected \(2, 2, 7, 3\)"):
            matched_with(GivenCost((cost,)))
    else:
        found, expected = (matched_with(GivenCost((x,))) for x in (cost, cost.double()))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_losses_and_costs_are_on_the_device_of_the_predictions():
    with pytest.raises(ValueError, match=r"GivenCost returned .* float32 on meta as 'given'; expected .* float on cpu"):
        matched_with(GivenCost((torch.zeros(2, 2, 7, 3, device='meta'),)))
    with pytest.raises(ValueError, match=r"GivenLoss returned \(10,\) float64 on meta as 'given'; expected .* on cpu"):
        toy.make_criterion(mask_loss=GivenLoss(lambda x: (x.mean((1, 2)).to('meta'),)))(*batch())


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_a_loss_that_is_not_finite_is_named(value):
    def give(logits):
        loss = logits.mean((1, 2)).clone()
        loss[3] = value
        return (loss,)

    message = "GivenLoss returned inf or NaN as 'given' for 1 of 10 masks, whose logits are finite; expected finite"
    with pytest.raises(ValueError, match=message):
        toy.make_criterion(mask_loss=GivenLoss(give))(*batch())
    with pytest.raises(ValueError, match=f'decoder layer 1 of 1: {message}'):
        PixelMaskLosses(num_classes=5, mask_loss=GivenLoss(give))([Plain(torch.rand(2, 5, 8, 12))], batch()[1])


def test_a_product_of_finite_factors_that_is_not_finite_is_found_by_the_loss():
    huge = Product(torch.full((2, 5, 6), 1e30), torch.full((2, 6, 8, 12), 1e30))
    targets = [toy.make_target(n)._replace(labels=torch.arange(n)) for n in (3, 2)]
    with pytest.raises(NonFiniteLogitsError, match="returned inf or NaN as 'mask' for 5 of 5 masks, whose logits"):
        SetCriterion(num_classes=5, matcher=FixedMatcher())([MaskPrediction(torch.zeros(2, 5, 6), huge)], targets)


def test_a_loss_without_gradients_is_reported_once():
    loss = GivenLoss(lambda x: ((x > 0).double().mean((1, 2)),))
    criterion = toy.make_criterion(mask_loss=loss)
    with pytest.warns(UserWarning, match="GivenLoss returned values without gradients as 'given'") as caught:
        for _ in range(2):
            criterion(*batch())
    assert len(caught) == 1
    with pytest.warns(UserWarning, match='without gradients'):  # every criterion reports its own
        toy.make_criterion(mask_loss=loss)(*batch())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        toy.make_criterion(mask_loss=loss, loss_weights=dict(given=0.0))(*batch())  # only logged
        with torch.no_grad():
            toy.make_criterion(mask_loss=loss)(*batch())


def test_a_constant_loss_of_no_masks_still_gives_every_factor_a_gradient_of_zero():
    predictions, _ = batch()
    criterion = toy.make_criterion(mask_loss=GivenLoss(lambda x: (torch.zeros(len(x)),)))
    sum(criterion(predictions, [toy.make_target(0)] * 2).values()).backward()
    for leaf in (predictions[0].masks.features, predictions[1].masks.embed):
        assert leaf.grad is not None and not leaf.grad.any()


@pytest.mark.parametrize(
    'give, message',
    [
        (lambda found: None, 'GivenAssignment returned a NoneType; expected Matches'),
        (tuple, 'GivenAssignment returned a tuple; expected Matches'),
        (lambda found: found._replace(query=0 * found.query), 'GivenAssignment matched query 0 of layer 0, image 0'),
        (lambda found: found._replace(segment=found.segment + 3), r'GivenAssignment matched segment [345] \(layer'),
        (lambda found: found._replace(query=found.query / 2), 'query of GivenAssignment: found .* float64'),
    ],
)
def test_pairs_of_an_assignment_are_checked_under_its_name(give, message):
    class GivenAssignment(HungarianAssignment):
        def __call__(self, costs, targets):
            return give(super().__call__(costs, targets))

    with pytest.raises((TypeError, ValueError), match=message):
        SetMatcher(assignment=GivenAssignment())(*batch())


@pytest.mark.parametrize(
    'build, message',
    [
        (lambda: SetMatcher(assignment=lambda costs, targets: None), 'found a function, expected an Assignment'),
        (lambda: SetMatcher(assignment=None), 'matcher.assignment: found a NoneType, expected an Assignment'),
        (lambda: HungarianMatcher(costs=ClassCost()), 'matcher.costs: found ClassCost, expected a list'),
        (lambda: HungarianMatcher(costs=[torch.nn.Identity()]), r"matcher.costs: found \['Identity'\]"),
        (lambda: SetCriterion(num_classes=5, matcher=None), 'matcher is a NoneType; expected'),
    ],
)
def test_parts_of_another_kind_are_refused(build, message):
    with pytest.raises(TypeError, match=message):
        build()


def test_weights_that_are_all_zero_give_no_loss_instead_of_nan():
    predictions, _ = batch()
    criterion = toy.make_criterion(no_object_weight=0.0)
    losses = criterion(predictions, [toy.make_target(0)] * 2)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert not predictions[0].class_logits.grad.any()
