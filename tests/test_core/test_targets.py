import pytest
import torch

from mmmaskformer.core.targets import LabelRangeError, semantic_targets


def test_one_segment_per_class_in_ascending_order():
    label_map = torch.tensor([[[4, 4, 255], [0, 2, 4]]])
    target = semantic_targets(label_map, num_classes=5)[0]
    assert target.labels.tolist() == [0, 2, 4]
    assert target.segment_map.tolist() == [[2, 2, -1], [0, 1, 2]]


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
    assert targets[0].num_segments == 0 and (targets[0].segment_map == -1).all()
    assert targets[1].labels.tolist() == [1]


@pytest.mark.parametrize('bad', [5, 254, -3])
def test_ids_outside_the_class_list_are_named(bad):
    label_maps = torch.zeros(2, 3, 3, dtype=torch.long)
    label_maps[1, 2, 2] = bad
    with pytest.raises(LabelRangeError, match=rf'\[{bad}\] are outside.*expected 0 to 4, or 255') as caught:
        semantic_targets(label_maps, num_classes=5)
    assert caught.value.image == 1 and caught.value.found == [bad]
