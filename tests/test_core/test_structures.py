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


@pytest.mark.parametrize('overlapping', [False, True])
def test_padded_adds_pixels_of_no_segment(overlapping):
    target = toy.make_target(3, (20, 30))
    padded = (toy.as_masks(target) if overlapping else target).padded((32, 32))
    masks = padded.masks_of(torch.arange(3))
    assert torch.equal(masks[:, :20, :30], target.masks_of(torch.arange(3)))
    assert not masks[:, 20:].any() and not masks[:, :, 30:].any()


def test_padded_refuses_to_crop():
    with pytest.raises(ValueError, match=r'size \(20, 30\) cannot be padded to the smaller size \(20, 29\)'):
        toy.make_target(3, (20, 30)).padded((20, 29))


def test_masks_of_no_segment_are_empty():
    target = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((4, 5), -1))
    assert target.masks_of(torch.zeros(0, dtype=torch.long)).shape == (0, 4, 5)
