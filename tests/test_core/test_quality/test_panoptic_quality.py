"""Counts are compared with the official tool, a count by definition, and hand-computed cases."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers.pq_pairs import categories, counts_by_definition, official_stat, random_pair

from mmmaskformer.core.quality.panoptic_map import distinct_values, joint_areas, joint_runs, labels_of_pixels, numbered
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments, mean_quality, quality
from mmmaskformer.core.segments import Segments

K = 6
IS_THING = np.arange(K) % 2 == 1


def strips(*runs: tuple[int, int]) -> np.ndarray:
    """A map of one row of 20 pixels from pairs (id, length); the rest is void."""
    row = np.concatenate([np.full(length, segment, np.int32) for segment, length in runs])
    return np.pad(row, (0, 20 - len(row)))[None]


def count(truth: np.ndarray, true_labels, prediction: np.ndarray, pred_labels, crowd=None, areas=None) -> tuple:
    """(tp, fp, fn) and sum of IoUs of segments 1, 2, …, over all classes."""
    counts = count_segments(
        Segments(truth, true_labels, is_crowd=crowd, areas=areas),
        Segments(prediction, pred_labels),
        num_classes=K,
    )
    return (counts.tp.sum(), counts.fp.sum(), counts.fn.sum()), counts.iou_sum.sum()


@pytest.mark.parametrize('seed', range(25))
def test_equal_to_panopticapi(seed, tmp_path):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, K) for _ in range(3)]
    counts = sum((count_segments(*pair, num_classes=K) for pair in pairs), SegmentCounts.zeros(K))
    stat = official_stat(pairs, K, tmp_path)
    official = np.array([[getattr(stat[label + 1], key) for key in ('tp', 'fp', 'fn', 'iou')] for label in range(K)])
    assert np.array_equal(np.stack([counts.tp, counts.fp, counts.fn], axis=1), official[:, :3])
    np.testing.assert_allclose(counts.iou_sum, official[:, 3], rtol=0, atol=1e-12)
    for chosen, wanted in ((None, None), (IS_THING, True), (~IS_THING, False)):
        mean = mean_quality(counts, chosen)
        if not official[slice(None) if chosen is None else chosen, :3].any():
            assert np.isnan(mean.pq) and mean.n == 0
            continue
        expected, _ = stat.pq_average(categories(K), isthing=wanted)
        assert mean.n == expected['n'] > 0
        assert mean[:3] == pytest.approx([expected[key] for key in ('pq', 'sq', 'rq')], rel=0, abs=1e-12)


@pytest.mark.parametrize('seed', range(100, 125))
def test_equal_to_counts_by_definition(seed):
    truth, prediction = random_pair(np.random.default_rng(seed), K, size=(7, 9))
    counts = count_segments(truth, prediction, num_classes=K)
    found = np.stack([counts.tp, counts.fp, counts.fn, counts.iou_sum], axis=1)
    np.testing.assert_allclose(found, counts_by_definition(truth, prediction, K), rtol=0, atol=1e-12)


def test_random_pairs_have_all_the_cases():
    pairs = [random_pair(np.random.default_rng(seed), K) for seed in range(25)]
    totals = sum((count_segments(*pair, num_classes=K) for pair in pairs), SegmentCounts.zeros(K))
    assert min(totals.tp[:-1].min(), totals.fp[:-1].min(), totals.fn[:-1].min()) > 0
    assert totals.tp[-1] == totals.fp[-1] == totals.fn[-1] == 0
    assert any(truth.is_crowd.any() for truth, _ in pairs)
    assert any((truth.areas == 0).any() for truth, _ in pairs)
    assert any(len(set(truth.labels[truth.is_crowd])) < truth.is_crowd.sum() for truth, _ in pairs)


@pytest.mark.parametrize(
    ('truth', 'prediction', 'expected', 'iou'),
    [
        (strips((1, 20)), strips((1, 10)), (0, 1, 1), 0),  # an IoU of 0.5 is not a match
        (strips((1, 20)), strips((1, 11)), (1, 0, 0), 0.55),
        (strips((1, 8)), strips((1, 20)), (1, 0, 0), 1),  # 12 predicted pixels on void are excluded from the union
        (strips((1, 8)), strips((1, 3), (0, 14), (1, 3)), (0, 1, 1), 0),  # half on void: still a false positive
        (strips((1, 8)), strips((1, 3), (0, 13), (1, 4)), (0, 0, 1), 0),  # more than half: ignored
        (strips((1, 20)), strips((0, 0)), (0, 0, 1), 0),
        (strips((0, 0)), strips((1, 20)), (0, 0, 0), 0),
    ],
)
def test_borders(truth, prediction, expected, iou):
    labels = [2] * int(truth.max()), [2] * int(prediction.max())
    counts, iou_sum = count(truth, labels[0], prediction, labels[1])
    assert counts == expected
    assert iou_sum == pytest.approx(iou, rel=0, abs=1e-15)


def test_crowds_are_never_matched_nor_missed():
    truth = strips((1, 10), (2, 10))
    assert count(truth, [1, 3], strips((1, 10)), [1], crowd=[True, True]) == ((0, 0, 0), 0)
    assert count(truth, [1, 3], strips((1, 10)), [3], crowd=[True, True]) == ((0, 1, 0), 0)


def test_crowd_pixels_stay_in_the_union():
    truth = strips((1, 10), (2, 10))
    assert count(truth, [1, 1], strips((1, 16)), [1], crowd=[False, True]) == ((1, 0, 0), 10 / 16)


def test_of_two_crowds_of_a_class_the_last_one_counts():
    truth, prediction = strips((1, 10), (2, 10)), strips((1, 8), (0, 6), (2, 6))
    assert count(truth, [1, 1], prediction, [1, 1], crowd=[True, True])[0] == (0, 1, 0)
    assert count(truth, [1, 4], prediction, [1, 4], crowd=[True, True])[0] == (0, 0, 0)


def test_areas_from_elsewhere_go_into_the_iou():
    truth, prediction = strips((1, 10)), strips((1, 10))
    assert count(truth, [1], prediction, [1], areas=[16]) == ((1, 0, 0), 10 / 16)
    assert count(truth, [1], prediction, [1], areas=[20]) == ((0, 1, 1), 0)


def test_a_true_segment_without_pixels_is_missed():
    assert count(strips((1, 10)), [1, 2], strips((1, 10)), [1])[0] == (1, 0, 1)


def test_wrong_class_is_missed_and_false():
    assert count(strips((1, 10)), [1], strips((1, 10)), [2]) == ((0, 1, 1), 0)


def test_quality_by_hand():
    counts = SegmentCounts(np.array([2, 0, 0]), np.array([1, 1, 0]), np.array([3, 0, 0]), np.array([1.5, 0, 0]))
    pq, sq, rq = quality(counts)
    assert [pq[0], sq[0], rq[0]] == [1.5 / 4, 0.75, 0.5]
    assert [pq[1], sq[1], rq[1]] == [0, 0, 0]
    assert np.isnan([pq[2], sq[2], rq[2]]).all()
    assert mean_quality(counts) == (1.5 / 8, 0.375, 0.25, 2)
    assert mean_quality(counts, [False, True, True]) == (0, 0, 0, 1)
    assert np.isnan(mean_quality(counts, [False, False, True])[:3]).all()


def test_small_form_keeps_everything():
    pairs = [random_pair(np.random.default_rng(seed), K) for seed in range(4)]
    each = [count_segments(*pair, num_classes=K) for pair in pairs]
    joined = SegmentCounts.from_rows([counts.rows() for counts in each], K)
    for key in ('tp', 'fp', 'fn', 'iou_sum'):
        assert np.array_equal(getattr(joined, key), sum(getattr(counts, key) for counts in each))
    assert joined.tp.dtype == np.int64
    assert len(each[0].rows()) < K


@pytest.mark.parametrize('dtype', [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integer_and_any_memory_layout(dtype):
    truth, prediction = random_pair(np.random.default_rng(3), K)
    expected = count_segments(truth, prediction, num_classes=K).rows()
    ids, dense = np.unique(truth.ids, return_inverse=True)
    dense = np.asfortranarray(dense.reshape(truth.ids.shape).astype(dtype))
    visible = np.searchsorted(ids, truth.listed_ids)
    visible[truth.areas == 0] = np.arange(1000, 1000 + (truth.areas == 0).sum())
    again = count_segments(replace(truth, ids=dense, listed_ids=visible), prediction, num_classes=K).rows()
    assert np.array_equal(again, expected)


def test_order_of_the_lists_does_not_matter():
    truth, prediction = random_pair(np.random.default_rng(5), K)
    expected = count_segments(truth, prediction, num_classes=K).rows()
    turned = Segments(prediction.ids, prediction.labels[::-1].tolist(), listed_ids=prediction.listed_ids[::-1].tolist())
    np.testing.assert_allclose(count_segments(truth, turned, num_classes=K).rows(), expected, rtol=0, atol=1e-14)


def pixels_of_pairs(pairs) -> Counter:
    """Number of pixels of each pair of values, from a list of pairs with pixel counts."""
    pixels = Counter()
    for one, two, number in pairs:
        pixels[int(one), int(two)] += int(number)
    return pixels


@pytest.mark.parametrize('find', [joint_runs, joint_areas])
@pytest.mark.parametrize('size', [(1, 1), (1, 8), (7, 11), (3, 3), (64, 96)])
@pytest.mark.parametrize('values', [2, 2**24, 2**31 - 1])
def test_every_pixel_counts_once(find, size, values):
    rng = np.random.default_rng(0)
    first = rng.integers(0, values, size).astype(np.uint32)
    second = rng.integers(-values, values, size).astype(np.int32)
    found = find(first, second)
    assert [part.dtype for part in found] == [np.int64] * 3 and found[2].min() > 0
    assert pixels_of_pairs(zip(*found, strict=True)) == pixels_of_pairs(
        zip(first.flat, second.flat, np.ones(first.size), strict=True)
    )


@pytest.mark.parametrize('find', [joint_runs, joint_areas])
def test_no_pixel_has_no_pairs(find):
    empty = np.zeros((0, 11), np.int32)
    assert [len(part) for part in find(empty, empty)] == [0, 0, 0]


def test_runs_of_a_map_with_itself_are_its_own():
    ids = np.random.default_rng(0).integers(0, 3, (7, 11))
    own, again = joint_runs(ids, ids), joint_runs(ids, ids.copy())
    assert all(map(np.array_equal, own, again)) and np.array_equal(np.repeat(own[0], own[2]), ids.ravel())


@pytest.mark.parametrize('low, high', [(0, 5), (0, 300_000), (-3, 3), (2**30, 2**30 + 9), (0, 1)])
@pytest.mark.parametrize('size', [(0, 4), (1, 1), (9, 13)])
def test_distinct_values(low, high, size):
    ids = np.random.default_rng(0).integers(low, high, size).astype(np.int32)
    found = distinct_values(ids)
    assert found.dtype == np.int64 and np.array_equal(found, np.unique(ids))


def test_areas_merge_the_runs_of_a_pair():
    first, second = np.indices((64, 64)) // 4 % 4
    assert len(joint_runs(first, second)[2]) > 1000
    assert len(joint_areas(first, second)[2]) <= 2 * 16


def test_labels_of_pixels():
    truth, _ = random_pair(np.random.default_rng(2), K)
    expected = np.full(truth.ids.shape, 255)
    for segment_id, label, crowd in zip(truth.listed_ids, truth.labels, truth.is_crowd, strict=True):
        expected[truth.ids == segment_id] = 255 if crowd else label
    assert truth.is_crowd.any() and len(np.unique(expected)) > 2
    assert np.array_equal(labels_of_pixels(truth, 255, num_classes=K), expected)


def test_ids_that_stand_for_void_count_as_void():
    truth, prediction = random_pair(np.random.default_rng(4), K)
    other = np.where(truth.ids == 0, np.arange(truth.ids.size).reshape(truth.ids.shape) % 2 * 2**24, truth.ids)
    assert {0, 2**24} < set(other.ravel().tolist())
    expected = count_segments(truth, prediction, num_classes=K).rows()
    again = replace(truth, ids=other, void_ids=np.array([2**24, 2**25]))
    assert np.array_equal(count_segments(again, prediction, num_classes=K).rows(), expected)
    assert np.array_equal(labels_of_pixels(again, 255, num_classes=K), labels_of_pixels(truth, 255, num_classes=K))


@pytest.mark.parametrize('seed', range(3))
def test_numbered_segments_are_the_same_segments(seed):
    truth, _ = random_pair(np.random.default_rng(seed), K)
    found = numbered(truth, num_classes=K)
    assert found.ids.dtype == np.int32 and found.listed_ids is None and found.labels is truth.labels
    assert np.array_equal(found.ids == 0, truth.ids == 0)
    for number, segment_id in enumerate(truth.listed_ids, 1):
        assert np.array_equal(found.ids == number, truth.ids == segment_id)


GOOD = Segments(strips((7, 8), (9, 5)), [1, 2], listed_ids=[7, 9])


@pytest.mark.parametrize(
    ('truth', 'prediction', 'message'),
    [
        (GOOD, replace(GOOD, ids=strips((7, 8), (9, 5)).T), r'the prediction is \(20, 1\).*expected \(1, 20\)'),
        (replace(GOOD, labels=[1, K]), GOOD, r'ground truth: segments \[9\] have unknown categories \[6\]'),
        (GOOD, replace(GOOD, labels=[-1, 1]), r'prediction: segments \[7\] have unknown categories \[-1\]'),
        (replace(GOOD, listed_ids=[7, 8]), GOOD, r'ground truth has pixels of segment ids \[9\]'),
        (GOOD, replace(GOOD, listed_ids=[8, 9]), r'prediction has pixels of segment ids \[7\]'),
        (GOOD, Segments(GOOD.ids, [1, 2, 2], listed_ids=[7, 9, 11]), r'prediction lists segment ids \[11\].*no pixel'),
        (replace(GOOD, listed_ids=[7, 7]), GOOD, r'ground truth: segment ids \[7\] are listed more than once'),
        (GOOD, replace(GOOD, listed_ids=[0, 9]), r'prediction: found segment id 0'),
        (GOOD, replace(GOOD, ids=GOOD.ids / 2), r'prediction: found a map of shape \(1, 20\) and float64'),
        (replace(GOOD, labels=[1]), GOOD, r'found labels of shape \(1,\), expected \(2,\)'),
        (replace(GOOD, areas=[8, 0]), GOOD, r'ground truth segments \[9\] have the areas \[0\]'),
    ],
)
def test_invalid_input_is_reported_with_the_name(truth, prediction, message):
    with pytest.raises(ValueError, match=r'^street\.png: .*' + message.removeprefix('street')):
        count_segments(truth, prediction, num_classes=K, name='street.png')


def test_long_lists_are_shortened():
    truth = Segments(np.arange(1, 31)[None], [0])
    with pytest.raises(ValueError, match=r'\[2, 3, 4, 5, 6, 7, 8, 9, … 21 more\]'):
        count_segments(truth, truth, num_classes=K)


def test_a_segment_in_each_of_40000_pixels_is_matched():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 40_000)
    ids = np.arange(1, 40_001).reshape(200, 200)
    new_id = rng.permutation(40_000) + 1
    wrong = rng.choice(40_000, 1000, replace=False)
    pred_labels = np.empty(40_000, np.int64)
    pred_labels[new_id - 1] = labels
    pred_labels[new_id[wrong] - 1] = (labels[wrong] + 1) % 7
    counts = count_segments(Segments(ids, labels), Segments(new_id[ids - 1], pred_labels), num_classes=7)
    right = np.bincount(np.delete(labels, wrong), minlength=7)
    assert np.array_equal(counts.tp, right) and np.array_equal(counts.iou_sum, right)
    assert np.array_equal(counts.fn, np.bincount(labels[wrong], minlength=7))
    assert np.array_equal(counts.fp, np.bincount((labels[wrong] + 1) % 7, minlength=7))
