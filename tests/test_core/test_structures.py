import pytest
import torch
from helpers import toy

from mmmaskformer.core.structures import IGNORED, NO_SEGMENT, MaskTarget, Targets


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


@pytest.mark.parametrize(
    ('dtype', 'count', 'stored'),
    [
        (torch.int8, 127, torch.int8),
        (torch.int8, 300, torch.int16),
        (torch.int8, 40_000, torch.int32),
        (torch.uint8, 300, torch.int16),
        (torch.int16, 40_000, torch.int32),
        (torch.int64, 3, torch.int64),
    ],
)
def test_an_index_never_wraps_in_the_type_of_a_map(dtype, count, stored):
    """In int8, index 255 would be the pixels without a segment, and 256 segment 0."""
    segment_map = torch.tensor([[0, 1, 1, 126]], dtype=dtype)
    if dtype.is_signed:
        segment_map = torch.cat([segment_map, torch.tensor([[NO_SEGMENT, IGNORED, IGNORED, 0]], dtype=dtype)])
    target = MaskTarget(torch.zeros(count, dtype=torch.long), segment_map=segment_map)
    expected = torch.bincount(segment_map[segment_map < 127].long().clamp(min=-1).add(1).flatten(), minlength=128)[1:]
    high = torch.tensor([count - 1, min(255, count - 1), min(256, count - 1)])
    for found in (target, Targets.of([target])[0]):
        assert torch.equal(found.masks_of(torch.arange(127)).sum((1, 2)), expected)
        assert not found.masks_of(high[high > 126]).any()
        assert found.ignored_pixels().sum() == (2 if dtype.is_signed else 0)
    assert Targets.of([target]).segment_maps.dtype == stored


def test_255_in_8_bits_is_an_index_without_a_segment():
    """It would equal NO_SEGMENT, and 254 IGNORED, if it were compared as it is stored."""
    segment_map = torch.tensor([[0, 254, 255]], dtype=torch.uint8)
    target = MaskTarget(torch.zeros(1, dtype=torch.long), segment_map=segment_map)
    assert not target.ignored_pixels().any() and target.all_masks().sum() == 1
    with pytest.raises(ValueError, match='segment_map holds index 255, but there are 1 labels'):
        toy.make_criterion()(toy.make_predictions(batch=1), [target])


@pytest.mark.parametrize('name', ['labels', 'segment_map'])
def test_floats_are_no_indices(name):
    target = toy.make_target(2)
    with pytest.raises(ValueError, match=rf'target 0 of the batch: {name} is .* float32; expected .* integer'):
        Targets.of([target._replace(**{name: getattr(target, name).float()})])
