import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmaskformer.core.modeling.feature_pyramid import ChannelNorm, FeatureMapError, SimpleFeaturePyramid


@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1)])
def test_each_scale_multiplies_the_sides_and_rounds_up(size):
    neck = SimpleFeaturePyramid(in_channels=8, out_channels=6, scales=[4, 2, 1, 0.5, 0.25])
    found = [tuple(level.shape) for level in neck(torch.randn(2, 8, *size))]
    assert found == [
        (2, 6, *(-(-side * numerator // denominator) for side in size))
        for numerator, denominator in ((4, 1), (2, 1), (1, 1), (1, 2), (1, 4))
    ]


def test_the_layers_are_those_of_the_paper():
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(in_channels=8, out_channels=6).double()
    for parameter in neck.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 4, 6, dtype=torch.float64)

    def norm(x, layer):
        mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    def output(x, layers):
        x = norm(F.conv2d(x, layers[0].weight), layers[1])
        return norm(F.conv2d(x, layers[2].weight, padding=1), layers[3])

    finest, fine, same, coarse = neck(x)
    up = neck.levels[0]
    y = F.gelu(norm(F.conv_transpose2d(x, up[0].weight, up[0].bias, stride=2), up[1]))
    torch.testing.assert_close(finest, output(F.conv_transpose2d(y, up[3].weight, up[3].bias, stride=2), up[4:]))
    up = neck.levels[1]
    torch.testing.assert_close(fine, output(F.conv_transpose2d(x, up[0].weight, up[0].bias, stride=2), up[1:]))
    torch.testing.assert_close(same, output(x, neck.levels[2]))
    torch.testing.assert_close(coarse, output(F.max_pool2d(x, 2), neck.levels[3][1:]))


def test_one_map_is_selected_and_permuted():
    neck = SimpleFeaturePyramid(in_channels=8, out_channels=6, in_index=1).eval()
    x = torch.randn(1, 8, 4, 6)
    expected = neck(x)
    for given in ([torch.randn(1, 3, 8, 12), x, x + 1], x.permute(0, 2, 3, 1)):
        for one, other in zip(neck(given), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_the_last_map_of_the_channels_is_taken():
    neck = SimpleFeaturePyramid(in_channels=8, out_channels=6).eval()
    maps = [torch.randn(1, channels, 4, 6) for channels in (8, 8, 3)]
    for one, other in zip(neck(maps), neck(maps[1]), strict=True):
        assert torch.equal(one, other)


def test_the_norm_is_a_layer_norm_over_channels():
    x = torch.randn(2, 8, 4, 6)
    norm = ChannelNorm(8)
    torch.testing.assert_close(norm(x)[1, :, 2, 3], F.layer_norm(x[1, :, 2, 3], (8,)))


def test_a_map_of_other_channels_is_named():
    neck = SimpleFeaturePyramid(in_channels=8)
    with pytest.raises(FeatureMapError, match=r'\(B, 8, h, w\) with in_index=None, .* returns \[\(1, 9, 4, 6\)\]. Fix'):
        neck([torch.randn(1, 9, 4, 6)])
    with pytest.raises(FeatureMapError, match=r"but the backbone returns \['list'\]. Fix"):
        neck([[torch.randn(1, 8, 4, 6), torch.randn(1, 8)]])


@pytest.mark.parametrize('scales', [[], [3], [0], [-1]])
def test_scales_that_are_not_powers_of_two_are_refused(scales):
    with pytest.raises(ValueError, match='scales: found .* expected powers of two'):
        SimpleFeaturePyramid(in_channels=8, scales=scales)
