"""The criterion for predictions in half precision, against float64 and the same numbers."""

import pytest
import torch
from helpers import oracles, toy

from mmmaskformer.core import fuse_for_inference
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import FixedMatcher, HungarianMatcher

DTYPES = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
"""Limits of the gradients' relative error; a few times the rounding error of the dtype."""


def leaves_of(dtype, num_layers=2, batch=2, queries=5, channels=6):
    """Random leaf tensors in a dtype: one map, and convolution, embeddings and class logits of each layer."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).to(dtype).requires_grad_()

    x = leaf(batch, 4, 8, 12)
    layers = [
        (leaf(channels, 4, 3, 3, scale=0.3), leaf(channels), leaf(batch, queries, channels), leaf(batch, queries, 6))
        for _ in range(num_layers)
    ]
    return x, layers


def predictions_of(kind, x, layers):
    """Predictions of layers with their own mask features, from the tensors of `leaves_of`."""
    predictions = []
    for weight, bias, embed, class_logits in layers:
        conv = LastConv(x, weight, bias)
        masks = {
            'folded': lambda conv=conv, embed=embed: Folded(embed, conv),
            'product': lambda conv=conv, embed=embed: Product(embed, conv.mask_features()),
            'made': lambda conv=conv, embed=embed: Product(embed, conv.mask_features(), conv),
            'plain': lambda conv=conv, embed=embed: Plain(Product(embed, conv.mask_features()).multiplied_out()),
        }[kind]()
        predictions.append(MaskPrediction(class_logits, masks))
    return predictions


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', ['folded', 'product', 'made', 'plain'])
@pytest.mark.parametrize('matcher', [FixedMatcher, HungarianMatcher])
def test_values_and_gradients_equal_those_of_float64(matcher, kind, dtype):
    targets = [toy.make_target(n, seed=n)._replace(labels=torch.randperm(5)[:n]) for n in (3, 2)]
    x, layers = leaves_of(dtype)
    criterion = SetCriterion(num_classes=5, matcher=matcher())
    losses = criterion(predictions_of(kind, x, layers), targets)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    wide_x, *wide = (leaf.detach().double().requires_grad_() for leaf in (x, *(y for of in layers for y in of)))
    exact = predictions_of('product', wide_x, [wide[i : i + 4] for i in range(0, len(wide), 4)])
    matches = criterion.matcher(predictions_of(kind, x, layers), targets)
    expected = oracles.set_loss(exact, targets, matches)
    for key, value in expected.items():
        assert float(losses[key].detach()) == pytest.approx(float(value.detach()), rel=DTYPES[dtype])
    found = torch.autograd.grad(sum(losses.values()), [x, *(y for of in layers for y in of)])
    for gradient, wanted in zip(found, torch.autograd.grad(sum(expected.values()), [wide_x, *wide]), strict=True):
        error = float((gradient.double() - wanted).norm() / wanted.norm())
        assert error < DTYPES[dtype]


@pytest.mark.parametrize('kind', ['folded', 'product'])
def test_products_that_overflow_float16_are_summed_in_float32(kind):
    x, layers = leaves_of(torch.float16, num_layers=1)
    for leaf in layers[0][1:3]:
        leaf.data.mul_(60)
    layers[0][0].data.mul_(400)
    predictions, target = predictions_of(kind, x, layers), toy.make_target(3)._replace(labels=torch.arange(3))
    assert not predictions_of('plain', x, layers)[0].masks.all_logits.isfinite().all()
    losses = SetCriterion(num_classes=5, matcher=HungarianMatcher())(predictions, [target, target])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('inside', [False, True])
def test_the_loss_of_a_fused_model_under_autocast(inside, dtype):
    torch.manual_seed(0)
    model, features = toy.make_classifier().eval(), toy.make_features()
    criterion, targets = toy.make_criterion(), [toy.make_target(3, (64, 96)), toy.make_target(2, (64, 96))]
    expected = criterion(model(features, all_layers=True), targets)
    fuse_for_inference(model)
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        predictions = model(features, all_layers=True)
        assert isinstance(predictions[0].masks, Folded)
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype, enabled=inside):
        losses = criterion(predictions, targets)
    for key, value in expected.items():
        assert float(losses[key]) == pytest.approx(float(value.detach()), rel=5e-3)
