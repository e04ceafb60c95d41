"""Panoptic quality: from two maps of segments to counts per class, and from counts to PQ, SQ and RQ."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from mmmaskformer.core.quality.panoptic_map import (
    CheckedMap,
    checked_map,
    joint_areas,
    segment_positions,
    shorten,
)
from mmmaskformer.core.segments import Segments


@dataclass(frozen=True)
class SegmentCounts:
    """The counts for PQ over any number of images; counts of several sets of images are added with ``+``.

    Attributes:
        tp: (K,) int64, matched pairs of segments per class.
        fp: (K,) int64, predicted segments without a match, except those on void and crowds.
        fn: (K,) int64, true segments without a match, except crowds.
        iou_sum: (K,) float64, sum of the IoUs of the matched pairs.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    iou_sum: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> 'SegmentCounts':
        """Counts of no image."""
        return cls.from_rows([], num_classes)

    def __add__(self, other: 'SegmentCounts') -> 'SegmentCounts':
        """Counts of the images of both."""
        return type(self)(*(mine + theirs for mine, theirs in zip(self._columns(), other._columns(), strict=True)))

    def rows(self) -> np.ndarray:
        """A compact form to store per image: (c, 1 + fields) float64, label and counts of the c classes present."""
        table = np.column_stack(self._columns()).astype(np.float64)
        present = np.flatnonzero(table.any(axis=1))
        return np.column_stack([present, table[present]])

    @classmethod
    def from_rows(cls, rows: Iterable[np.ndarray], num_classes: int) -> 'SegmentCounts':
        """The sum of the compact forms of any number of images.

        Args:
            rows: results of `rows`.
            num_classes: K.
        """
        names = [field.name for field in fields(cls)]
        table = np.zeros((num_classes, len(names)))
        for row in rows:
            table[row[:, 0].astype(np.int64)] += row[:, 1:]
        dtypes = [np.float64 if name == 'iou_sum' else np.int64 for name in names]
        return cls(*(column.astype(dtype) for column, dtype in zip(table.T, dtypes, strict=True)))

    def _columns(self) -> list[np.ndarray]:
        return [getattr(self, field.name) for field in fields(self)]


class Quality(NamedTuple):
    """PQ = SQ * RQ per class, each (K,) float64 in [0, 1]; NaN for a class with neither segments nor predictions."""

    pq: np.ndarray
    sq: np.ndarray
    rq: np.ndarray


class MeanQuality(NamedTuple):
    """Means over the ``n`` classes that have segments or predictions, in [0, 1]; NaN if there are none."""

    pq: float
    sq: float
    rq: float
    n: int


def count_segments(
    truth: Segments[np.ndarray], prediction: Segments[np.ndarray], *, num_classes: int, name: str = 'image'
) -> SegmentCounts:
    """Match the segments of one image and count.

    A pair matches if the classes agree, the true segment is not a crowd and IoU > 0.5; predicted pixels on void are
    excluded from the union. An unmatched prediction with more than half of its pixels on void or on the crowd of its
    class does not count. If a class has several crowds, the last one in the list counts, as in the official tool. A
    true segment without pixels counts as missed.

    Differs from the official tool: a true id that is not listed and a listed id of 0 are errors.

    Source: Kirillov et al., Panoptic Segmentation, section 4; the rules of COCO's panoptic evaluation.

    Args:
        truth: the ground truth. Its ``areas`` are used in the IoU.
        prediction: the prediction, of the same size. Its ``is_crowd`` and ``areas`` are not used.
        num_classes: K.
        name: name of the image or file, for messages.

    Returns:
        The counts, with one match at most for each segment.

    Raises:
        ValueError: if the sizes differ; if an id in a map is not listed; if a listed id is repeated or not positive; if
            a label is outside the class list; if a predicted segment has no pixel; if a true area is smaller than an
            intersection.
    """
    true = checked_map(truth, num_classes, f'{name}: ground truth')
    predicted = checked_map(prediction, num_classes, f'{name}: prediction')
    true_ids, pred_ids, areas = _areas(true.ids, predicted.ids, name)
    rows = segment_positions(true_ids, true, f'{name}: ground truth')
    columns = segment_positions(pred_ids, predicted, f'{name}: prediction')
    overlaps = _Overlaps.of(rows, columns, areas, len(true.labels), len(predicted.labels))
    _require_pixels(predicted, overlaps, name)
    return _count(true, predicted.labels, overlaps, num_classes, name)


