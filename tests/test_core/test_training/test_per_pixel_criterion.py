import math

import pytest
import torch
from helpers import toy
from torch.nn import functional as F

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.masks import Plain, Product
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.training import equations, pixel_cross_entropy
from mmmaskformer.core.training.parts import CrossEntropyDiceLoss
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy, PixelMaskLosses, class_maps
from mmmaskformer.core.training.targets import semantic_targets

K = 5


def make_labels(size=(32, 48), *, lowest=-1, seed=0):
    """Label maps of two images; -1, here 255, is ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(lowest, K, (2, size[0] // 8, size[1] // 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return torch.where(labels < 0, 255, labels)


def make_layers(num_layers=2):
    generator = torch.Generator().manual_seed(1)
    leaves = [
        torch.randn(2, K, 8, 12, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(num_layers)
    ]
    return [Plain(leaf) for leaf in leaves], leaves


@pytest.mark.parametrize('size', [(32, 48), (31, 45), (16, 12), (8, 12)])
@pytest.mark.parametrize('step', [1, 5, 1000])
def test_one_pass_equals_the_equation_with_its_gradient(monkeypatch, size, step):
    monkeypatch.setattr(pixel_cross_entropy, 'chunk_rows', lambda *_: step)
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(7, 8, 12, generator=generator, dtype=torch.float64).requires_grad_()
    classes = torch.randint(-2, 7, size, generator=generator)
    weight = torch.rand(7, generator=generator)
    found = pixel_cross_entropy.pixel_cross_entropy(logits, classes, weight)
    expected = equations.pixel_class_loss(logits, classes, weight.double())
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(3 * loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_loss_is_the_mean_over_labelled_pixels_weighted_by_class():
    layers, leaves = make_layers()
    labels = make_labels()
    targets = semantic_targets(labels, num_classes=K)
    weight = torch.tensor([1.0, 3.0, 0.5, 2.0, 0.0])
    for class_weight in (None, weight.tolist()):
        losses = PixelCrossEntropy(num_classes=K, loss_weight=2.0, class_weight=class_weight)(layers, targets)
        assert list(losses) == ['d0.loss_ce', 'loss_ce']
        for loss, leaf in zip(losses.values(), leaves, strict=True):
            fine = F.interpolate(leaf, size=(32, 48), mode='bilinear')
            given = None if class_weight is None else weight.double()
            torch.testing.assert_close(loss, 2 * F.cross_entropy(fine, labels, given, ignore_index=255))


def test_class_weights_by_name():
    criterion = PixelCrossEntropy(num_classes=K, class_weight=dict(car=3.0))
    layers, targets = make_layers()[0], semantic_targets(make_labels(), num_classes=K)
    with pytest.raises(ValueError, match=r"class_weight names \['car'\], but the class list is unknown"):
        criterion(layers, targets)
    criterion.name_classes(['road', 'car', 'sky', 'tree', 'sign'])
    named = criterion(layers, targets)
    listed = PixelCrossEntropy(num_classes=K, class_weight=[1.0, 3.0, 1.0, 1.0, 1.0])(layers, targets)
    torch.testing.assert_close(named, listed)


@pytest.mark.parametrize('criterion', [PixelCrossEntropy, PixelMaskLosses])
def test_without_a_labelled_pixel_the_loss_is_finite(criterion):
    layers, leaves = make_layers()
    targets = semantic_targets(torch.full((2, 32, 48), 255), num_classes=K)
    losses = criterion(num_classes=K)(layers, targets)
    if criterion is PixelCrossEntropy:
        assert not any(float(loss.detach()) for loss in losses.values())  # the published one is NaN
    sum(losses.values()).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('kind', ['focal', 'bce'])
def test_mask_losses_of_all_classes(ignore, fast, kind):
    layers, leaves = make_layers(num_layers=1)
    labels = make_labels()
    labels[0][labels[0] == 3] = 1  # a class that does not occur in the image
    mask_loss = CrossEntropyDiceLoss() if kind == 'bce' else None
    criterion = PixelMaskLosses(num_classes=K, mask_loss=mask_loss, loss_weights=dict(mask=5.0), ignore_in_loss=ignore)
    before = set_fast_paths(fast)
    try:
        losses = criterion(layers, semantic_targets(labels, num_classes=K))
    finally:
        set_fast_paths(**before)
    fine = F.interpolate(leaves[0], size=(32, 48), mode='bilinear').flatten(2)
    masks = F.one_hot(torch.where(labels == 255, K, labels), K + 1)[..., :K].permute(0, 3, 1, 2).flatten(2).bool()
    counted = (labels != 255).flatten(1)[:, None] if ignore else torch.ones(1, 1, 1, dtype=torch.bool)
    mask, dice = equations.mask_losses(fine, masks, counted.expand(2, 1, fine.shape[2]), kind)
    present = sum(len(x[x != 255].unique()) for x in labels)
    torch.testing.assert_close(losses, dict(loss_mask=5 * mask.sum() / present, loss_dice=dice.sum() / present))
    sum(losses.values()).backward()
    assert all(leaf.grad.any() for leaf in leaves)


@pytest.mark.parametrize('ignore', [False, True])
@pytest.mark.parametrize('fast', [False, True])
def test_labelled_pixels_without_a_segment_are_background_of_every_class(ignore, fast):
    # 8 pixels: 2 of the class, 2 of none, 4 not labelled; all logits are 0, so every probability is 1/2.
    target = MaskTarget(torch.tensor([0]), segment_map=torch.tensor([[0, 0, -1, -1], [-2, -2, -2, -2]]))
    criterion = PixelMaskLosses(num_classes=1, loss_weights=dict(mask=1.0), ignore_in_loss=ignore)
    before = set_fast_paths(fast)
    try:
        losses = criterion([Plain(torch.zeros(1, 1, 2, 4, dtype=torch.float64))], [target])
    finally:
        set_fast_paths(**before)
    background = 2 if ignore else 6
    assert float(losses['loss_mask']) == pytest.approx(
        (2 * 0.25 + background * 0.75) * 0.25 * math.log(2) / (2 + background)
    )
    assert float(losses['loss_dice']) == pytest.approx(1 - 3 / ((2 + background) / 2 + 2 + 1))


def test_class_maps_are_the_label_maps():
    labels = make_labels()
    assert torch.equal(class_maps(semantic_targets(labels, num_classes=K)), torch.where(labels == 255, -2, labels))
    masks = [MaskTarget(torch.tensor([1]), masks=torch.ones(1, 8, 8, dtype=torch.bool))]
    with pytest.raises(ValueError, match='masks, which may overlap; expected one class per pixel. Fix'):
        PixelCrossEntropy(num_classes=K)(make_layers()[0], masks)


def test_logits_that_are_not_finite_are_named():
    layers, _ = make_layers()
    layers[0].all_logits.data[1, 2, 3, 4] = float('nan')
    with pytest.raises(NonFiniteLogitsError, match='decoder layer 1 of 2: loss_ce is inf or NaN'):
        PixelCrossEntropy(num_classes=K)(layers, semantic_targets(make_labels(), num_classes=K))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_losses_are_float32_under_autocast(dtype):
    features = torch.randn(2, 6, 8, 12, dtype=dtype)
    masks = [Product(torch.randn(2, K, 6, dtype=dtype).requires_grad_(), features)]
    targets = semantic_targets(make_labels(), num_classes=K)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = PixelCrossEntropy(num_classes=K)(masks, targets) | PixelMaskLosses(num_classes=K)(masks, targets)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert masks[0].embed.grad.isfinite().all()


def test_an_unknown_loss_weight_is_refused():
    with pytest.raises(ValueError, match=r"criterion.loss_weights has a weight for 'cls'; expected 'mask', 'dice'"):
        PixelMaskLosses(num_classes=K, loss_weights=dict(cls=1.0))
    assert toy.make_criterion().loss_weights['mask'] == PixelMaskLosses(num_classes=K).loss_weights['mask']


def test_cross_entropy_over_one_class_is_refused():
    """The cross-entropy over one class is 0 for any logits."""
    targets = semantic_targets(torch.zeros(1, 32, 48, dtype=torch.long), num_classes=1)
    with pytest.raises(
        ValueError, match='num_classes=1: the softmax cross-entropy over one class is always 0.* Fix: num_'
    ):
        PixelCrossEntropy(num_classes=1)([Plain(torch.zeros(1, 1, 8, 12))], targets)
