import pytest
import torch

from mmmaskformer.core.structures import IGNORED, Targets
from mmmaskformer.core.training.targets import LabelRangeError, check_segments, instance_targets, semantic_targets


def test_one_segment_per_class_in_ascending_order():
    label_map = torch.tensor([[[4, 4, 255], [0, 2, 4]]])
    target = semantic_targets(label_map, num_classes=5)[0]
    assert target.labels.tolist() == [0, 2, 4]
    assert target.segment_map.tolist() == [[2, 2, IGNORED], [0, 1, 2]]


@pytest.mark.parametrize('num_classes, ignore_index', [(1, 255), (65, 65), (847, 65535), (3, -1)])
def test_masks_equal_a_comparison_per_class(num_classes, ignore_index):
    generator = torch.Generator().manual_seed(1)
    label_maps = torch.randint(0, num_classes, (3, 11, 17), generator=generator)
    label_maps[torch.rand(3, 11, 17, generator=generator) < 0.2] = ignore_index
    for label_map, target in zip(
        label_maps, semantic_targets(label_maps, num_classes=num_classes, ignore_index=ignore_index), strict=True
    ):
        classes = [k for k in range(num_classes) if (label_map == k).any()]
        assert target.labels.tolist() == classes
        masks = target.masks_of(torch.arange(len(classes)))
        assert torch.equal(masks, torch.stack([label_map == k for k in classes]))


def test_an_image_of_ignored_pixels_has_no_segment():
    targets = semantic_targets(torch.tensor([[[255, 255]], [[1, 255]]]), num_classes=2)
    assert targets[0].num_segments == 0 and (targets[0].segment_map == IGNORED).all()
    assert targets[1].labels.tolist() == [1]


@pytest.mark.parametrize('bad', [5, 254, -3])
def test_ids_outside_the_class_list_are_named(bad):
    label_maps = torch.zeros(2, 3, 3, dtype=torch.long)
    label_maps[1, 2, 2] = bad
    with pytest.raises(LabelRangeError, match=rf'\[{bad}\] are outside.*expected 0 to 4, or 255') as caught:
        semantic_targets(label_maps, num_classes=5)
    assert caught.value.image == 1 and caught.value.found == [bad]


def test_instances_may_overlap_and_stuff_follows_them():
    masks = torch.zeros(2, 2, 3, dtype=torch.bool)
    masks[0, :, :2] = masks[1, :, 1:] = True
    label_map = torch.tensor([[4, 4, 3], [0, 2, 255]], dtype=torch.uint8)
    is_thing = torch.tensor([False, True, False, True, False])
    target = instance_targets(torch.tensor([3, 3]), masks, label_map=label_map, is_thing=is_thing)
    assert target.labels.tolist() == [3, 3, 0, 2, 4]
    found = target.masks_of(torch.arange(5))
    assert torch.equal(found[:2], masks)
    assert torch.equal(found[2:], torch.stack([label_map == k for k in (0, 2, 4)]))


def test_targets_may_consist_of_instances_only():
    masks = torch.rand(3, 4, 5) > 0.5
    target = instance_targets(torch.tensor([1, 0, 1]), masks)
    assert target.labels.tolist() == [1, 0, 1] and torch.equal(target.masks_of(torch.arange(3)), masks)


def test_without_instances_the_stuff_remains():
    none = torch.zeros(0, 1, 2, dtype=torch.bool)
    label_map = torch.tensor([[0, 1]])
    target = instance_targets(
        torch.zeros(0, dtype=torch.long), none, label_map=label_map, is_thing=torch.tensor([0, 1]).bool()
    )
    assert target.labels.tolist() == [0] and target.masks_of(torch.arange(1)).tolist() == [[[True, False]]]


def test_targets_that_do_not_fit_are_named():
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match='3 instance labels and 2 masks'):
        instance_targets(torch.tensor([0, 0, 0]), masks)
    with pytest.raises(ValueError, match=r'label map is \(3, 5\) and the instance masks are \(3, 4\).*one size'):
        instance_targets(
            torch.tensor([0, 0]), masks, label_map=torch.zeros(3, 5, dtype=torch.long), is_thing=torch.tensor([True])
        )
    with pytest.raises(ValueError, match='is_thing is None, but there is a label_map'):
        instance_targets(torch.tensor([0, 0]), masks, label_map=torch.zeros(3, 4, dtype=torch.long))


def test_maps_that_are_not_integer_are_refused():
    with pytest.raises(ValueError, match='label_maps are torch.float32 .*expected integer class ids'):
        semantic_targets(torch.full((1, 4, 4), 0.5), num_classes=3)


def test_more_classes_than_fit_16_bits_keep_their_index():
    targets = semantic_targets(torch.arange(40000).view(1, 200, 200), num_classes=40_000, ignore_index=65535)
    assert torch.equal(targets.segment_maps.flatten(), torch.arange(40000, dtype=torch.int32))


@pytest.mark.parametrize('shape', [(0, 4, 4), (1, 0, 4), (4, 4)])
def test_maps_without_pixels_or_batch_are_refused(shape):
    with pytest.raises(ValueError, match=r'label_maps are .*expected integer class ids \(B, H, W\) of at least one'):
        semantic_targets(torch.zeros(shape, dtype=torch.long), num_classes=3)


@pytest.mark.parametrize('index', [IGNORED - 1, 2, 9])
def test_an_invalid_index_is_named(index):
    targets = Targets(torch.tensor([0, 1]), (2,), segment_maps=torch.tensor([[[0, 1], [IGNORED, index]]]))
    with pytest.raises(ValueError, match=rf'segment_map holds index {index}, but there are 2 labels'):
        check_segments(targets, num_classes=3)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_become_indices(dtype):
    targets = Targets(torch.tensor([0, 1], dtype=dtype), (2,), segment_maps=torch.tensor([[[0, 1]]]))
    assert targets.labels.dtype == torch.long and targets.labels.tolist() == [0, 1]
