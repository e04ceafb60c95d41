import pytest
import torch
from helpers import oracles, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmaskformer.core.losses import class_loss, focal_terms, matched_mask_losses, pairwise_mask_costs


@settings(max_examples=25, deadline=None)
@given(
    segments=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 21), st.integers(1, 21)),
    seed=st.integers(0, 1000),
)
def test_matched_losses_equal_the_equations(segments, grid, size, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(segments, *grid, generator=generator, dtype=torch.float64) * 4
    targets = torch.rand(segments, *size, generator=generator) < 0.4
    focal, dice = matched_mask_losses(logits, targets)
    for i in range(segments):
        probability = oracles.upsample(logits[i], size).sigmoid()
        torch.testing.assert_close(focal[i], oracles.focal(probability, targets[i]).mean(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(dice[i], oracles.dice(probability, targets[i]), rtol=1e-9, atol=1e-12)


def test_the_diagonal_of_the_pairwise_form_is_the_matched_form():
    target = toy.make_target(6, (8, 12))
    masks = target.masks_of(torch.arange(6))
    logits = torch.randn(6, 8, 12, dtype=torch.float64)
    for pairwise, matched in zip(
        pairwise_mask_costs(logits.flatten(1), masks.flatten(1)), matched_mask_losses(logits, masks), strict=True
    ):
        torch.testing.assert_close(pairwise.diagonal(), matched)


def test_pairwise_costs_of_no_segment_are_empty():
    focal, dice = pairwise_mask_costs(torch.randn(4, 10), torch.zeros(0, 10, dtype=torch.bool))
    assert focal.shape == dice.shape == (4, 0)


def test_pairwise_costs_need_one_grid():
    with pytest.raises(ValueError, match='10 pixels and targets 9'):
        pairwise_mask_costs(torch.randn(4, 10), torch.zeros(2, 9, dtype=torch.bool))


def test_focal_terms_keep_their_tails():
    x = torch.tensor([-80.0, -30.0, 30.0, 80.0], dtype=torch.float64)
    positive, negative = focal_terms(x.float())
    torch.testing.assert_close(positive[:2].double(), 0.25 * -x[:2], rtol=1e-6, atol=0)
    torch.testing.assert_close(negative[2:].double(), 0.75 * x[2:], rtol=1e-6, atol=0)
    assert positive[3] >= 0 and negative[0] >= 0 and positive[3] < 1e-30 and negative[0] < 1e-30


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = (torch.randn(3, 64, 64) * 6).to(dtype)
    masks = torch.rand(3, 256, 256) < 0.5
    found, expected = matched_mask_losses(logits, masks), matched_mask_losses(logits.double(), masks)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32 and a.isfinite().all()
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=0)


def test_gradients_of_the_mask_losses():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, 7, 9) < 0.5
    assert torch.autograd.gradcheck(lambda x: matched_mask_losses(x, masks), logits)


def test_class_loss_is_a_mean_weighted_by_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    nll = -logits.log_softmax(-1)
    expected = (nll[0, 0] + 0.1 * nll[1, 2]) / 1.1
    torch.testing.assert_close(class_loss(logits, torch.tensor([0, 2]), 0.1), expected)
    assert class_loss(logits.bfloat16(), torch.tensor([0, 2]), 0.1).dtype == torch.float32
