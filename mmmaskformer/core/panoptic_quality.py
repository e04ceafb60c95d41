"""Panoptic quality: from two maps of segments to counts per class, and from counts to PQ, SQ and RQ."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import numpy as np

VOID = 0
"""Id of pixels that belong to no segment."""


class PanopticMap(NamedTuple):
    """The segments of one image, as the ground truth or a prediction gives them.

    Attributes:
        ids: (H, W) integer, `VOID` or the id of the segment that the pixel belongs to.
        segment_ids: (M,) integer, above 0, each one once.
        labels: (M,) integer in [0, K), the class of each segment.
        is_crowd: (M,) bool, groups of things whose members are not told apart; None for no crowds.
        areas: (M,) integer, in pixels, if they are known from elsewhere; None to count them in ``ids``.
    """

    ids: np.ndarray
    segment_ids: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray | None = None
    areas: np.ndarray | None = None


@dataclass(frozen=True)
class SegmentCounts:
    """What PQ needs to know of any number of images; counts of several sets of images are added with ``+``.

    Attributes:
        tp: (K,) int64, matched pairs of segments per class.
        fp: (K,) int64, predicted segments without a match, those on void and crowds left out.
        fn: (K,) int64, true segments without a match, crowds left out.
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
        return type(self)(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def rows(self) -> np.ndarray:
        """A small form to keep per image: (c, 1 + fields) float64, the label and the counts of c classes present."""
        table = np.column_stack(astuple(self)).astype(np.float64)
        present = np.flatnonzero(table.any(axis=1))
        return np.column_stack([present, table[present]])

    @classmethod
    def from_rows(cls, rows: Iterable[np.ndarray], num_classes: int) -> 'SegmentCounts':
        """The sum of the small forms of any number of images.

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
    truth: PanopticMap, prediction: PanopticMap, *, num_classes: int, name: str = 'image'
) -> SegmentCounts:
    """Match the segments of one image and count.

    A pair matches when the classes agree, the true segment is no crowd and IoU > 0.5; predicted pixels on void are
    taken out of the union. An unmatched prediction of which more than half lies on void or on the crowd of its class
    does not count. If there are several crowds of a class, the one listed last counts, as in the official tool. A true
    segment without any pixel counts as missed.

    Differs from the official tool: a true id that is not listed is an error here, and no ids of 0 are allowed.

    Source: Kirillov et al., Panoptic Segmentation, section 4; the rules of COCO's panoptic evaluation.

    Args:
        truth: the ground truth. Its ``areas`` go into the IoU as they are.
        prediction: of the same size. Its ``is_crowd`` and ``areas`` are not used.
        num_classes: K.
        name: of the image or file, for messages.

    Returns:
        The counts, with one match at most for each segment.

    Raises:
        ValueError: if the sizes differ; if an id of a map is not listed, or listed twice, or 0; if a label is outside
            the class list; if a predicted segment has no pixel; if a true area is smaller than an intersection.
    """
    _require_valid(truth, num_classes, f'{name}: ground truth')
    _require_valid(prediction, num_classes, f'{name}: prediction')
    overlaps = _overlaps(truth, prediction, name)
    pred_areas = overlaps.sum(axis=0)[1:]
    _require_pixels(prediction, pred_areas, name)
    true_areas = overlaps.sum(axis=1)[1:] if truth.areas is None else truth.areas
    inside, on_void = overlaps[1:, 1:], overlaps[0, 1:]

    iou = segment_iou(inside, pred_areas, np.asarray(true_areas)[:, None], on_void)
    _require_iou(iou, truth, name)
    is_crowd = np.zeros(len(truth.labels), bool) if truth.is_crowd is None else np.asarray(truth.is_crowd, bool)
    same_class = np.asarray(truth.labels)[:, None] == np.asarray(prediction.labels)
    match = (iou > 0.5) & same_class & ~is_crowd[:, None]

    on_crowd = _pixels_on_crowd(truth, is_crowd, inside, prediction)
    found, used = match.any(axis=1), match.any(axis=0)
    ignored = (on_void + on_crowd) / pred_areas > 0.5
    true_index = np.nonzero(match)[0]
    return SegmentCounts(
        tp=_per_class(truth.labels, true_index, num_classes),
        fp=_per_class(prediction.labels, ~used & ~ignored, num_classes),
        fn=_per_class(truth.labels, ~found & ~is_crowd, num_classes),
        iou_sum=np.bincount(np.asarray(truth.labels)[true_index], weights=iou[match], minlength=num_classes),
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
        counts: of all images.
        chosen: (K,) bool, the classes to take, such as the things; None for all.
    """
    per_class = np.stack(quality(counts))
    present = ~np.isnan(per_class[0])
    if chosen is not None:
        present &= np.asarray(chosen, bool)
    if not present.any():
        return MeanQuality(np.nan, np.nan, np.nan, 0)
    return MeanQuality(*per_class[:, present].mean(axis=1).tolist(), int(present.sum()))


def joint_runs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stretches of pixels, row by row, over which both maps stay the same.

    A map of segments has some thousand of them where it has some hundred thousand pixels, so that whatever counts
    pixels is cheap on runs.

    Args:
        first: (H, W) integer.
        second: (H, W) integer.

    Returns:
        Values of the first map, of the second, and lengths in pixels: each (R,) int64.
    """
    first, second = first.ravel(), second.ravel()
    if not first.size:
        return (np.zeros(0, np.int64),) * 3
    changes = first[1:] != first[:-1]
    changes |= second[1:] != second[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return first[starts].astype(np.int64), second[starts].astype(np.int64), np.diff(starts, append=first.size)


def segment_iou(
    intersection: np.ndarray, pred_area: np.ndarray, true_area: np.ndarray, on_void: np.ndarray
) -> np.ndarray:
    """IoU with the predicted pixels on void left out of the union; 0 where nothing intersects.

    Args:
        intersection: in pixels, of any shape.
        pred_area: of the predicted segments, void included.
        true_area: of the true segments.
        on_void: predicted pixels on void.

    Returns:
        float64 of the broadcast shape.
    """
    union = pred_area + true_area - intersection - on_void
    # A union of 0 beside an intersection needs a wrong area; infinity then fails the check of the caller.
    iou = np.where(intersection > 0, np.inf, 0.0)
    return np.divide(intersection, union, out=iou, where=(intersection > 0) & (union > 0))


def labels_of_pixels(panoptic: PanopticMap, ignore_index: int, *, num_classes: int, name: str = 'image') -> np.ndarray:
    """The class of every pixel.

    Args:
        panoptic: segments of an image.
        ignore_index: what void and crowds become.
        num_classes: K.
        name: of the image or file, for messages.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: if ids or labels do not fit, as in `count_segments`.
    """
    _require_valid(panoptic, num_classes, name)
    ids, _, lengths = joint_runs(panoptic.ids, panoptic.ids)
    labels = np.asarray(panoptic.labels, np.int64)
    if panoptic.is_crowd is not None:
        labels = np.where(panoptic.is_crowd, ignore_index, labels)
    table = np.concatenate([[ignore_index], labels])
    return np.repeat(table[_positions(ids, panoptic, name)], lengths).reshape(panoptic.ids.shape)


def _overlaps(truth: PanopticMap, prediction: PanopticMap, name: str) -> np.ndarray:
    """Pixels that each true segment (row) shares with each predicted one (column), (1 + M, 1 + S); void comes first."""
    if truth.ids.shape != prediction.ids.shape:
        raise ValueError(
            f'{name}: the prediction is {prediction.ids.shape} (height, width), expected {truth.ids.shape} as the '
            'ground truth. Fix: predict at the size of the image file (rescale=True), and check that image and '
            'annotation belong together.'
        )
    true_ids, pred_ids, lengths = joint_runs(truth.ids, prediction.ids)
    rows = _positions(true_ids, truth, f'{name}: ground truth')
    columns = _positions(pred_ids, prediction, f'{name}: prediction')
    shape = (1 + len(truth.segment_ids), 1 + len(prediction.segment_ids))
    pixels = np.bincount(rows * shape[1] + columns, weights=lengths, minlength=shape[0] * shape[1])
    return pixels.reshape(shape)


def _positions(ids: np.ndarray, panoptic: PanopticMap, what: str) -> np.ndarray:
    """Where the ids (R,) are listed: 0 for void, 1 + position otherwise."""
    listed = np.concatenate([[VOID], np.asarray(panoptic.segment_ids, np.int64)])
    order = np.argsort(listed)
    places = np.searchsorted(listed, ids, sorter=order)
    positions = order[np.minimum(places, len(listed) - 1)]
    unknown = np.unique(ids[listed[positions] != ids])
    if len(unknown):
        raise ValueError(
            f'{what} has pixels of segment ids {_first(unknown)} that segments_info does not list; expected '
            f'{VOID} (void) or one of {_first(listed[1:])}. Fix: let map and list come from one source; a map of '
            'colours must be stored without loss, as PNG.'
        )
    return positions


def _per_class(labels: np.ndarray, chosen: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(np.asarray(labels)[chosen], minlength=num_classes)


def _pixels_on_crowd(
    truth: PanopticMap, is_crowd: np.ndarray, inside: np.ndarray, prediction: PanopticMap
) -> np.ndarray:
    """Pixels of each predicted segment on the crowd of its own class, (S,)."""
    if not is_crowd.any():
        return np.zeros(len(prediction.labels))
    crowds = np.flatnonzero(is_crowd)
    listed_last = crowds[::-1]
    crowd_labels, first = np.unique(np.asarray(truth.labels)[listed_last], return_index=True)
    same_class = crowd_labels[:, None] == np.asarray(prediction.labels)
    return (inside[listed_last[first]] * same_class).sum(axis=0)


def _require_valid(panoptic: PanopticMap, num_classes: int, what: str) -> None:
    """Check what can be checked without looking at the pixels."""
    if panoptic.ids.ndim != 2 or not np.issubdtype(panoptic.ids.dtype, np.integer):
        raise ValueError(
            f'{what}: found a map of shape {panoptic.ids.shape} and {panoptic.ids.dtype}, expected (height, width) of '
            'integers'
        )
    segment_ids, labels = np.asarray(panoptic.segment_ids), np.asarray(panoptic.labels)
    for key, values in (('labels', labels), ('is_crowd', panoptic.is_crowd), ('areas', panoptic.areas)):
        if values is not None and np.shape(values) != segment_ids.shape:
            raise ValueError(f'{what}: found {np.shape(values)} {key}, expected one for each of the {segment_ids.shape} ids')
    unknown = (labels < 0) | (labels >= num_classes)
    if unknown.any():
        raise ValueError(
            f'{what}: segments {_first(segment_ids[unknown])} have unknown categories {_first(labels[unknown])}, '
            f'expected labels from 0 to {num_classes - 1}. Fix: check the class list of the dataset.'
        )
    if (segment_ids <= VOID).any():
        raise ValueError(f'{what}: found segment id {segment_ids.min()}, expected ids above {VOID}, which is void')
    values, counts = np.unique(segment_ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f'{what}: segment ids {_first(values[counts > 1])} are listed more than once in segments_info')


def _require_pixels(prediction: PanopticMap, areas: np.ndarray, name: str) -> None:
    if not areas.all():
        missing = np.asarray(prediction.segment_ids)[areas == 0]
        raise ValueError(
            f'{name}: prediction lists segment ids {_first(missing)} in segments_info that no pixel has; expected at '
            'least one pixel each. Fix: leave such segments out.'
        )


def _require_iou(iou: np.ndarray, truth: PanopticMap, name: str) -> None:
    """The IoU exceeds 1 only if an area from elsewhere is smaller than the segment is in the map."""
    wrong = (iou > 1).any(axis=1)
    if wrong.any():
        ids, areas = np.asarray(truth.segment_ids)[wrong], np.asarray(truth.areas)[wrong]
        raise ValueError(
            f'{name}: ground truth segments {_first(ids)} have the areas {_first(areas)} in segments_info, fewer pixels '
            'than the map has. Fix: write the areas that the map has.'
        )


def _first(values: np.ndarray, limit: int = 8) -> str:
    """At most ``limit`` values, and how many more there are."""
    text = ', '.join(str(value) for value in values[:limit])
    return f'[{text}]' if len(values) <= limit else f'[{text}, … {len(values) - limit} more]'
