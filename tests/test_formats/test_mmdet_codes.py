"""MMDetection's panoptic codes: encoding, decoding, the same counts as segment maps, refusal of unknown codes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.pq_pairs import random_pair

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.quality.panoptic_quality import count_segments
from mmmaskformer.core.segments import Segments
from mmmaskformer.core.structures import IGNORED, NO_SEGMENT
from mmmaskformer.formats.mmdet_codes import (
    INSTANCE_OFFSET,
    MOST_CLASSES,
    decode_panoptic,
    encode_index_map,
    encode_panoptic,
    has_segments,
    instance_offset,
    panoptic_codes,
    segments_of_codes,
    with_present_classes,
    with_void_restored,
)

K = 6


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_decode_segment_by_segment(seed, dtype):
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 3, 5, 9, 1002, 2002, 1009, 7009, 123004], (6, 7)).astype(dtype)
    segments = decode_panoptic(codes, 9)
    expected = sorted(code for code in set(codes.ravel().tolist()) if code % 1000 < 9)
    assert segments.labels.tolist() == [code % 1000 for code in expected]
    assert segments.ids.dtype == np.int32
    for number, code in enumerate(expected, 1):
        assert np.array_equal(segments.ids == number, codes == code)
    assert np.array_equal(segments.ids == 0, codes % 1000 >= 9)


def test_same_offset_as_mmdet():
    import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed

    from mmdet.evaluation.functional import INSTANCE_OFFSET as THEIRS  # isort: skip

    assert INSTANCE_OFFSET == THEIRS


def test_edges():
    segments = decode_panoptic(np.full((2, 3), 4), 4)
    assert not segments.ids.any() and not segments.labels.size
    segments = decode_panoptic(np.zeros((0, 3), int), 4)
    assert segments.ids.shape == (0, 3) and not segments.labels.size
    with pytest.raises(ValueError, match=r'found \[-2\], expected label'):
        decode_panoptic(np.array([[1, -2]]), 4)


@pytest.mark.parametrize('value', [K + 1, 255, 999, K + 1 + 7 * INSTANCE_OFFSET])
def test_an_unknown_class_is_an_error_not_void(value):
    encoded = np.full((2, 3), K)
    encoded[1, 2] = value
    message = rf'a.png: panoptic map: found \[{value}\], expected .* labels from 0 to 5, or 6 for void. Fix: evaluate'
    with pytest.raises(ValueError, match=message):
        decode_panoptic(encoded, K, what='a.png: panoptic map')


def test_round_trip():
    ids = torch.tensor([[0, 1, 1], [2, 3, 4]])
    segments = QuerySegments(ids, torch.tensor([2, 0, 2, 5]), torch.ones(4), torch.ones(4, dtype=torch.bool))
    codes = panoptic_codes(segments, torch.tensor([False, True, True, False, True, False]))
    assert codes.tolist() == [1002, 1000, 2002, 5]
    encoded, again = encode_panoptic(segments, torch.tensor([False, True, True, False, True, False]))
    assert torch.equal(again, codes) and encoded.tolist() == [[K, 1002, 1002], [1000, 2002, 5]]
    found = decode_panoptic(encoded.numpy(), K)
    # Ids in the order of the codes: 5, 1000, 1002, 2002.
    assert found.ids.tolist() == [[0, 3, 3], [2, 4, 1]] and found.labels.tolist() == [5, 0, 2, 2]


def test_void_that_mmdetections_metric_overwrote_is_restored():
    encoded = np.array([[0, 3, 0], [1000, 3, K]])
    given = encoded.copy()
    found = decode_panoptic(encoded, K, listed=[3, 1000])
    assert found.ids.tolist() == [[0, 1, 0], [2, 1, 0]] and found.labels.tolist() == [3, 0]
    assert np.array_equal(encoded, given)
    # Without a list, or for a head that lists the code 0, it is class 0.
    for listed in (None, [0, 3, 1000]):
        assert decode_panoptic(encoded, K, listed).labels.tolist() == [0, 3, 0]


@pytest.mark.parametrize('seed', range(10))
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_predictions_in_mmdetections_form_give_equal_counts(seed, dtype):
    truth, prediction = random_pair(np.random.default_rng(seed), K)
    encoded = np.full(prediction.ids.shape, K, dtype)
    encoded[0] = K + 3 * INSTANCE_OFFSET  # void, for any instance
    for i, (segment, label) in enumerate(zip(prediction.listed_ids, prediction.labels, strict=True)):
        encoded[prediction.ids == segment] = label + INSTANCE_OFFSET * i
    ids = np.where(encoded % INSTANCE_OFFSET < K, prediction.ids, 0)
    seen = np.isin(prediction.listed_ids, ids)
    prediction = Segments(ids, prediction.labels[seen], listed_ids=prediction.listed_ids[seen])
    found = count_segments(truth, decode_panoptic(encoded, K), num_classes=K)
    expected = count_segments(truth, prediction, num_classes=K)
    for key in ('tp', 'fp', 'fn'):
        assert np.array_equal(getattr(found, key), getattr(expected, key))
    np.testing.assert_allclose(found.iou_sum, expected.iou_sum, rtol=0, atol=1e-12)


def test_wrong_predictions_in_mmdetections_form_are_named():
    truth = Segments(np.repeat([[1, 0]], [5, 15], axis=1), np.array([2]))
    with pytest.raises(ValueError, match=r'a.png: the prediction is \(1, 19\)'):
        count_segments(truth, decode_panoptic(np.zeros((1, 19), np.int32), K), num_classes=K, name='a.png')
    with pytest.raises(ValueError, match=r'found \[-3\], expected label'):
        decode_panoptic(np.full((1, 20), -3), K)


@pytest.mark.parametrize(
    'num_classes, offset',
    [(1, 1000), (999, 1000), (1000, 10_000), (1203, 10_000), (9999, 10_000), (10_000, 100_000), (40_000, 100_000)],
)
def test_codes_of_many_classes_are_decoded(num_classes, offset):
    """The first and the last class, as stuff and as things, and void, from the fusion head to segments."""
    from mmmaskformer.heads.fusion_head import MaskFormerFusionHead

    assert instance_offset(num_classes) == offset and MOST_CLASSES == 999
    last = num_classes - 1
    for things, wanted in (([], [0, last]), (range(num_classes), [0, last, last])):
        if num_classes == 1:
            wanted = wanted[1:]
        # void at the right: the last query predicts no object there
        class_logits = torch.full((1, len(wanted) + 1, num_classes + 1), -20.0)
        class_logits[0, torch.arange(len(wanted) + 1), torch.tensor([*wanted, num_classes])] = 20
        mask_logits = torch.full((1, len(wanted) + 1, 4, len(wanted)), -9.0)
        for query in range(len(wanted)):
            mask_logits[0, query, :, query] = 9
        sample = SimpleNamespace(metainfo=dict(img_shape=(4, len(wanted)), ori_shape=(4, len(wanted))))
        fusion = MaskFormerFusionHead(num_classes=num_classes, things=things)
        (found,) = fusion.predict(class_logits, mask_logits, [sample])
        encoded = found['pan_results'].sem_seg[0].numpy()
        segments = decode_panoptic(encoded, num_classes)
        assert segments.labels[segments.ids - 1].tolist() == [wanted] * 4
        counts = count_segments(segments, decode_panoptic(encoded, num_classes), num_classes=num_classes)
        assert counts.tp.sum() == len(segments.labels) and counts.fp.sum() == counts.fn.sum() == 0
        class_logits[..., :num_classes] = -20.0
        class_logits[..., num_classes] = 20
        (nothing,) = fusion.predict(class_logits, mask_logits, [sample])
        assert not decode_panoptic(nothing['pan_results'].sem_seg[0].numpy(), num_classes).labels.size


def test_codes_beyond_32_bits_do_not_wrap():
    labels = torch.full((30_000,), 99_998)
    segments = QuerySegments(torch.zeros(1, 1, dtype=torch.long), labels, labels.float(), labels > 0)
    codes = panoptic_codes(segments, torch.ones(99_999, dtype=torch.bool))
    assert codes[-1] == 99_998 + 30_000 * 100_000 and (codes > 0).all()


def test_every_negative_index_is_void():
    segment_map = np.array([[0, 1, NO_SEGMENT, IGNORED]])
    assert encode_index_map(segment_map, [3, 4], 5).tolist() == [[1003, 2004, 5, 5]]
    assert encode_index_map(segment_map, [3, 1004], 1203).tolist() == [[10_003, 21_004, 1203, 1203]]
    many = encode_index_map(np.array([[32_766]]), [0] * 32_766 + [199_999], 200_000)
    assert many.tolist() == [[199_999 + 32_767 * 1_000_000]]


@pytest.mark.parametrize('dtype', [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize('num_classes', [9, 300, 1203])
def test_codes_of_any_integer_type(dtype, num_classes):
    """Neither K nor the factor need to fit the type of a map, in which void would become another class."""
    encoded = np.array([[0, 0, 3], [8, 5, 8]], dtype)
    wide = encoded.astype(np.int64)
    found, expected = (segments_of_codes(x, num_classes) for x in (encoded, wide))
    assert found.listed_ids.tolist() == expected.listed_ids.tolist() and (found.ids == expected.ids).all()
    assert (decode_panoptic(encoded, num_classes).ids == decode_panoptic(wide, num_classes).ids).all()
    restored = with_void_restored(encoded, [3, 5, 8], num_classes)
    assert restored.tolist() == [[num_classes, num_classes, 3], [8, 5, 8]]
    assert has_segments(encoded, num_classes)
    assert with_present_classes(encoded, num_classes)[0].tolist() == with_present_classes(wide, num_classes)[0].tolist()


def test_codes_are_whole_numbers():
    for function in (segments_of_codes, has_segments, with_present_classes):
        with pytest.raises(ValueError, match='panoptic map: found float32, expected whole numbers'):
            function(np.ones((2, 3), np.float32), 9)


def test_a_map_with_the_classes_that_occur():
    encoded = np.array([[11_100, 21_100, 1203, 10_003, 5]])
    assert has_segments(encoded, 1203) and not has_segments(np.array([[1203]]), 1203)
    found, present = with_present_classes(encoded, 1203)
    assert present == [3, 5, 1100] and found.dtype == np.int64
    assert [value % 1000 for value in found[0].tolist()] == [2, 2, 3, 0, 1]
    assert found[0, 2] == 3 and len(set(found[0].tolist())) == 5
    with pytest.raises(ValueError, match='found 1000 classes, expected at most 999'):
        with_present_classes(10_000 + np.arange(1000)[None], 1203)