def _count(
    truth: CheckedMap, pred_labels: np.ndarray, overlaps: '_Overlaps', num_classes: int, name: str
) -> SegmentCounts:
    """Match and count, given the pixels that segments share."""
    true_idx, pred_idx, pixels = overlaps.true_idx, overlaps.pred_idx, overlaps.pixels
    true_areas = overlaps.true_areas if truth.areas is None else truth.areas
    iou = segment_iou(pixels, overlaps.pred_areas[pred_idx], true_areas[true_idx], overlaps.on_void[pred_idx])
    _require_iou(np.unique(true_idx[iou > 1]), truth.listed_ids, true_areas, name)
    match = (iou > 0.5) & (truth.labels[true_idx] == pred_labels[pred_idx]) & ~truth.is_crowd[true_idx]
    missed, unused = ~truth.is_crowd, np.ones(len(pred_labels), bool)
    missed[true_idx[match]] = unused[pred_idx[match]] = False
    on_crowd = _pixels_on_crowd(truth, overlaps, pred_labels, num_classes)
    ignored = (overlaps.on_void + on_crowd) / overlaps.pred_areas > 0.5
    matched_labels = truth.labels[true_idx[match]]
    return SegmentCounts(
        tp=np.bincount(matched_labels, minlength=num_classes),
        fp=np.bincount(pred_labels[unused & ~ignored], minlength=num_classes),
        fn=np.bincount(truth.labels[missed], minlength=num_classes),
        iou_sum=np.bincount(matched_labels, weights=iou[match], minlength=num_classes),
    )


def quality(counts: SegmentCounts) -> Quality:
    """PQ, SQ and RQ of each class."""
    size = counts.tp + counts.fp / 2 + counts.fn / 2
    nan = np.full(len(size), np.nan)
    pq = np.divide(counts.iou_sum, size, out=nan.copy(), where=size > 0)
    rq = np.divide(counts.tp, size, out=nan.copy(), where=size > 0)
    sq = np.divide(counts.iou_sum, counts.tp, out=np.where(size > 0, 0.0, nan), where=counts.tp > 0)
    return Quality(pq, sq, rq)


def mean_quality(counts: SegmentCounts, chosen: np.ndarray | None = None) -> MeanQuality:
    """Means over the classes that are present.

    Args:
        counts: counts of all images.
        chosen: (K,) bool, the classes to include, such as the things; None for all.
    """
    per_class = np.stack(quality(counts))
    present = ~np.isnan(per_class[0])
    if chosen is not None:
        present &= np.asarray(chosen, bool)
    if not present.any():
        return MeanQuality(np.nan, np.nan, np.nan, 0)
    pq, sq, rq = per_class[:, present].mean(axis=1).tolist()
    return MeanQuality(pq, sq, rq, int(present.sum()))


def segment_iou(
    intersection: np.ndarray, pred_area: np.ndarray, true_area: np.ndarray, on_void: np.ndarray
) -> np.ndarray:
    """IoU with the predicted pixels on void excluded from the union; 0 for an empty intersection.

    Args:
        intersection: areas of the intersections in pixels, of any shape.
        pred_area: areas of the predicted segments, void included.
        true_area: areas of the true segments.
        on_void: predicted pixels on void.

    Returns:
        float64 of the broadcast shape.
    """
    union = pred_area + true_area - intersection - on_void
    # A union of 0 with an intersection means a wrong area; infinity then fails the check of the caller.
    iou = np.where(intersection > 0, np.inf, 0.0)
    return np.divide(intersection, union, out=iou, where=(intersection > 0) & (union > 0))


