"""The one-pass loss and its gradient equal the equations and their automatic derivative."""

import pytest
import torch
from helpers import oracles, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmaskformer.core.masks import Plain
from mmmaskformer.core.structures import MaskTarget, Targets
from mmmaskformer.core.training import one_pass
from mmmaskformer.core.training.equations import PER_PIXEL
from mmmaskformer.core.training.one_pass import matched_mask_losses
from mmmaskformer.core.training.pairwise import pairwise_mask_costs


def plain(logits, masks, kind='focal'):
    """Losses of each mask from the equations, differentiable."""
    per_pixel = {'focal': oracles.focal, 'bce': oracles.bce}[kind]
    focal, dice = [], []
    for logit, mask in zip(logits, masks, strict=True):
        probability = oracles.upsample(logit, tuple(mask.shape)).sigmoid()
        focal.append(per_pixel(probability, mask).mean())
        dice.append(oracles.dice(probability, mask))
    return torch.stack(focal), torch.stack(dice)


@settings(max_examples=40, deadline=None)
@given(
    segments=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 21), st.integers(1, 21)),
    seed=st.integers(0, 1000),
    overlapping=st.booleans(),
    kind=st.sampled_from(list(PER_PIXEL)),
)
def test_losses_and_gradients_equal_the_equations(segments, grid, size, seed, overlapping, kind):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(segments + 1, *grid, generator=generator, dtype=torch.float64) * 4).requires_grad_()
    target = toy.make_target(segments, size, seed=seed)
    idx = torch.randint(0, segments, (segments + 1,), generator=generator)
    weights = torch.rand(2, segments + 1, generator=generator, dtype=torch.float64)
    found = matched_mask_losses(logits, toy.as_masks(target) if overlapping else target, idx, kind)
    expected = plain(logits, target.masks_of(idx), kind)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    gradients = [
        torch.autograd.grad((weights[0] * focal + weights[1] * dice).sum(), logits)[0]
        for focal, dice in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize('rows', [1, 2])
def test_chunks_do_not_change_the_result(monkeypatch, rows):
    target, idx = toy.make_target(4, (30, 50)), torch.tensor([3, 0, 1, 2, 3])
    logits = torch.randn(5, 8, 13, dtype=torch.float64, requires_grad=True)
    whole = matched_mask_losses(logits, target, idx)
    monkeypatch.setattr(one_pass, 'chunk_rows', lambda row_elements, device: rows)
    chunked = matched_mask_losses(logits, target, idx)
    for a, b in zip(whole, chunked, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(*(torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (a, b)))


def test_the_diagonal_of_the_pairwise_form_is_the_matched_form():
    target = toy.make_target(6, (8, 12))
    logits = torch.randn(6, 8, 12, dtype=torch.float64)
    pairwise = pairwise_mask_costs(Plain(logits[None]), Targets.of([target]))
    for cost, matched in zip(pairwise, matched_mask_losses(logits, target, torch.arange(6)), strict=True):
        torch.testing.assert_close(cost[0].diagonal(), matched)


def test_gradients_are_those_of_the_values():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = toy.make_target(2, (9, 14))
    assert torch.autograd.gradcheck(lambda x: matched_mask_losses(x, target, torch.arange(2)), logits)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = (torch.randn(3, 64, 64) * 6).to(dtype).requires_grad_()
    target = toy.make_target(3, (256, 256))
    found = matched_mask_losses(logits, target, torch.arange(3))
    expected = matched_mask_losses(logits.double(), target, torch.arange(3))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=0)
    sum(found).sum().backward()
    assert logits.grad.dtype == dtype and logits.grad.isfinite().all()


@pytest.mark.parametrize('value', [-200.0, -95.0, -60.0, 60.0, 95.0, 200.0])
def test_extreme_logits_keep_value_and_gradient(value):
    target = MaskTarget(torch.zeros(1, dtype=torch.long), segment_map=torch.tensor([[0, 0], [-1, -1]]))
    logits = torch.full((1, 2, 2), value, requires_grad=True)
    focal, dice = matched_mask_losses(logits, target, torch.zeros(1, dtype=torch.long))
    (focal + dice).sum().backward()
    # Two of four pixels are wrong by |value|, with weight alpha (missed) or 1 - alpha (false positive).
    assert focal.item() == pytest.approx(abs(value) * (0.25 if value < 0 else 0.75) / 2, rel=1e-5)
    expected = torch.zeros(2, 2)
    expected[0 if value < 0 else 1] = -0.25 / 4 if value < 0 else 0.75 / 4
    torch.testing.assert_close(logits.grad[0], expected, rtol=1e-5, atol=1e-12)


def test_zero_pairs_give_zero_loss():
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    focal, dice = matched_mask_losses(logits, toy.make_target(0, (16, 16)), torch.zeros(0, dtype=torch.long))
    assert focal.shape == dice.shape == (0,)
