"""Metrics of label maps: IoU and accuracy over pixels, and PQ-St, the paper's metric over segments."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmmaskformer.core.quality.panoptic_map import joint_areas
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, segment_iou


@dataclass(frozen=True)
class LabelCounts(SegmentCounts):
    """The counts for all metrics of label maps over any number of images.

    The counts of segments treat each class of an image as one stuff segment; `quality` and `mean_quality` compute PQ-St
    from them.

    Attributes:
        intersection: (K,) int64, pixels whose predicted and true class are this one.
        true_area: (K,) int64, pixels of the class.
        pred_area: (K,) int64, pixels predicted as the class, without ignored ones.
    """

    intersection: np.ndarray
    true_area: np.ndarray
    pred_area: np.ndarray


class PixelQuality(NamedTuple):
    """IoU and accuracy in [0, 1].

    Attributes:
        iou: (K,) float64; NaN for a class that is neither in the ground truth nor predicted.
        accuracy: (K,) float64; NaN for a class that is not in the ground truth.
        mean_iou: mean over classes in the ground truth or predictions.
        mean_accuracy: mean over classes in the ground truth.
        all_accuracy: share of the labelled pixels that are correct.
        weighted_iou: IoU, weighted with the share of the class in the labelled pixels.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    mean_iou: float
    mean_accuracy: float
    all_accuracy: float
    weighted_iou: float


def count_labels(
    truth: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_index: int, name: str = 'image'
) -> LabelCounts:
    """Compare the label maps of one image.

    Ignored pixels do not count, except that a predicted segment with more than half of its pixels ignored is not a
    false positive of PQ-St.

    Source: paper, section 4.1, PQ-St; the official ``evaluate_pq_for_semantic_segmentation``. Differs: pixels without
    a predicted class belong to no segment; in the official code they have class 0.

    Args:
        truth: (H, W) integer, a label in [0, K) or ``ignore_index``.
        prediction: (H, W) integer; pixels with values outside [0, K) have no class and count as missed.
        num_classes: K.
        ignore_index: label of ignored pixels, outside [0, K).
        name: name of the image or file, for messages.

    Raises:
        ValueError: if the sizes differ, labels are not whole numbers, or a true label is neither a class nor ignored.
    """
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(
            f'{name}: the prediction is {prediction.shape} (height, width), expected {truth.shape} as the ground '
            'truth. Fix: predict at the size of the image file, and check that image and annotation belong together.'
        )
    for what, labels in (('ground truth', truth), ('prediction', prediction)):
        if labels.dtype.kind not in 'iub':
            raise ValueError(f'{name}: the {what} is {labels.dtype}, expected whole numbers. Fix: scores.argmax(0)')
    true_labels, pred_labels, areas = joint_areas(truth, prediction)
    ignored = true_labels == ignore_index
    _require_known(true_labels[~ignored], num_classes, ignore_index, name)
    is_class = (pred_labels >= 0) & (pred_labels < num_classes)
    right = ~ignored & (true_labels == pred_labels)
    intersection, true_area, pred_area, on_void = (
        np.bincount(labels[where], weights=areas[where], minlength=num_classes).astype(np.int64)
        for labels, where in (
            (true_labels, right),
            (true_labels, ~ignored),
            (pred_labels, is_class & ~ignored),
            (pred_labels, is_class & ignored),
        )
    )
    segments = _match_segments(intersection, true_area, pred_area, on_void)
    return LabelCounts(*segments, intersection, true_area, pred_area)


def pixel_quality(counts: LabelCounts) -> PixelQuality:
    """IoU and accuracy from counts of all images."""
    union = counts.true_area + counts.pred_area - counts.intersection
    iou, accuracy = _ratio(counts.intersection, union), _ratio(counts.intersection, counts.true_area)
    total = counts.true_area.sum()
    return PixelQuality(
        iou=iou,
        accuracy=accuracy,
        mean_iou=_mean(iou),
        mean_accuracy=_mean(accuracy),
        all_accuracy=float(_ratio(counts.intersection.sum(), total)),
        weighted_iou=float(_ratio(np.nansum(iou * counts.true_area), total)),
    )


def _match_segments(
    intersection: np.ndarray, true_area: np.ndarray, pred_area: np.ndarray, on_void: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, FN and IoU of each class of an image, (K,) each; a class is one segment."""
    whole = pred_area + on_void
    iou = segment_iou(intersection, whole, true_area, on_void)
    match = iou > 0.5
    mostly_ignored = on_void > pred_area
    return (
        match.astype(np.int64),
        ((whole > 0) & ~match & ~mostly_ignored).astype(np.int64),
        ((true_area > 0) & ~match).astype(np.int64),
        np.where(match, iou, 0.0),
    )


def _require_known(labels: np.ndarray, num_classes: int, ignore_index: int, name: str) -> None:
    wrong = np.unique(labels[(labels < 0) | (labels >= num_classes)]).tolist()
    if wrong:
        raise ValueError(
            f'{name}: found labels {wrong[:8]} in the ground truth, expected 0 to {num_classes - 1} ({num_classes} '
            f'classes) or {ignore_index} for ignored pixels. Fix: check the class list, reduce_zero_label and '
            'ignore_index of dataset and metric.'
        )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> float:
    """Mean of the numbers that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')
