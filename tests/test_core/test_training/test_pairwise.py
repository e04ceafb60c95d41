"""The costs computed from factors equal the equations, pair by pair."""

import pytest
import torch
from helpers import oracles, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmaskformer.core.masks import Product
from mmmaskformer.core.structures import Targets
from mmmaskformer.core.training import pairwise
from mmmaskformer.core.training.equations import PER_PIXEL
from mmmaskformer.core.training.pairwise import pairwise_mask_costs
from mmmaskformer.core.upsampling import sample_nearest


def assert_equals_the_equations(found, embed, features, targets, kind='focal'):
    """Compare (mask, dice) with the equations in float64."""
    per_pixel = {'focal': oracles.focal, 'bce': oracles.bce}[kind]
    for image, target in enumerate(targets):
        small = sample_nearest(target.all_masks(), tuple(features.shape[-2:]))
        for query, embedding in enumerate(embed[image].double()):
            probability = torch.einsum('c,chw->hw', embedding, features[image].double()).sigmoid()
            for segment in range(target.num_segments):
                mask = small[segment]
                expected = per_pixel(probability, mask).mean(), oracles.dice(probability, mask)
                for cost, value in zip(found, expected, strict=True):
                    # A small cost may be the difference of two large sums, so its absolute error is bounded.
                    rtol, atol = (1e-9, 1e-12) if cost.dtype == torch.float64 else (1e-5, 1e-6)
                    torch.testing.assert_close(cost[image, query, segment].double(), value, rtol=rtol, atol=atol)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    overlapping=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    chunk=st.integers(1, 100),
    kind=st.sampled_from(list(PER_PIXEL)),
    seed=st.integers(0, 1000),
)
def test_costs_equal_the_equations(counts, grid, size, overlapping, dtype, chunk, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    embed = torch.randn(len(counts), 4, 5, generator=generator, dtype=torch.float64).to(dtype)
    features = torch.randn(len(counts), 5, *grid, generator=generator, dtype=torch.float64).to(dtype)
    targets = [toy.make_target(count, size, seed=seed + i) for i, count in enumerate(counts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairwise, 'FEWEST_PIXELS', 1)
        patch.setattr(pairwise, 'chunk_rows', lambda row_elements, device: max(1, chunk // row_elements))
        used = [toy.as_masks(target) for target in targets] if overlapping else targets
        found = pairwise_mask_costs(Product(embed, features), Targets.of(used), kind)
    assert all(cost.shape == (len(counts), 4, max(counts)) for cost in found)
    assert_equals_the_equations(found, embed, features, targets, kind)


def test_the_code_path_of_other_devices_equals_the_equations(monkeypatch):
    targets = [toy.make_target(3), toy.make_target(0)]
    embed, features = torch.randn(2, 4, 5), torch.randn(2, 5, 8, 12)
    members = pairwise._members(Targets.of([toy.as_masks(target) for target in targets]), (8, 12))
    monkeypatch.setattr(pairwise, '_members', lambda targets, size: members)
    assert_equals_the_equations(
        pairwise_mask_costs(Product(embed, features), Targets.of(targets)), embed, features, targets
    )


def test_large_logits_keep_their_costs():
    target = toy.make_target(2, (16, 16))
    features = torch.linspace(-300, 300, 256).view(1, 1, 16, 16)
    focal, _ = pairwise_mask_costs(Product(torch.ones(1, 1, 1), features), Targets.of([target]))
    logits, masks = features.double().flatten(), target.masks_of(torch.arange(2)).flatten(1)
    for segment, mask in enumerate(masks):
        log_true = torch.nn.functional.logsigmoid(torch.where(mask, logits, -logits))
        weight = torch.where(mask, 0.25, 0.75) * (1 - log_true.exp()) ** 2
        torch.testing.assert_close(focal[0, 0, segment].double(), (-weight * log_true).mean(), rtol=1e-5, atol=0)


def test_targets_of_a_batch_have_one_size():
    with pytest.raises(ValueError, match=r'sizes \[\(32, 48\), \(40, 48\)\]; expected one. Fix: pad'):
        Targets.of([toy.make_target(1), toy.make_target(1, (40, 48))])
