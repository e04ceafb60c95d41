"""PQ-St is compared with the official tool and with PQ; IoU and accuracy with their definitions."""

import numpy as np
import pytest
from helpers.official import load

from mmmaskformer.core.quality.panoptic_quality import count_segments, mean_quality, quality
from mmmaskformer.core.quality.semantic_quality import LabelCounts, count_labels, pixel_quality
from mmmaskformer.core.segments import Segments

K = 8


@pytest.fixture(scope='module')
def official():
    return load('pq_semantic')


def count_all(truths, predictions) -> LabelCounts:
    counts = [count_labels(*pair, num_classes=K, ignore_index=255) for pair in zip(truths, predictions, strict=True)]
    return sum(counts, LabelCounts.zeros(K))


def random_labels(seed: int, size: tuple[int, int] = (9, 13)) -> tuple[np.ndarray, np.ndarray]:
    """True labels of 6 classes, some ignored; mostly correct predictions of 7 classes and of unlabelled pixels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K - 2, (size[0] // 3 + 1, size[1] // 4 + 1)).repeat(3, 0).repeat(4, 1)[: size[0], : size[1]]
    prediction = np.where(rng.random(size) < 0.7, truth, rng.choice([0, 3, K - 2, K, 200], size))
    truth[rng.random(size) < 0.2] = 255
    return truth, prediction


def test_equal_to_the_official_numbers(official):
    truths, predictions = official['gt'].numpy(), official['pred'].numpy()
    counts = count_all(truths, predictions)
    per_image = [count_all([truth], [pred]) for truth, pred in zip(truths, predictions, strict=True)]
    found = np.array([np.stack([one.tp, one.fp, one.fn], axis=1) for one in per_image])
    assert np.array_equal(found, official['tp_fp_fn_per_image'].numpy())
    mean = mean_quality(counts)
    assert mean[:3] == pytest.approx([official[key] for key in ('pq', 'sq', 'rq')], rel=0, abs=1e-12)
    assert mean.n == official['n']
    pixels = pixel_quality(counts)
    iou = np.asarray(official['iou_per_class'])  # NaN there for the class that is predicted but never occurs
    there = ~np.isnan(iou)
    np.testing.assert_allclose(pixels.iou[there], iou[there], rtol=0, atol=1e-12)
    assert pixels.iou[~there].tolist() == pytest.approx([0, np.nan], nan_ok=True)
    assert pixels.mean_iou == pytest.approx(official['miou_of_2021'], rel=0, abs=1e-12)


@pytest.mark.parametrize('seed', range(10))
def test_pq_st_is_pq_with_a_segment_for_each_class(seed):
    truth, prediction = random_labels(seed)
    labels = [np.unique(one[one < K]) for one in (truth, prediction)]
    maps = [
        Segments(np.where(one < K, one + 1, 0), ids, listed_ids=ids + 1)
        for one, ids in zip((truth, prediction), labels, strict=True)
    ]
    expected = count_segments(*maps, num_classes=K)
    counts = count_labels(truth, prediction, num_classes=K, ignore_index=255)
    for key in ('tp', 'fp', 'fn', 'iou_sum'):
        np.testing.assert_allclose(getattr(counts, key), getattr(expected, key), rtol=0, atol=1e-14)


def test_pixel_measures_by_definition():
    pairs = [random_labels(seed) for seed in range(5)]
    truth = np.concatenate([truth.ravel() for truth, _ in pairs])
    prediction = np.concatenate([prediction.ravel() for _, prediction in pairs])
    truth, prediction = truth[truth != 255], prediction[truth != 255]
    found = pixel_quality(count_all(*zip(*pairs, strict=True)))
    both = [np.count_nonzero((truth == k) & (prediction == k)) for k in range(K)]
    either = [np.count_nonzero((truth == k) | (prediction == k)) for k in range(K)]
    there = [np.count_nonzero(truth == k) for k in range(K)]
    iou = [both[k] / either[k] for k in range(K - 1)]
    assert found.iou[:-1] == pytest.approx(iou) and np.isnan(found.iou[-1])
    assert found.accuracy[:-2] == pytest.approx([both[k] / there[k] for k in range(K - 2)])
    assert np.isnan(found.accuracy[-2:]).all()
    assert found.mean_iou == pytest.approx(np.mean(iou))
    assert found.mean_accuracy == pytest.approx(np.mean(found.accuracy[:-2]))
    assert found.all_accuracy == pytest.approx(np.mean(truth == prediction))
    assert found.weighted_iou == pytest.approx(sum(iou[k] * there[k] for k in range(K - 1)) / len(truth))


@pytest.mark.parametrize('label', [K, K + 1, 255, -1])
def test_a_prediction_that_is_not_a_class_misses_the_pixels(label):
    truth = np.zeros((2, 6), int)
    counts = count_labels(truth, np.full((2, 6), label), num_classes=K, ignore_index=255)
    assert (counts.fn[0], counts.fp.sum(), counts.tp.sum(), counts.pred_area.sum()) == (1, 0, 0, 0)
    assert pixel_quality(counts).mean_iou == pixel_quality(counts).all_accuracy == 0


@pytest.mark.parametrize(('num_ignored', 'false_positives'), [(2, 1), (3, 0)])
def test_a_prediction_with_more_than_half_ignored_is_not_false(num_ignored, false_positives):
    truth, prediction = np.zeros((1, 9), int), np.array([[1] * 4 + [0] * 5])
    truth[0, :num_ignored] = 255
    counts = count_labels(truth, prediction, num_classes=K, ignore_index=255)
    assert counts.fp[1] == false_positives


def test_nothing_labelled_gives_nan_without_a_warning():
    counts = count_labels(np.full((3, 4), 255), np.zeros((3, 4), int), num_classes=K, ignore_index=255)
    with np.errstate(all='raise'):
        assert np.isnan(pixel_quality(counts)[2:]).all()
        assert np.isnan(quality(counts).pq).all()


def test_ignore_index_equal_to_the_number_of_classes():
    truth, prediction = np.array([[0, 0, K, K]]), np.array([[0, 1, 2, K]])
    counts = count_labels(truth, prediction, num_classes=K, ignore_index=K)
    assert pixel_quality(counts).all_accuracy == 0.5
    assert counts.fp.tolist() == [1, 1, *[0] * (K - 2)]  # class 2 occurs on ignored pixels only


@pytest.mark.parametrize(
    ('truth', 'prediction', 'message'),
    [
        (np.zeros((4, 6), int), np.zeros((6, 4), int), r'the prediction is \(6, 4\).*expected \(4, 6\)'),
        (np.full((4, 6), K), np.zeros((4, 6), int), rf'found labels \[{K}\] in the ground truth'),
        (np.full((4, 6), -1), np.zeros((4, 6), int), r'found labels \[-1\] in the ground truth'),
    ],
)
def test_invalid_input_is_reported_with_the_name(truth, prediction, message):
    with pytest.raises(ValueError, match=r'^street\.png: ' + message):
        count_labels(truth, prediction, num_classes=K, ignore_index=255, name='street.png')


@pytest.mark.parametrize('what', ['ground truth', 'prediction'])
def test_labels_are_whole_numbers(what):
    """Scores are not labels, although they could be rounded to some."""
    maps = [np.zeros((2, 3), np.int64), np.zeros((2, 3), np.int64)]
    maps[what == 'prediction'] = np.full((2, 3), 0.7, np.float32)
    with pytest.raises(ValueError, match=f'a.png: the {what} is float32, expected whole numbers'):
        count_labels(*maps, num_classes=K, ignore_index=255, name='a.png')
