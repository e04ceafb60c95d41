import pytest
import torch
import torch.nn.functional as F

from mmmaskformer.core.upsampling import Upsampler, sample_nearest

SIZES = [
    ((8, 6), (32, 24)),
    ((1, 1), (4, 4)),
    ((1, 5), (3, 10)),
    ((2, 3), (2, 3)),
    ((7, 9), (21, 27)),
    ((5, 8), (13, 32)),
    ((8, 5), (32, 19)),
    ((9, 9), (4, 5)),
    ((128, 2), (510, 8)),
]


@pytest.mark.parametrize('low, high', SIZES)
def test_up_and_down_are_torchs_interpolation_and_its_gradient(low, high):
    coarse = torch.randn(3, *low, dtype=torch.float64, requires_grad=True)
    fine = torch.randn(3, *high, dtype=torch.float64)
    expected = F.interpolate(coarse[None], size=high, mode='bilinear', align_corners=False)[0]
    sampler = Upsampler(low, high, coarse)
    torch.testing.assert_close(sampler.up(coarse), expected)
    torch.testing.assert_close(sampler.down(fine), torch.autograd.grad(expected, coarse, fine)[0])


@pytest.mark.parametrize('size', [(8, 12), (9, 13), (7, 50), (1, 1)])
def test_sampling_picks_the_pixels_that_torch_picks(size):
    masks = torch.rand(4, 33, 50) > 0.5
    expected = torch.nn.functional.interpolate(masks[None].float(), size, mode='nearest')[0].bool()
    assert torch.equal(sample_nearest(masks, size), expected)
