"""The criterion with fast paths and with the equations, with and without ignored pixels."""

import pytest
import torch
from helpers import oracles, toy

from mmmaskformer.core.fast_paths import FAST_PATHS, set_fast_paths
from mmmaskformer.core.masks import Plain
from mmmaskformer.core.structures import IGNORED, MaskTarget, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher
from mmmaskformer.core.training.pairwise import pairwise_mask_costs
from mmmaskformer.core.training.parts import CrossEntropyDiceLoss, FocalDiceLoss

LOSSES = {'focal': FocalDiceLoss, 'bce': CrossEntropyDiceLoss}
PER_PIXEL = {'focal': oracles.focal, 'bce': oracles.bce}


@pytest.fixture(params=['fast', 'plain', *FAST_PATHS])
def way(request):
    """Enable all fast paths, none, or all but one."""
    before = set_fast_paths(request.param != 'plain')
    if request.param in FAST_PATHS:
        set_fast_paths(**{request.param: False})
    yield request.param
    set_fast_paths(**before)


def make_criterion(kind, ignore):
    mask_loss = LOSSES[kind]()
    matcher = HungarianMatcher(mask_loss=mask_loss)
    return SetCriterion(num_classes=5, matcher=matcher, mask_loss=mask_loss, ignore_in_loss=ignore)


def make_targets(counts, overlapping):
    targets = [toy.make_target(count, (31, 45), seed=i, ignored=True) for i, count in enumerate(counts)]
    return targets, [toy.as_masks(target) for target in targets] if overlapping else targets


@pytest.mark.parametrize('kind', LOSSES)
@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('overlapping', [False, True])
def test_losses_and_gradients_equal_the_oracle(way, kind, ignore, overlapping):
    predictions = toy.make_predictions(dtype=torch.float64)
    targets, used = make_targets((3, 2), overlapping)
    criterion = make_criterion(kind, ignore)
    losses = criterion(predictions, used)
    matches = criterion.matcher(predictions, Targets.of(used).leaving_out_ignored(ignore))
    expected = oracles.set_loss(predictions, targets, matches, ignore=ignore, per_pixel=PER_PIXEL[kind])
    leaves = [predictions[0].masks.features, *(x for p in predictions for x in (p.class_logits, p.masks.embed))]
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-10, atol=1e-14)
    found, wanted = (torch.autograd.grad(sum(x.values()), leaves) for x in (losses, expected))
    for gradient, value in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize('kind', LOSSES)
@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('overlapping', [False, True])
def test_costs_equal_the_oracle(way, kind, ignore, overlapping):
    targets, used = make_targets((3, 0, 2), overlapping)
    logits = torch.randn(3, 4, 31, 45, dtype=torch.float64)
    found = pairwise_mask_costs(Plain(logits), Targets.of(used).leaving_out_ignored(ignore), kind)
    for image, target in enumerate(targets):
        counted = target.segment_map != IGNORED if ignore else torch.ones(31, 45, dtype=torch.bool)
        for segment in range(target.num_segments):
            mask = (target.segment_map == segment)[counted]
            for query in range(4):
                probability = logits[image, query].sigmoid()[counted]
                expected = PER_PIXEL[kind](probability, mask).mean(), oracles.dice(probability, mask)
                for cost, value in zip(found, expected, strict=True):
                    torch.testing.assert_close(cost[image, query, segment], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('form', [lambda target: target, toy.as_masks])
def test_ignored_pixels_have_losses_of_closed_form(way, form):
    # 8 pixels: 2 of the segment, 2 of the background, 4 ignored; all logits are 0, so every probability is 1/2.
    segment_map = torch.tensor([[0, 0, -1, -1], [-2, -2, -2, -2]])
    target = form(MaskTarget(torch.tensor([1]), segment_map=segment_map))
    logits = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    log2 = torch.tensor(2.0, dtype=torch.float64).log()
    for ignore, background in ((False, 6), (True, 2)):
        targets = Targets.of([target]).leaving_out_ignored(ignore)
        pixels = 2 + background
        focal = (2 * 0.25 + background * 0.75) * 0.25 * log2 / pixels
        dice = 1 - (2 * 1 + 1) / (pixels / 2 + 2 + 1)
        mask_cost, dice_cost = pairwise_mask_costs(Plain(logits), targets)
        torch.testing.assert_close(mask_cost.squeeze(), focal)
        assert float(dice_cost) == pytest.approx(dice)


def test_a_completely_ignored_image_adds_nothing(way):
    nothing = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((32, 48), IGNORED))
    predictions = toy.make_predictions()
    losses = make_criterion('focal', True)(predictions, [nothing, nothing])
    assert losses['loss_mask'] == 0 and losses['loss_dice'] == 0
    sum(losses.values()).backward()
    assert not predictions[0].masks.features.grad.any()


def test_pixels_of_a_segment_are_used_even_if_ignored_elsewhere():
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 0] = True
    target = MaskTarget(torch.tensor([0]), masks=masks, ignored=torch.ones(4, 4, dtype=torch.bool))
    counted = Targets.of([target]).leaving_out_ignored(True).counted
    assert torch.equal(counted[0], masks[0])


def test_ignoring_pixels_is_free_unless_enabled():
    _, used = make_targets((3, 2), False)
    assert Targets.of(used).counted is None and Targets.of(used).leaving_out_ignored(True).counted.any()


def test_the_equations_are_differentiable_twice():
    logits = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    masks, counted = torch.rand(3, 10) > 0.5, torch.rand(10) > 0.2
    for kind in LOSSES:
        assert torch.autograd.gradgradcheck(lambda x, kind=kind: equations.mask_losses(x, masks, counted, kind), logits)