def _areas(truth: np.ndarray, prediction: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`joint_areas` of maps of equal size."""
    if truth.shape != prediction.shape:
        raise ValueError(
            f'{name}: the prediction is {prediction.shape} (height, width), expected {truth.shape} as the ground '
            'truth. Fix: predict at the size of the image file (rescale=True), and check that image and annotation '
            'belong together.'
        )
    return joint_areas(truth, prediction)


class _Overlaps(NamedTuple):
    """The pairs of a true and a predicted segment that share pixels; of M x S pairs, few do.

    Attributes:
        true_idx: (N,) int64 in [0, M), ascending.
        pred_idx: (N,) int64 in [0, S), ascending for each true segment.
        pixels: (N,) float64, shared by the pair.
        on_void: (S,) float64, pixels of the predicted segments on void.
        true_areas: (M,) float64, pixels of the true segments.
        pred_areas: (S,) float64, pixels of the predicted segments, void included.
    """

    true_idx: np.ndarray
    pred_idx: np.ndarray
    pixels: np.ndarray
    on_void: np.ndarray
    true_areas: np.ndarray
    pred_areas: np.ndarray

    @classmethod
    def of(
        cls, rows: np.ndarray, columns: np.ndarray, areas: np.ndarray, num_true: int, num_predicted: int
    ) -> '_Overlaps':
        """Add up groups of pixels, of which a pair may have several.

        Args:
            rows: (P,) int64, number of the true segment, 0 for void.
            columns: (P,) int64, number of the predicted segment, 0 for void.
            areas: (P,) int64, in pixels.
            num_true: M.
            num_predicted: S.
        """
        pairs, group = np.unique(rows * (1 + num_predicted) + columns, return_inverse=True)
        pixels = np.bincount(group, weights=areas, minlength=len(pairs))
        rows, columns = np.divmod(pairs, 1 + num_predicted)
        inside, void = (rows > 0) & (columns > 0), rows == 0
        return cls(
            rows[inside] - 1,
            columns[inside] - 1,
            pixels[inside],
            np.bincount(columns[void], weights=pixels[void], minlength=1 + num_predicted)[1:],
            np.bincount(rows, weights=pixels, minlength=1 + num_true)[1:],
            np.bincount(columns, weights=pixels, minlength=1 + num_predicted)[1:],
        )


def _pixels_on_crowd(truth: CheckedMap, overlaps: _Overlaps, pred_labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each predicted segment on the crowd of its own class, (S,)."""
    crowds = np.flatnonzero(truth.is_crowd)
    if not crowds.size:
        return np.zeros(len(pred_labels))
    crowd_of_class = np.full(num_classes, -1)
    crowd_of_class[truth.labels[crowds]] = crowds  # of several crowds of a class, the last one counts
    on_crowd = overlaps.true_idx == crowd_of_class[pred_labels[overlaps.pred_idx]]
    pred_idx, pixels = overlaps.pred_idx[on_crowd], overlaps.pixels[on_crowd]
    return np.bincount(pred_idx, weights=pixels, minlength=len(pred_labels))


def _require_pixels(prediction: CheckedMap, overlaps: _Overlaps, name: str) -> None:
    seen = overlaps.pred_areas > 0
    if not seen.all():
        missing = prediction.listed_ids[~seen]
        raise ValueError(
            f'{name}: prediction lists segment ids {shorten(missing)} in segments_info that no pixel has; expected at '
            'least one pixel each. Fix: remove such segments.'
        )


def _require_iou(wrong: np.ndarray, listed_ids: np.ndarray, true_areas: np.ndarray, name: str) -> None:
    """Raise if an IoU exceeds 1, which happens only if a listed area is smaller than the segment in the map.

    Args:
        wrong: positions of the true segments with such an IoU.
        listed_ids: (M,) int64.
        true_areas: (M,) in pixels.
        name: name of the image or file, for messages.
    """
    if wrong.size:
        ids, areas = listed_ids[wrong], true_areas[wrong]
        raise ValueError(
            f'{name}: ground truth segments {shorten(ids)} have the areas {shorten(areas)} in segments_info, fewer '
            'pixels than in the map. Fix: correct the areas.'
        )
