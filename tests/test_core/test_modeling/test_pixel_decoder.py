import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.masks import Folded
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder

IN_CHANNELS = (6, 10, 14)


def build(kind: type, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(in_channels=IN_CHANNELS, channels=8, mask_channels=7, norm_groups=4, **settings).double().eval()


DECODERS = [
    (FPNPixelDecoder, {}),
    (TransformerEncoderPixelDecoder, dict(num_layers=2, num_heads=2, ffn_channels=12, dropout=0.0)),
]


@pytest.mark.parametrize(('kind', 'settings'), DECODERS)
@pytest.mark.parametrize('sizes', [((16, 24), (8, 12), (4, 6)), ((13, 9), (7, 5), (4, 3)), ((1, 3), (1, 2), (1, 1))])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_fused_inference_equals_the_plain_forward_pass(kind, settings, sizes, batch, layout):
    decoder = build(kind, **settings)
    features = [
        torch.randn(batch, width, *size, dtype=torch.float64).contiguous(memory_format=layout)
        for width, size in zip(IN_CHANNELS, sizes, strict=True)
    ]
    before = [feature.clone() for feature in features]
    expected = decoder(features)
    with torch.no_grad():
        plain, found = decoder(features), fuse_for_inference(decoder)(features)
        masks = found.masks(torch.randn(batch, 2, 7, dtype=torch.float64))
        for image in range(batch):
            torch.testing.assert_close(masks.logits(image), expected.masks(masks.embed).logits(image))
    assert isinstance(masks, Folded) and torch.equal(plain.mask_features, expected.mask_features)
    torch.testing.assert_close(found.memory, expected.memory)
    torch.testing.assert_close(found.mask_features.mask_features(), expected.mask_features)
    assert all(map(torch.equal, features, before)), 'features belong to the caller'


def test_images_of_a_batch_keep_the_layout_of_the_batch():
    with torch.no_grad():
        decoder = fuse_for_inference(build(FPNPixelDecoder))
        conv = decoder([torch.randn(2, c, 8, 8, dtype=torch.float64) for c in IN_CHANNELS]).mask_features
        for image in range(2):
            made = conv.of_image(image).mask_features()
            assert made.is_contiguous(memory_format=torch.channels_last) and not made.is_contiguous()


@pytest.mark.parametrize('kind', [FPNPixelDecoder, TransformerEncoderPixelDecoder])
def test_one_level_is_too_few(kind):
    with pytest.raises(ValueError, match=r'1 level\(s\); expected at least 2'):
        kind(in_channels=[16], channels=8, norm_groups=4)


def with_norms(replacement):
    """A decoder in training mode whose lateral norms are replaced, and features."""
    decoder = build(FPNPixelDecoder).train()
    for lateral in decoder.lateral_convs:
        lateral.norm = replacement().double()
    return decoder, [torch.randn(2, c, s, s, dtype=torch.float64) for c, s in zip(IN_CHANNELS, (16, 8, 4), strict=True)]


def test_random_layers_draw_once_in_a_training_step():
    decoder, features = with_norms(lambda: nn.Dropout(0.5))
    dropped = []
    for lateral in decoder.lateral_convs:
        lateral.norm.register_forward_hook(lambda module, inputs, output: dropped.append(output.detach() != 0))
    hooked = copy.deepcopy(decoder)
    for lateral in decoder.lateral_convs:
        lateral.norm._forward_hooks.clear()
    gradients = []
    for model in (decoder, hooked):
        torch.manual_seed(1)
        loss = model(features).mask_features.square().sum()
        torch.rand(7)  # other draws between the forward and the backward pass
        gradients.append(torch.autograd.grad(loss, list(model.lateral_convs.parameters())))
    assert len(dropped) == 2 and not all(kept.all() for kept in dropped)
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_statistics_are_updated_once_in_a_training_step():
    decoder, features = with_norms(lambda: nn.BatchNorm2d(8))
    decoder(features).mask_features.sum().backward()
    for lateral, feature in zip(decoder.lateral_convs, features, strict=False):
        assert lateral.norm.num_batches_tracked == 1
        with torch.no_grad():
            expected = 0.1 * lateral.conv(feature).mean((0, 2, 3))  # the momentum is 0.1, the initial mean 0
        torch.testing.assert_close(lateral.norm.running_mean, expected)


def test_a_forward_of_its_own_is_called_once():
    decoder, features = with_norms(nn.Identity)
    plain = decoder(features).mask_features
    calls = []

    def counting(module, factor):
        original = module.forward
        module.forward = lambda x: calls.append(module) or factor * original(x)

    counting(decoder.lateral_convs[0].conv, 1)
    counting(decoder.mask_conv, 2)
    output = decoder(features)
    output.masks(torch.ones(2, 3, 7, dtype=torch.float64)).logits(0).sum().backward()
    assert calls == [decoder.lateral_convs[0].conv, decoder.mask_conv]
    fused = fuse_for_inference(decoder.eval())(features)
    for found in (output, fused):
        torch.testing.assert_close(found.mask_features, 2 * plain)


class CountedConvs(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.convolution.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('recomputed', [False, True])
def test_the_backward_pass_recomputes_lateral_convolutions_unless_switched_off(recomputed):
    decoder = build(FPNPixelDecoder).train()
    features = [torch.randn(1, c, s, s, dtype=torch.float64) for c, s in zip(IN_CHANNELS, (16, 8, 4), strict=True)]
    before = set_fast_paths(recomputed_convs=recomputed)
    try:
        with CountedConvs() as convs:
            decoder(features).mask_features.sum().backward()
    finally:
        set_fast_paths(**before)
    assert convs.count == 6 + 2 * recomputed
