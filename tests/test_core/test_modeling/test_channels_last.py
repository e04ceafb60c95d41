"""Inference layers on a CPU, compared with torch's layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmaskformer.core.modeling.channels_last import (
    OverwritingGroupNorm,
    PointwiseConv,
    add_nearest_,
    prefers_channels_last,
)
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.modeling.layers import ConvNorm

SIZES = [(1, 12, 1, 1), (1, 24, 8, 6), (3, 12, 7, 11)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', [*SIZES, (2, 6, 3, 5000), (1, 6, 600, 700)])
@pytest.mark.parametrize('mean', [0, 30])
def test_group_norm_equals_torchs_in_float64(size, dtype, layout, mean):
    torch.manual_seed(0)
    norm = fuse_for_inference(OverwritingGroupNorm(3, size[1]).eval())
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(size).add(mean).to(dtype).contiguous(memory_format=layout)
    with torch.no_grad():
        expected = F.group_norm(x.double().contiguous(), 3, norm.weight.double(), norm.bias.double())
        found = norm.to(dtype)(x)
    tolerance = 1e-7 if dtype == torch.float64 else (2e-6, 5e-5)[mean > 0]
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found.data_ptr() == x.data_ptr()) == x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', SIZES)
def test_pointwise_convolution_equals_torchs(size, layout):
    torch.manual_seed(0)
    x = torch.randn(size, dtype=torch.float64).contiguous(memory_format=layout)
    conv = fuse_for_inference(PointwiseConv(size[1], 5).double().eval())
    with torch.no_grad():
        found = conv(x)
    torch.testing.assert_close(found, F.conv2d(x, conv.weight))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_hooks_and_parametrisations_of_the_layers_are_used_without_gradients():
    module = fuse_for_inference(ConvNorm(6, 8, 1, norm_groups=4, relu=False).eval())
    seen = []
    for name, part in module.named_children():
        part.register_forward_hook(lambda *_, name=name: seen.append(name))
    nn.utils.parametrizations.weight_norm(module.conv)
    nn.init.normal_(module.conv.parametrizations.weight.original0)
    x = torch.randn(2, 6, 5, 4)
    expected = module(x)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
        module.norm = nn.Identity()
        torch.testing.assert_close(module(x), F.conv2d(x, module.conv.weight))
    assert seen[:4] == ['conv', 'norm'] * 2


def test_an_empty_batch_stays_empty():
    with torch.no_grad():
        module = fuse_for_inference(ConvNorm(6, 8, 1, norm_groups=4, relu=True).eval())
        assert module(torch.zeros(0, 6, 5, 4)).shape == (0, 8, 5, 4)


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
def test_a_fused_conv_norm_gives_the_same(kernel_size, relu, layout):
    torch.manual_seed(0)
    module = ConvNorm(6, 8, kernel_size, norm_groups=4, relu=relu).double().eval()
    x = torch.randn(2, 6, 9, 5, dtype=torch.float64).contiguous(memory_format=layout)
    before = x.clone()
    expected = module(x)
    with torch.no_grad():
        assert torch.equal(module(x), expected), 'the grad mode alone changes nothing'
        found = fuse_for_inference(module)(x)
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
        traced = torch.jit.trace(lambda x: x + int(prefers_channels_last(x)), x, check_trace=False)
        assert torch.equal(traced(x), x)
        compiled = torch.compile(lambda x: x + int(prefers_channels_last(x)), backend='eager', fullgraph=True)
        assert torch.equal(compiled(x), x)


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_group_norm_of_wide_rows_is_exact_with_any_number_of_threads(threads):
    torch.manual_seed(0)
    norm = fuse_for_inference(OverwritingGroupNorm(3, 6).eval())
    x = (torch.randn(2, 6, 3, 5000) + 30).contiguous(memory_format=torch.channels_last)
    expected = F.group_norm(x.double().contiguous(), 3)
    for count in (1, 2, 4):
        threads(count)
        with torch.no_grad():
            found = norm(x.clone(memory_format=torch.preserve_format))
        torch.testing.assert_close(found.double(), expected, rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize('register', ['register_forward_pre_hook', 'register_forward_hook'])
def test_inputs_of_hooks_are_not_overwritten(register):
    torch.manual_seed(0)
    module = fuse_for_inference(ConvNorm(6, 8, 3, norm_groups=4, relu=True).eval())
    seen = {}
    for name, part in module.named_children():
        getattr(part, register)(lambda part, inputs, *_, name=name: seen.update({name: inputs[0]}))
    x = torch.randn(2, 6, 5, 4)
    with torch.no_grad():
        found = module(x)
        assert seen['conv'] is x
        torch.testing.assert_close(seen['norm'], F.conv2d(x, module.conv.weight, padding=1))
        torch.testing.assert_close(found, module.norm(seen['norm'].clone()).relu())
