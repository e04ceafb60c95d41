"""A sweep of thresholds gives the same counts as panoptic inference at each pair of thresholds."""

from itertools import product

import numpy as np
import pytest
import torch

from mmmaskformer.analysis.stored import StoredPrediction
from mmmaskformer.analysis.threshold_sweep import ThresholdSweep
from mmmaskformer.core.inference.panoptic import panoptic_inference
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments, mean_quality
from mmmaskformer.core.segments import Segments

IS_THING = [True, False, True, False]
OBJECT, OVERLAP = [0.9, 0.2, 0.5, 0.35, 0.0], [0.0, 0.5, 0.8, 1.0]


def prediction_of(seed: int) -> tuple[torch.Tensor, QueryMasks]:
    """Twelve queries of four classes, some of which are joined, and some lose too much of their mask."""
    torch.manual_seed(seed)
    mask_logits = 3 * torch.randn(12, 6, 8)
    mask_logits[:, :, :3] = -200  # the probability of every query is 0 there, so the first query wins the tie
    masks = QueryMasks.of_logits(mask_logits, (24, 32), (20, 30), (40, 60))
    return 2.5 * torch.randn(12, 5), masks


def truth_of(seed: int) -> Segments:
    """The segments that inference finds at low thresholds, partly changed."""
    class_logits, masks = prediction_of(seed)
    found = panoptic_inference(
        class_logits, masks, is_thing=torch.tensor(IS_THING), object_threshold=0.3, overlap_threshold=0.4
    )
    ids = found.ids.numpy().copy()
    ids[:, :12] = 0
    seen = np.unique(ids[ids > 0])
    return Segments(ids, found.labels.numpy()[seen - 1], listed_ids=seen)


@pytest.fixture(scope='module')
def sweep():
    sweep = ThresholdSweep(OBJECT, OVERLAP, IS_THING)
    for seed in range(4):
        sweep.add(StoredPrediction.of(*prediction_of(seed), 0.0), truth_of(seed))
    return sweep


def test_every_pair_equals_panoptic_inference(sweep):
    is_thing = torch.tensor(IS_THING)
    _, rows = sweep.table()
    qualities = set()
    for (low, overlap), row in zip(product(sorted(OBJECT), OVERLAP), rows, strict=True):
        counts, segments, empty = SegmentCounts.zeros(4), 0, 0
        for seed in range(4):
            found = panoptic_inference(
                *prediction_of(seed), is_thing=is_thing, object_threshold=low, overlap_threshold=overlap
            )
            predicted = Segments(found.ids.numpy(), found.labels.numpy())
            counts = counts + count_segments(truth_of(seed), predicted, num_classes=4)
            segments, empty = segments + len(found.labels), empty + (not len(found.labels))
        whole, things = mean_quality(counts), mean_quality(counts, np.array(IS_THING))
        assert row[:2] == [low, overlap] and row[-2:] == [segments, empty]
        np.testing.assert_array_equal(row[2:6], [100 * value for value in (*whole[:3], things.pq)])
        qualities.add(row[2])
    assert len(qualities) > 6, 'the thresholds matter'


def test_the_grid_is_the_same_table(sweep):
    header, rows = sweep.grid()
    assert header == ['PQ', 'overlap 0', 'overlap 0.5', 'overlap 0.8', 'overlap 1'] and rows[1][0] == '0.2'
    flat = [value for row in rows for value in row[1:]]
    np.testing.assert_array_equal(flat, [row[2] for row in sweep.table()[1]])


def test_the_best_pair_is_that_of_the_highest_row(sweep):
    best, (_, rows) = sweep.best(), sweep.table()
    highest = max(rows, key=lambda row: row[2])
    assert [best.object_threshold, best.overlap_threshold, 100 * best.pq] == highest[:3]


def test_predictions_stored_at_a_threshold_give_the_same_above_it(sweep, tmp_path):
    again = ThresholdSweep([0.35, 0.5, 0.9], OVERLAP, IS_THING)
    for seed in range(4):
        StoredPrediction.of(*prediction_of(seed), 0.35).save(tmp_path / f'{seed}.npz')
        stored = StoredPrediction.load(tmp_path / f'{seed}.npz')
        assert len(stored.class_logits) < 12 and stored.num_queries == 12
        again.add(stored, truth_of(seed))
    np.testing.assert_array_equal(again.pq(), sweep.pq()[2:])
    assert again.highest == sweep.highest


def test_empty_images_are_explained_with_the_highest_probability():
    sweep = ThresholdSweep([0.2, 0.8], [0.8], IS_THING)
    class_logits = torch.full((2, 5), 0.1).log()
    class_logits[0, 1] = torch.tensor(0.61).log()
    masks = QueryMasks.of_logits(torch.ones(2, 4, 4), (16, 16), (16, 16), (16, 16))
    truth = Segments(np.ones((16, 16), np.int64), np.array([1]))
    highest = float(class_logits.softmax(-1)[:, :-1].max())
    sweep.add(StoredPrediction.of(class_logits, masks, 0.2), truth)
    assert sweep.explain_empty(0.8) == [
        f'object threshold 0.8: in 1 of 1 images none of the 2 queries is above it; highest {highest:.2f}'
    ]
    assert sweep.explain_empty(0.2) == []
    assert sweep.empty_images.tolist() == [[0], [1]] and sweep.pq().tolist() == [[1.0], [0.0]]


def test_a_probability_is_not_rounded_up_to_what_the_threshold_excludes():
    sweep = ThresholdSweep([0.2], [0.8], IS_THING)
    sweep.highest, sweep.most_confident, sweep.num_queries = [0.7999], [0.7999], 2
    assert sweep.explain_empty(0.8) == [
        'object threshold 0.8: in 1 of 1 images none of the 2 queries is above it; highest 0.79'
    ]


def test_images_in_which_no_object_is_more_probable_are_explained():
    sweep = ThresholdSweep([0.1, 0.2, 0.5], [0.8], IS_THING)
    class_logits = torch.tensor([[0.05, 0.305, 0.05, 0.05, 0.545], [0.05, 0.05, 0.15, 0.05, 0.7]]).log()
    masks = QueryMasks.of_logits(torch.ones(2, 4, 4), (16, 16), (16, 16), (16, 16))
    sweep.add(StoredPrediction.of(class_logits, masks, 0.1), Segments(np.ones((16, 16), np.int64), np.array([1])))
    reason = 'in 1 of 1 images every query above it predicts "no object", which no threshold changes'
    assert sweep.explain_empty(0.2) == [f'object threshold 0.2: {reason}']
    assert sweep.explain_empty(0.5) == [
        'object threshold 0.5: in 1 of 1 images none of the 2 queries is above it; highest 0.30'
    ]
    assert sweep.empty_images.ravel().tolist() == [1, 1, 1]
    assert sweep.explain_empty(0.05) == [], 'not known of predictions that were not kept'


@pytest.mark.parametrize('values', [[], [1.2], [-0.1]])
def test_thresholds_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match='overlap thresholds: found'):
        ThresholdSweep([0.5], values, IS_THING)


def test_a_file_of_another_kind_is_named(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.zeros(2))
    with pytest.raises(ValueError, match='a.npz: found no stored prediction'):
        StoredPrediction.load(tmp_path / 'a.npz')
