"""Second derivatives are right or refused; fast paths that have none never treat gradients as constants."""

import pytest
import torch
from helpers import plain, toy

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy, PixelMaskLosses

TARGETS = [toy.make_target(3, (64, 96)), toy.make_target(2, (64, 96))]


pytestmark = pytest.mark.usefixtures('restored_fast_paths')


def test_a_gradient_penalty_on_losses_in_one_pass_is_refused():
    features = [x.requires_grad_() for x in toy.make_features()]
    loss = sum(toy.make_criterion()(toy.make_classifier()(features, all_layers=True), TARGETS).values())
    with pytest.raises(
        RuntimeError, match=r"create_graph=True .* 'one_pass_loss' does .*set_fast_paths\(one_pass_loss=False"
    ):
        torch.autograd.grad(loss, features, create_graph=True)


@pytest.mark.parametrize('criterion', [PixelCrossEntropy, PixelMaskLosses])
def test_second_derivatives_of_pixel_losses(criterion):
    leaf = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    target = toy.make_target(2, (8, 12), num_classes=3)._replace(labels=torch.tensor([2, 0]))
    total = lambda x: sum(criterion(num_classes=3)([Plain(x)], [target]).values())  # noqa: E731
    with pytest.raises(RuntimeError, match=r'set_fast_paths\(one_pass_loss=False\) before the forward pass'):
        torch.autograd.grad(total(leaf), leaf, create_graph=True)
    set_fast_paths(one_pass_loss=False)
    assert torch.autograd.gradgradcheck(total, leaf)


def test_a_gradient_penalty_without_that_fast_path_equals_the_plain_one():
    set_fast_paths(one_pass_loss=False)
    torch.manual_seed(0)
    model, features = toy.make_classifier().double(), [x.double().requires_grad_() for x in toy.make_features()]
    found, expected = [], []
    for penalties, losses in (
        (found, toy.make_criterion()(model(features, all_layers=True), TARGETS)),
        (expected, plain.losses(*plain.forward(model, features), TARGETS)[0]),
    ):
        (gradient,) = torch.autograd.grad(sum(losses.values()), features[:1], create_graph=True)
        penalties += torch.autograd.grad(gradient.square().sum(), list(model.parameters()), materialize_grads=True)
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-9 * float(wanted.abs().max()) + 1e-12)


@pytest.mark.parametrize('queries', [2, 4])
def test_masks_are_differentiable_twice(queries):
    torch.manual_seed(0)
    x, weight, bias, embed = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 3, 4), (3, 2, 3, 3), (3,), (2, queries, 3))
    )
    matched = torch.tensor([0, 1, queries + 1]), [2, 1]

    def product(*leaves):
        conv = LastConv(*leaves[:3])
        return Product(leaves[3], conv.mask_features(), conv)

    for masks in (product, lambda *leaves: Folded(leaves[3], LastConv(*leaves[:3]))):
        leaves = (x, weight, bias, embed)
        assert torch.autograd.gradgradcheck(lambda *given, masks=masks: masks(*given).matched(*matched), leaves)
        assert torch.autograd.gradgradcheck(lambda *given, masks=masks: masks(*given).logits(1), leaves)


def test_torch_func_takes_the_network_without_recomputation():
    set_fast_paths(recomputed_convs=False)
    torch.manual_seed(0)
    model, features = toy.make_classifier(num_layers=1).double(), [x.double() for x in toy.make_features((32, 64))]
    weights = dict(model.named_parameters())

    def total(given):
        masks = torch.func.functional_call(model, given, (features,), dict(all_layers=True))[0].masks
        return torch.einsum('bqc,bchw->bqhw', masks.embed, masks.features).square().mean()

    found = torch.func.grad(total)(weights)
    expected = torch.autograd.grad(total(weights), list(weights.values()), materialize_grads=True)
    torch.testing.assert_close(list(found.values()), list(expected))
