import pytest
import torch
from helpers import toy

from mmmaskformer.core.structures import MaskTarget


def test_mask_logits_are_the_product_of_the_factors():
    prediction = toy.make_predictions()[0]
    expected = torch.einsum('bqc,bchw->bqhw', prediction.masks.embed, prediction.masks.features)
    torch.testing.assert_close(prediction.mask_logits(1), expected[1])
    chosen = torch.tensor([4, 0])
    torch.testing.assert_close(prediction.mask_logits(0, chosen), expected[0, chosen])


@pytest.mark.parametrize('dtype', [None, torch.float32, torch.float64])
@pytest.mark.parametrize('overlapping', [False, True])
def test_masks_of_compares_the_map(dtype, overlapping):
    target = toy.make_target(4, (20, 30))
    expected = torch.stack([target.segment_map == i for i in (2, 0, 2)])
    out = None if dtype is None else torch.full((3, 20, 30), torch.nan, dtype=dtype)
    target = toy.as_masks(target) if overlapping else target
    masks = target.masks_of(torch.tensor([2, 0, 2]), out=out)
    assert masks.dtype == (dtype or torch.bool) and (out is None or masks is out)
    assert torch.equal(masks, expected.to(masks.dtype))


@pytest.mark.parametrize('overlapping', [False, True])
def test_areas_count_the_pixels_of_each_segment(overlapping):
    target = toy.make_target(4, (20, 30))
    expected = [int((target.segment_map == i).sum()) for i in range(4)]
    assert (toy.as_masks(target) if overlapping else target).areas().tolist() == expected
    nothing = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((4, 5), -1))
    assert nothing.areas().shape == (0,)


def test_masks_of_no_segment_are_empty():
    target = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((4, 5), -1))
    assert target.masks_of(torch.zeros(0, dtype=torch.long)).shape == (0, 4, 5)
