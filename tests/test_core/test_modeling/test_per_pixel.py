"""The per-pixel baselines, compared with tensors of the published code."""

import pytest
import torch
from helpers import official, toy
from torch.nn import functional as F

from mmmaskformer.core.masks import Plain
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.modeling.per_pixel import PerPixelClassifier, PerPixelPlusClassifier
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy
from mmmaskformer.core.training.targets import semantic_targets

KINDS = pytest.mark.parametrize('kind', ['per_pixel', 'per_pixel_plus'])


def make_network(*, num_classes, in_channels, width, norm_groups, decoder=None):
    """A toy network; PerPixelBaseline+ if settings of a transformer decoder are given."""
    pixels = FPNPixelDecoder(in_channels=in_channels, channels=width, mask_channels=width, norm_groups=norm_groups)
    if decoder is None:
        return PerPixelClassifier(pixel_decoder=pixels, num_classes=num_classes, mask_channels=width)
    settings = dict(in_channels=in_channels[-1], num_queries=num_classes, channels=width, dropout=0.0)
    transformer = TransformerDecoder(**settings, **decoder)
    return PerPixelPlusClassifier(
        pixel_decoder=pixels, transformer_decoder=transformer, channels=width, mask_channels=width
    )


def published(kind):
    """The reference tensors, and our network with the same weights."""
    reference = official.load(kind)
    config = reference['config']
    decoder = None
    if 'nheads' in config:
        decoder = dict(
            num_layers=config['dec_layers'], num_heads=config['nheads'], ffn_channels=config['dim_feedforward']
        )
    network = make_network(
        num_classes=config['num_classes'],
        in_channels=config['in_channels'],
        width=config['conv_dim'],
        norm_groups=config['norm_groups'],
        decoder=decoder,
    )
    network.load_state_dict(official.our_state_dict(reference['state_dict']))
    features = [reference['features'][key].requires_grad_() for key in sorted(reference['features'])]
    return reference, network, features


def toy_networks(num_classes=5):
    for decoder in (None, dict(num_layers=2, num_heads=4, ffn_channels=24)):
        yield make_network(
            num_classes=num_classes, in_channels=toy.IN_CHANNELS, width=16, norm_groups=4, decoder=decoder
        )


@KINDS
def test_logits_losses_and_gradients_equal_the_published_ones(kind):
    reference, network, features = published(kind)
    found = network(features, all_layers=True)
    wanted = reference['logits_stride4']
    for masks, logits in zip(found, wanted if wanted.dim() == 5 else wanted[None], strict=True):
        torch.testing.assert_close(masks.multiplied_out(), logits, rtol=1e-4, atol=2e-5)
    config = reference['config']
    targets = semantic_targets(
        reference['gt_sem_seg'], num_classes=config['num_classes'], ignore_index=config['ignore_value']
    )
    losses = PixelCrossEntropy(num_classes=config['num_classes'])(found, targets)
    expected = official.our_losses(reference['losses'], len(found))
    assert set(losses) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=5e-6, atol=0)
    total = sum(losses.values())
    torch.testing.assert_close(total, reference['total_loss'], rtol=5e-6, atol=0)
    total.backward()
    parameters = dict(network.named_parameters())
    pairs = [(parameters[official.our_name(name)].grad, grad) for name, grad in reference['grad_params'].items()]
    for gradient, wanted in [*pairs, (features[-1].grad, reference['grad_res5'])]:
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


@KINDS
@torch.no_grad()
def test_test_time_logits_equal_the_published_ones(kind):
    reference, network, features = published(kind)
    logits = network(features, all_layers=False)[-1].multiplied_out()[:1, :2]
    found = F.interpolate(logits, size=tuple(reference['image_size']), mode='bilinear', align_corners=False)[0]
    torch.testing.assert_close(found, reference['logits_full_image0_first2'], rtol=1e-4, atol=2e-5)


@KINDS
def test_every_published_weight_is_used(kind):
    reference, network, _ = published(kind)
    ours = {official.our_name(name): tuple(value.shape) for name, value in reference['state_dict'].items()}
    assert ours == {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize('num_classes', [5, 40])  # fewer and more than the 16 channels
@torch.no_grad()
def test_fused_networks_give_the_same_logits(num_classes):
    features = toy.make_features((50, 70))
    for network in toy_networks(num_classes):
        plain = network.eval()(features, all_layers=False)[-1].multiplied_out()
        fused = fuse_for_inference(network)(features, all_layers=False)[-1]
        torch.testing.assert_close(torch.stack([fused.logits(i) for i in range(2)]), plain, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_hook_on_the_classifier_is_called_when_fused():
    network = fuse_for_inference(next(toy_networks()).eval())
    features = toy.make_features()
    expected, seen = network(features, all_layers=False)[-1].multiplied_out(), []
    network.pixel_classifier.register_forward_hook(lambda *call: seen.append(call[2]))
    found = network(features, all_layers=False)[-1]
    assert isinstance(found, Plain) and seen[0] is found.all_logits
    torch.testing.assert_close(found.all_logits, expected, rtol=1e-4, atol=1e-5)


def test_the_classifier_starts_as_published():
    torch.manual_seed(0)
    weight = make_network(num_classes=200, in_channels=(8, 16), width=64, norm_groups=8).pixel_classifier.weight
    assert weight.detach().std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.03)
