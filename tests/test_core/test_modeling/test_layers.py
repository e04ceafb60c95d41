import math

import pytest
import torch
from helpers import official

from mmmaskformer.core.modeling.layers import MLP, ConvNorm, sine_position_encoding


@pytest.mark.parametrize('case', ['32_4x5', '128_9x14'])
def test_position_encoding_equals_the_published_one(case):
    reference = official.load('position_encoding')['cases'][case]
    size = (reference['height'], reference['width'])
    found = sine_position_encoding(size, 2 * reference['num_pos_feats'])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference['pos'], rtol=1e-5, atol=2e-6)


def test_position_encoding_follows_its_formula():
    code = sine_position_encoding((3, 5), 8)
    angle = 2 / (3 + 1e-6) * 2 * math.pi
    assert code[0, 0, 1, 4].item() == pytest.approx(math.sin(angle), abs=1e-6)
    assert code[0, 3, 1, 0].item() == pytest.approx(math.cos(angle / 10000 ** (2 / 4)), abs=1e-6)
    assert torch.equal(code[0, :4, :, 0], code[0, :4, :, 4]), 'the first half tells rows only'


def test_position_encoding_needs_channels_divisible_by_four():
    with pytest.raises(ValueError, match='channels: found 10, expected a multiple of 4'):
        sine_position_encoding((2, 2), 10)


def test_conv_norm_suggests_a_valid_group_count():
    with pytest.raises(ValueError, match=r'norm_groups=32 does not divide the 48 channels.*norm_groups=16'):
        ConvNorm(3, 48, 1, norm_groups=32, relu=True)


def test_conv_norm_normalises_groups():
    out = ConvNorm(3, 8, 3, norm_groups=2, relu=False)(torch.randn(2, 3, 9, 11) * 7 + 3)
    groups = out.reshape(2, 2, -1)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(-1, unbiased=False), torch.ones(2, 2), atol=1e-3, rtol=0)


def test_mlp_has_no_activation_at_the_end():
    mlp = MLP(4, 6, 3, 3)
    x = torch.randn(50, 4)
    hidden = (x @ mlp.layers[0].weight.T + mlp.layers[0].bias).relu()
    hidden = (hidden @ mlp.layers[1].weight.T + mlp.layers[1].bias).relu()
    torch.testing.assert_close(mlp(x), hidden @ mlp.layers[2].weight.T + mlp.layers[2].bias)
    assert (mlp(x) < 0).any()
