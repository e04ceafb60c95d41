"""Segments of label maps and masks, checked pixel by pixel."""

import numpy as np
import pytest

from mmmaskformer.core.segments import Segments
from mmmaskformer.visualization.segments import (
    keep_classes,
    merge_classes,
    require_segments,
    segments_of_labels,
    segments_of_masks,
)


def classes_of_pixels(segments):
    """(H, W) class, -1 for void, with a loop over all pixels."""
    rows = [[-1 if number == 0 else int(segments.labels[number - 1]) for number in row] for row in segments.ids]
    return np.array(rows)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int64])
def test_labels(dtype):
    segments = segments_of_labels(np.array([[4, 2, 255], [2, 2, 0]], dtype), ignore_label=255)
    np.testing.assert_array_equal(segments.ids, [[3, 2, 0], [2, 2, 1]])
    np.testing.assert_array_equal(segments.labels, [0, 2, 4])
    assert segments.void == 'ignored'


def test_many_classes_and_ignore_65535():
    labels = np.array([[846, 255, 65535]], np.uint16)
    np.testing.assert_array_equal(classes_of_pixels(segments_of_labels(labels, 65535)), [[846, 255, -1]])


def test_a_map_without_a_label():
    segments = segments_of_labels(np.full((2, 3), 255), 255)
    assert len(segments.labels) == 0
    assert not segments.ids.any()


@pytest.mark.parametrize('labels', [np.array([[0.5]]), np.zeros((1, 1, 3), int)])
def test_labels_must_be_a_map_of_integers(labels):
    with pytest.raises(ValueError, match=r'labels: found shape \(1, 1.* of .*, expected \(H, W\) integers'):
        segments_of_labels(labels, 255)


def test_the_most_confident_of_overlapping_masks_is_on_top():
    masks = np.array([[[1, 1, 1, 0]], [[0, 1, 1, 0]], [[0, 0, 1, 0]]], bool)
    segments = segments_of_masks(masks, np.array([5, 6, 7]), np.array([0.5, 0.9, 0.4]))
    np.testing.assert_array_equal(segments.ids, [[1, 2, 2, 0]])
    np.testing.assert_array_equal(segments.labels, [5, 6, 7])
    assert segments.void is None


def test_no_masks():
    segments = segments_of_masks(np.zeros((0, 2, 3), bool), np.zeros(0, int), np.zeros(0))
    np.testing.assert_array_equal(segments.ids, np.zeros((2, 3)))


def random_segments(seed=0, number=7):
    generator = np.random.default_rng(seed)
    return Segments(generator.integers(0, number + 1, (13, 17)), generator.integers(0, 4, number))


def test_merged_classes_are_the_classes_of_the_pixels():
    segments = random_segments()
    merged = merge_classes(segments)
    np.testing.assert_array_equal(classes_of_pixels(merged), classes_of_pixels(segments))
    assert len(set(merged.labels.tolist())) == len(merged.labels) < len(segments.labels)


def test_kept_classes():
    segments = random_segments()
    kept = keep_classes(segments, [True, False, True, False])
    before = classes_of_pixels(segments)
    np.testing.assert_array_equal(classes_of_pixels(kept), np.where(np.isin(before, [0, 2]), before, -1))
    instances = {(int(a), int(b)) for a, b in zip(segments.ids.ravel(), kept.ids.ravel(), strict=True) if b}
    assert len(instances) == len(kept.labels) == len({a for a, _ in instances}), 'segments stay apart'
    assert kept.void is None


@pytest.mark.parametrize(
    ('segments', 'message'),
    [
        (Segments(np.array([[3]]), [0, 1]), 'ids: found 3, expected 0 to 2, the number of labels'),
        (Segments(np.array([[-1]]), [0, 1]), 'ids: found -1, expected 0 to 2'),
        (Segments(np.array([[1.0]]), [0, 1]), r'ids: found shape \(1, 1\) of float64, expected \(H, W\) integers'),
        (Segments(np.array([[1]]), [3, 1]), 'labels: found class 3, expected 0 to 2. Fix: give palette a colour'),
        (Segments(np.array([[1]]), [0, -1]), 'labels: found class -1, expected 0 to 2'),
    ],
)
def test_bad_segments(segments, message):
    with pytest.raises(ValueError, match=message):
        require_segments(segments, num_classes=3)
