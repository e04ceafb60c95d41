import copy
import pickle

import numpy as np
import pytest
import torch
from helpers import hosts
from mmengine.structures import InstanceData, PixelData

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.structures import IGNORED, NO_SEGMENT, Targets
from mmmaskformer.formats.label_maps import write_label_map
from mmmaskformer.formats.mmdet_codes import decode_panoptic, encode_panoptic
from mmmaskformer.heads.data_samples import SegmentList, targets_from_det_samples, targets_from_seg_samples

IS_THING = torch.tensor([False, True, False, True, False])
CPU = torch.device('cpu')


def targets(sample, size=(64, 96)):
    return targets_from_det_samples([sample], is_thing=IS_THING, input_size=size, device=CPU)[0]


def instance_sample(labels, masks, **fields):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    sample = DetDataSample(metainfo=dict(img_path='images/a.jpg'))
    bitmap = BitmapMasks(np.asarray(masks, np.uint8), *masks.shape[1:])
    sample.gt_instances = InstanceData(labels=torch.tensor(labels, dtype=torch.long), masks=bitmap)
    for name, value in fields.items():
        setattr(sample, name, value)
    return sample


def test_void_and_padding_of_our_panoptic_ground_truth_are_ignored():
    _, sample = hosts.make_panoptic_sample((50, 70))
    target = targets(sample)
    assert target.labels.tolist() == list(sample.gt_panoptic_seg.labels)
    loaded = sample.gt_panoptic_seg.segment_map[0]
    assert (loaded == NO_SEGMENT).any()
    assert torch.equal(target.segment_map[:50, :70], torch.where(loaded == NO_SEGMENT, IGNORED, loaded))
    assert (target.segment_map[50:] == IGNORED).all() and (target.segment_map[:, 70:] == IGNORED).all()


def test_instances_may_overlap_and_stuff_comes_from_the_label_map():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :, :4] = masks[1, :, 2:] = True
    label_map = torch.tensor([[0, 1, 2, 3, 4, 255]]).repeat(4, 1)
    sample = instance_sample([3, 1], masks, gt_sem_seg=PixelData(sem_seg=label_map[None]))
    target = targets(sample, (5, 8))
    assert target.labels.tolist() == [3, 1, 0, 2, 4]
    found = target.masks_of(torch.arange(5))
    assert np.array_equal(found[:2, :4, :6].numpy(), masks)
    assert not found[:, 4:].any() and not found[:, :, 6:].any()
    assert torch.equal(found[3, :4, :6], label_map == 2)


@pytest.mark.parametrize('with_stuff', [False, True])
@pytest.mark.parametrize('padded_before', [False, True])
def test_crowds_and_padding_are_ignored_whether_or_not_masks_were_padded_before(with_stuff, padded_before):
    masks, crowds = np.zeros((2, 4, 6), bool), np.zeros((2, 4, 6), bool)
    masks[0, 0] = masks[1, :, 1] = crowds[0, 2, 3:] = crowds[1, 0, :4] = True
    label_map = np.full((4, 6), 2)
    label_map[3] = 255
    fields = {}
    crowd = instance_sample([1, 3], crowds).gt_instances
    if padded_before:  # by the data preprocessor, which does not pad ignored instances
        masks, label_map = (
            np.pad(masks, ((0, 0), (0, 1), (0, 2))),
            np.pad(label_map, ((0, 1), (0, 2)), constant_values=2),
        )
    if with_stuff:
        fields = dict(gt_sem_seg=PixelData(sem_seg=torch.from_numpy(label_map)[None]))
    sample = instance_sample([3, 1], masks, ignored_instances=crowd, **fields)
    sample.set_metainfo(dict(img_shape=(4, 6)))
    found = targets(sample, (5, 8))
    expected = np.ones((5, 8), bool)
    expected[:4, :6] = crowds.any(0)
    if with_stuff:
        expected[3] = True
    assert np.array_equal(found.ignored_pixels().numpy(), expected)
    assert found.labels.tolist() == [3, 1, 2][: 2 + with_stuff]


def test_mmdetections_own_packing_marks_crowds():
    from mmdet.datasets.transforms import PackDetInputs
    from mmdet.structures.mask import BitmapMasks

    bitmap = np.zeros((2, 4, 6), np.uint8)
    bitmap[0, :2] = bitmap[1, 2:] = 1
    packed = PackDetInputs(meta_keys=('img_shape',))(
        dict(
            img=np.zeros((4, 6, 3), np.uint8), img_shape=(4, 6), gt_masks=BitmapMasks(bitmap, 4, 6),
            gt_bboxes_labels=np.array([1, 3]), gt_ignore_flags=np.array([False, True]),
        )
    )  # fmt: skip
    found = targets(packed['data_samples'], (4, 6))
    assert found.labels.tolist() == [1] and np.array_equal(found.ignored_pixels().numpy(), bitmap[1] > 0)
    counted = Targets.of([found]).leaving_out_ignored(True).counted[0]
    assert np.array_equal(counted.numpy(), bitmap[0] > 0)


def test_an_image_without_instances_has_an_empty_target():
    target = targets(instance_sample([], np.zeros((0, 4, 6), bool)), (4, 6))
    assert target.num_segments == 0 and target.size == (4, 6)


def test_a_sample_without_ground_truth_names_the_transforms_to_use():
    from mmdet.structures import DetDataSample

    with pytest.raises(KeyError, match="a.jpg.*neither 'gt_panoptic_seg' nor 'gt_instances'.*LoadPanopticAnnotations"):
        targets(DetDataSample(metainfo=dict(img_path='a.jpg')))


