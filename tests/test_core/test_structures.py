import pytest
import torch
import torch.nn.functional as F
from helpers import toy

from mmmaskformer.core.structures import MaskTarget


def test_mask_logits_are_the_product_of_the_factors():
    prediction = toy.make_predictions()[0]
    expected = torch.einsum('bqc,bchw->bqhw', prediction.mask_embed, prediction.mask_features)
    torch.testing.assert_close(prediction.mask_logits(1), expected[1])
    chosen = torch.tensor([4, 0])
    torch.testing.assert_close(prediction.mask_logits(0, chosen), expected[0, chosen])


@pytest.mark.parametrize('size', [(8, 12), (9, 13), (7, 50), (1, 1)])
@pytest.mark.parametrize('overlapping', [False, True])
def test_resized_picks_the_pixels_that_torch_picks(size, overlapping):
    target = toy.make_target(4, (33, 50))
    masks = target.masks_of(torch.arange(4))
    resized = (toy.as_masks(target) if overlapping else target).resized(size)
    expected = F.interpolate(masks[None].float(), size, mode='nearest')[0].bool()
    assert torch.equal(resized.masks_of(torch.arange(4)), expected)
    assert resized.size == size and resized.num_segments == 4


@pytest.mark.parametrize('dtype', [torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize('overlapping', [False, True])
def test_masks_of_compares_the_map(dtype, overlapping):
    target = toy.make_target(4, (20, 30))
    idx = torch.tensor([2, 0, 2])
    masks = (toy.as_masks(target) if overlapping else target).masks_of(idx, dtype)
    assert masks.dtype == dtype
    assert torch.equal(masks, torch.stack([target.segment_map == i for i in idx]).to(dtype))


def test_masks_of_no_segment_are_empty():
    target = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((4, 5), -1))
    assert target.masks_of(torch.zeros(0, dtype=torch.long)).shape == (0, 4, 5)
