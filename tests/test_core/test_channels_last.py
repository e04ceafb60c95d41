"""Layers as they are inferred on a CPU, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmaskformer.core.channels_last import add_nearest_, group_norm_, pointwise_conv, prefers_channels_last
from mmmaskformer.core.layers import ConvNorm

SIZES = [(1, 12, 1, 1), (1, 24, 8, 6), (3, 12, 7, 11)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', SIZES)
def test_group_norm_in_place_equals_the_module(size, dtype):
    torch.manual_seed(0)
    norm = nn.GroupNorm(3, size[1]).to(dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (20 + 3 * torch.randn(size, dtype=dtype)).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = norm(x.double() if dtype == torch.float64 else x)
        found = group_norm_(x, norm)
    assert found.data_ptr() == x.data_ptr()
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', SIZES)
def test_pointwise_convolution_equals_torchs(size, layout):
    torch.manual_seed(0)
    x = torch.randn(size, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(5, size[1], 1, 1, dtype=torch.float64)
    found = pointwise_conv(x, weight)
    torch.testing.assert_close(found, F.conv2d(x, weight))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', [(8, 10), (7, 9), (4, 5), (8, 9), (3, 11)])
def test_nearest_up_sampling_is_added_in_place(size, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size).contiguous(memory_format=layout)
    coarse = torch.randn(2, 3, 4, 5)
    expected = x + F.interpolate(coarse, size=size, mode='nearest')
    assert add_nearest_(x, coarse).data_ptr() == x.data_ptr()
    assert torch.equal(x, expected)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_conv_norm_gives_the_same_without_gradients(kernel_size, relu, layout):
    torch.manual_seed(0)
    module = ConvNorm(6, 8, kernel_size, norm_groups=4, relu=relu).double()
    x = torch.randn(2, 6, 9, 5, dtype=torch.float64).contiguous(memory_format=layout)
    before = x.clone()
    expected = module(x)
    with torch.no_grad():
        found = module(x)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last) and torch.equal(x, before)


def test_only_plain_inference_in_full_precision_prefers_channels_last():
    x = torch.zeros(1, 2, 3, 4)
    assert not prefers_channels_last(x), 'a gradient may be wanted'
    with torch.no_grad():
        assert prefers_channels_last(x) and prefers_channels_last(x.double())
        assert not prefers_channels_last(x.bfloat16()) and not prefers_channels_last(x.to('meta'))
        with torch.autocast('cpu', torch.bfloat16):
            assert not prefers_channels_last(x)
        traced = torch.jit.trace(lambda x: x + int(prefers_channels_last(x)), x)
        assert torch.equal(traced(x), x)