def test_labels_outside_the_class_list_name_the_file():
    with pytest.raises(ValueError, match=r'images/a.jpg: labels \[5\] of segments are outside.*0 to 4.*num_classes'):
        targets(instance_sample([5], np.zeros((1, 4, 6), bool)), (4, 6))


def test_ground_truth_larger_than_the_input_is_named():
    _, sample = hosts.make_panoptic_sample((50, 70))
    with pytest.raises(ValueError, match=r'panoptic/a.png: the ground truth is \(50, 70\), larger than .*\(50, 64\)'):
        targets(sample, (50, 64))


def test_ground_truth_of_another_size_than_the_image_is_named():
    from mmdet.structures.mask import BitmapMasks

    _, panoptic = hosts.make_panoptic_sample((50, 70))
    instances = instance_sample([1], np.ones((1, 50, 70), bool))
    for sample, file in ((panoptic, 'panoptic/a.png'), (instances, 'images/a.jpg')):
        sample.set_metainfo(dict(img_shape=(60, 70)))
        with pytest.raises(
            ValueError, match=rf'{file}: the ground truth is \(50, 70\) .*, but the image is \(60, 70\). Fix'
        ):
            targets(sample)
    # MMDetection's preprocessor may pad the masks itself.
    instances.gt_instances.masks = BitmapMasks(np.ones((1, 64, 96), np.uint8), 64, 96)
    assert targets(instances).num_segments == 1


@pytest.mark.parametrize('seed', range(5))
def test_segments_are_preserved_by_mmdetections_form(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.tensor([0, 2, 4]), torch.randint(0, 2, (40,), generator=generator) * 2 + 1])
    labels = labels[torch.randperm(43, generator=generator)]
    segment_ids = torch.randint(0, 44, (30, 40), generator=generator, dtype=torch.int32)
    # Rows of dropped queries are between those of the segments.
    starts = torch.zeros(60, dtype=torch.bool)
    starts[torch.randperm(60, generator=generator)[:43]] = True
    rows = torch.randint(0, 5, (60,), generator=generator).masked_scatter_(starts, labels)
    segments = QuerySegments(segment_ids, rows, torch.zeros(60), starts)
    encoded, codes = encode_panoptic(segments, IS_THING)
    encoded, codes = encoded.numpy(), codes[starts]
    assert len(set(codes.tolist())) == 43 and 0 not in codes, 'the host takes 0 for void'
    assert ((encoded == 5) == (segment_ids == 0).numpy()).all()
    assert torch.equal(torch.from_numpy(encoded)[segment_ids > 0], codes[segment_ids[segment_ids > 0] - 1])
    found = decode_panoptic(encoded, 5)
    assert found.ids.dtype == np.int32 and found.ids.max() == len(found.labels) == 43
    for number, label in enumerate(found.labels, start=1):
        original = segment_ids.numpy()[found.ids == number]
        assert len(set(original.tolist())) == 1 and labels[original[0] - 1] == label


def test_the_list_of_segments_is_read_lazily_and_pickled_as_a_list():
    class Untouchable:
        def tolist(self):
            raise AssertionError('copied from the device too early')

        def detach(self):
            return self

    late = SegmentList(QuerySegments(None, *[Untouchable()] * 3), Untouchable())
    assert copy.deepcopy(late) is late
    starts = torch.tensor([True, False, True])
    scores = torch.tensor([0.5, 0.25, 0.75], requires_grad=True)
    found = SegmentList(QuerySegments(None, torch.tensor([1, 2, 3]), scores, starts), torch.tensor([1001, 2, 1003]))
    expected = [dict(id=1001, label=1, score=0.5), dict(id=1003, label=3, score=0.75)]
    assert found == expected and len(found) == 2 and found[1] == expected[1] and repr(found) == repr(expected)
    for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert type(other) is list and other == expected


@pytest.mark.parametrize('in_file, shift, who', [
    (7, False, None),
    (8, True, None),
    (2, False, r'does not contain \[7\]: the label_map of the dataset or a transform .* to 255, or set ignore_index=7'),
])  # fmt: skip
def test_labels_out_of_range_name_the_file_only_for_its_own_labels(tmp_path, in_file, shift, who):
    path = tmp_path / 'a.png'
    write_label_map(path, np.full((32, 32), in_file))
    _, sample = hosts.make_sample((32, 32), seg_map_path=str(path), reduce_zero_label=shift)
    sample.gt_sem_seg.data[0, :3] = 7
    with pytest.raises(
        ValueError, match=rf'a\.png: label ids \[7\] are outside the class list.*{who or ""}'
    ) as messages:
        targets_from_seg_samples([sample], num_classes=5, ignore_index=255)
    assert ('itself does not contain' in str(messages.value)) == (who is not None)


def test_labels_out_of_range_without_a_file_name_no_file():
    _, sample = hosts.make_sample((32, 32), seg_map_path='nowhere/a.png')
    sample.gt_sem_seg.data[0, :3] = 7
    with pytest.raises(ValueError, match=r'nowhere/a\.png: label ids \[7\]') as messages:
        targets_from_seg_samples([sample], num_classes=5, ignore_index=255)
    assert 'itself' not in str(messages.value)


def test_ignored_label_that_is_a_class():
    _, sample = hosts.make_sample((32, 32))
    with pytest.raises(ValueError, match='ignore_index=0 is also one of the 5 classes.*reduce_zero_label'):
        targets_from_seg_samples([sample], num_classes=5, ignore_index=0)
