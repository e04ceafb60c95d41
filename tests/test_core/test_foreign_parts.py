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
from mmmaskformer.core.training.parts import ClassCost, Cost


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


def test_weights_that_are_all_zero_give_no_loss_instead_of_nan():
    predictions, _ = batch()
    criterion = toy.make_criterion(no_object_weight=0.0)
    losses = criterion(predictions, [toy.make_target(0)] * 2)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert not predictions[0].class_logits.grad.any()
