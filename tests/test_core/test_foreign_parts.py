"""Output of user-defined parts is used as intended or refused, and never misinterpreted."""

import numpy as np
import pytest
import torch
from helpers import toy

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain
from mmmaskformer.core.structures import MaskPrediction, Matches
from mmmaskformer.core.training.assignment import HungarianAssignment
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher, SetMatcher
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


@pytest.mark.parametrize('names', ['mask', ('a', 'a'), ('cls',)])
def test_names_of_losses_are_different(names, monkeypatch):
    monkeypatch.setattr(GivenLoss, 'names', names)
    with pytest.raises(
        ValueError, match=r"GivenLoss.names: found .*, expected a tuple of different names, none .*'cls'"
    ):
        toy.make_criterion(mask_loss=GivenLoss(None))


def test_a_pixel_decoder_that_gives_a_plain_tuple_is_refused():
    model = toy.make_classifier()
    model.pixel_decoder.register_forward_hook(lambda module, inputs, output: tuple(output[:2]))
    with pytest.raises(
        TypeError, match=r'FPNPixelDecoder returned a tuple; expected PixelDecoderOutput\(memory, mask_feat'
    ):
        model(toy.make_features(), all_layers=True)


def test_weights_that_are_all_zero_give_no_loss_instead_of_nan():
    predictions, _ = batch()
    criterion = toy.make_criterion(no_object_weight=0.0)
    losses = criterion(predictions, [toy.make_target(0)] * 2)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert not predictions[0].class_logits.grad.any()
