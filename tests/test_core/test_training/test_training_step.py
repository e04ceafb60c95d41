"""The training step equals the plain one: losses, matches, and gradients of features and all parameters."""

import numpy as np
import pytest
import torch
from helpers import plain, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmaskformer.core.matches import Matches

LIMITS = {torch.float32: (1e-5, 2e-5), torch.float64: (1e-9, 1e-9)}


def assert_same_step(model, size, counts, *, dtype, overlapping=False, seed=0):
    """Losses agree within a relative tolerance, gradients within a fraction of their tensor's largest entry."""
    loss_limit, gradient_limit = LIMITS[dtype]
    model = model.to(dtype)
    features = [x.to(dtype).requires_grad_() for x in toy.make_features(size, batch=len(counts), seed=seed)]
    # Segments may be too small to have pixels; then only their classes, all different, distinguish them.
    targets = [
        toy.make_target(count, size, seed=seed + i)._replace(labels=torch.randperm(7)[:count])
        for i, count in enumerate(counts)
    ]
    criterion = toy.make_criterion(7)
    predictions = model(features, all_layers=True)
    used = [toy.as_masks(target) for target in targets] if overlapping else targets
    found = criterion(predictions, used)
    expected, matches = plain.losses(*plain.forward(model, features), targets)
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=loss_limit, atol=1e-7)
    for found_column, wanted_column in zip(criterion.matcher(predictions, used), Matches.of(matches), strict=True):
        assert np.array_equal(found_column, wanted_column)
    leaves = {**dict(model.named_parameters()), **{f'feature {i}': x for i, x in enumerate(features)}}
    gradients = torch.autograd.grad(sum(found.values()), list(leaves.values()))
    wanted = torch.autograd.grad(sum(expected.values()), list(leaves.values()), allow_unused=True)
    for name, gradient, value in zip(leaves, gradients, wanted, strict=True):
        value = torch.zeros_like(gradient) if value is None else value
        # The smallest gradients are sums of terms that cancel; 1e-6 of the terms is their rounding error.
        atol = gradient_limit * max(float(value.abs().max()), 1e-2)
        torch.testing.assert_close(gradient, value, rtol=0, atol=atol, msg=lambda text, name=name: f'{name}: {text}')


@settings(max_examples=20, deadline=None)
@given(
    # If the memory had one pixel, all queries would be equal and all matchings equally good.
    size=st.tuples(st.integers(1, 80), st.integers(33, 80)),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    num_queries=st.integers(6, 9),
    num_layers=st.integers(1, 3),
    overlapping=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_any_step_equals_the_plain_one(size, counts, num_queries, num_layers, overlapping, dtype, seed):
    torch.manual_seed(seed)
    model = toy.make_classifier(7, num_queries=num_queries, num_layers=num_layers)
    assert_same_step(model, size, counts, dtype=dtype, overlapping=overlapping, seed=seed)


@pytest.mark.parametrize('dtype', LIMITS)
def test_more_matched_queries_than_channels(dtype):
    torch.manual_seed(0)
    assert_same_step(toy.make_classifier(7, num_layers=3), (64, 96), (7, 2), dtype=dtype)


def test_mask_logits_carry_the_gradient_of_the_features():
    torch.manual_seed(0)
    model = toy.make_classifier().double()
    features = [x.double().requires_grad_() for x in toy.make_features()]
    weights = torch.randn(2, 2, 7, 16, 24, dtype=torch.float64)
    predictions = model(features, all_layers=True)
    logits = torch.stack([torch.stack([p.mask_logits(image) for image in range(2)]) for p in predictions])
    _, expected = plain.forward(model, features)
    leaves = [*features, *model.pixel_decoder.parameters(), *model.mask_embed.parameters()]
    gradients = [torch.autograd.grad((value * weights).sum(), leaves) for value in (logits, expected)]
    torch.testing.assert_close(logits, expected)
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted)


def test_autocast_trains_like_the_plain_step():
    torch.manual_seed(0)
    model, targets = toy.make_classifier(), [toy.make_target(3, (64, 96)), toy.make_target(0, (64, 96))]
    features = toy.make_features()
    gradients = []
    for fast in (True, False):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            if fast:
                total = sum(toy.make_criterion()(model(features, all_layers=True), targets).values())
            else:
                total = sum(plain.losses(*(x.float() for x in plain.forward(model, features)), targets)[0].values())
        parts = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    fast, slow = gradients
    assert float(torch.nn.functional.cosine_similarity(fast, slow, dim=0)) > 0.999
    assert float(fast.norm() / slow.norm()) == pytest.approx(1, abs=0.01)
