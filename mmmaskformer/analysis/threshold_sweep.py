"""Panoptic quality over a grid of object and overlap thresholds, in one pass over the predictions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from mmmaskformer.analysis.nested import Assignment, nested_assignments
from mmmaskformer.analysis.stored import StoredPrediction
from mmmaskformer.analysis.tables import Cell
from mmmaskformer.core.inference.panoptic import join_segments, keep_enough
from mmmaskformer.core.inference.queries import confident_queries
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments, mean_quality
from mmmaskformer.core.segments import VOID, Segments

HEADER = [
    'object threshold',
    'overlap threshold',
    'PQ',
    'SQ',
    'RQ',
    'PQ things',
    'PQ stuff',
    'segments',
    'empty images',
]


class Best(NamedTuple):
    """The pair of thresholds with the highest PQ.

    Attributes:
        object_threshold: of class probabilities.
        overlap_threshold: of areas.
        pq: in [0, 1].
        empty_images: without a segment.
    """

    object_threshold: float
    overlap_threshold: float
    pq: float
    empty_images: int


class ThresholdSweep:
    """Counts segments for every pair of thresholds; results equal those of `panoptic_inference` with that pair.

    The network runs once. The masks of an image are resized and compared once for all object thresholds, see
    `nested_assignments`. Segments are matched once for each distinct set of queries that keep enough of their masks;
    most overlap thresholds share such a set.

    Args:
        object_thresholds: A values in [0, 1]; sorted and without duplicates after construction.
        overlap_thresholds: O values, likewise.
        is_thing: (K,) bool.

    Attributes:
        num_images: number of images added so far.
        empty_images: (A, O) int64, number of images without a segment.
        segments: (A, O) int64, number of segments.
        highest: list with the highest class probability of each image.
        most_confident: the same for the queries that do not predict "no object"; 0 if none of them is above the lowest
            object threshold.

    Raises:
        ValueError: if a list is empty or a threshold out of range.
    """

    def __init__(
        self, object_thresholds: Sequence[float], overlap_thresholds: Sequence[float], is_thing: Sequence[bool]
    ):
        self.object_thresholds = _checked('object', object_thresholds)
        self.overlap_thresholds = _checked('overlap', overlap_thresholds)
        self.is_thing = np.asarray(is_thing, bool)
        shape = len(self.object_thresholds), len(self.overlap_thresholds)
        self._counts = [[SegmentCounts.zeros(len(self.is_thing))] * shape[1] for _ in range(shape[0])]
        self.empty_images, self.segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.highest: list[float] = []
        self.most_confident: list[float] = []
        self.num_queries = 0

    @property
    def num_images(self) -> int:
        """Number of images added so far."""
        return len(self.highest)

    def add(self, prediction: StoredPrediction, truth: Segments[np.ndarray], name: str = 'image') -> None:
        """Count the segments of an image at every pair of thresholds.

        Args:
            prediction: stored at the lowest object threshold or below it.
            truth: of the image.
            name: of the image or file, for messages.

        Raises:
            ValueError: if prediction and ground truth do not match, as in `count_segments`.
        """
        self.highest.append(prediction.highest)
        scores = confident_queries(prediction.class_logits, self.object_thresholds[0])[2]
        self.most_confident.append(float(scores.max()) if len(scores) else 0.0)
        self.num_queries = prediction.num_queries
        found: dict[int, list[tuple[SegmentCounts, int]]] = {}
        falling = list(reversed(list(enumerate(self.object_thresholds))))
        assignments = nested_assignments(prediction, [threshold for _, threshold in falling])
        for (row, _), assignment in zip(falling, assignments, strict=True):
            number = len(assignment.labels)
            if number not in found:  # the sets are nested, so equal sizes mean equal sets
                found[number] = self._count(assignment, truth, name)
            for column, (counts, segments) in enumerate(found[number]):
                self._counts[row][column] = self._counts[row][column] + counts
                self.segments[row, column] += segments
                self.empty_images[row, column] += segments == 0

    def _count(self, assignment: Assignment, truth: Segments[np.ndarray], name: str) -> list[tuple[SegmentCounts, int]]:
        """Counts and number of segments of an image at every overlap threshold."""
        labels, scores, winner, own_area = assignment
        if winner is None:
            void: Segments[np.ndarray] = Segments(np.full(truth.ids.shape, VOID, np.int32), np.zeros(0, np.int64))
            counts = count_segments(truth, void, num_classes=len(self.is_thing), name=name)
            return [(counts, 0)] * len(self.overlap_thresholds)
        is_thing = torch.from_numpy(self.is_thing).to(labels.device)
        known: dict[bytes, tuple[SegmentCounts, int]] = {}
        found = []
        for overlap in self.overlap_thresholds:
            kept = keep_enough(winner, own_area, overlap).cpu().numpy().tobytes()
            if kept not in known:
                segments = join_segments(
                    winner, own_area, labels, scores, is_thing=is_thing, overlap_threshold=overlap
                ).compact()
                predicted = Segments(segments.ids.cpu().numpy(), segments.labels.cpu().numpy())
                counts = count_segments(truth, predicted, num_classes=len(self.is_thing), name=name)
                known[kept] = counts, len(segments.labels)
            found.append(known[kept])
        return found

    def pq(self) -> np.ndarray:
        """PQ at every pair, (A, O) in [0, 1]; NaN if there is no class."""
        return np.array([[mean_quality(counts).pq for counts in row] for row in self._counts])

    def best(self) -> Best:
        """The pair with the highest PQ; in a tie the one with the lowest thresholds.

        Raises:
            ValueError: if no image has a segment, in ground truth or prediction.
        """
        pq = self.pq()
        if np.isnan(pq).all():
            raise ValueError('thresholds: found no segments in ground truth or predictions; PQ is undefined')
        row, column = np.unravel_index(np.nanargmax(pq), pq.shape)
        return Best(
            self.object_thresholds[row],
            self.overlap_thresholds[column],
            float(pq[row, column]),
            int(self.empty_images[row, column]),
        )

    def table(self) -> tuple[list[str], list[list]]:
        """Header and a row for each pair; quality in percent."""
        rows = []
        for i, object_threshold in enumerate(self.object_thresholds):
            for j, overlap_threshold in enumerate(self.overlap_thresholds):
                counts = self._counts[i][j]
                whole, things, stuff = (
                    mean_quality(counts, chosen) for chosen in (None, self.is_thing, ~self.is_thing)
                )
                ratios = [100 * value for value in (*whole[:3], things.pq, stuff.pq)]
                numbers = int(self.segments[i, j]), int(self.empty_images[i, j])
                rows.append([object_threshold, overlap_threshold, *ratios, *numbers])
        return HEADER, rows

    def grid(self) -> tuple[list[str], list[list[Cell]]]:
        """PQ in percent as a short table: a row for each object threshold, a column for each overlap threshold."""
        header = ['PQ', *(f'overlap {threshold:g}' for threshold in self.overlap_thresholds)]
        values = zip(self.object_thresholds, (100 * self.pq()).tolist(), strict=True)
        return header, [[f'{threshold:g}', *row] for threshold, row in values]

    def explain_empty(self, object_threshold: float) -> list[str]:
        """Explain images without a confident query at an object threshold.

        Args:
            object_threshold: any value, not only a swept one.

        Returns:
            One line per reason; no line if every image has a confident query, as far as the predictions tell.
        """
        below = [highest for highest in self.highest if highest <= object_threshold]
        lines = []
        if below:
            highest = math.floor(100 * max(below)) / 100  # never rounded to what is above the threshold
            lines.append(
                f'object threshold {object_threshold:g}: in {len(below)} of {self.num_images} images none of the '
                f'{self.num_queries} queries is above it; highest {highest:.2f}'
            )
        pairs = zip(self.highest, self.most_confident, strict=True)
        unsure = sum(confident <= object_threshold < highest for highest, confident in pairs)
        if unsure and object_threshold >= self.object_thresholds[0]:
            lines.append(
                f'object threshold {object_threshold:g}: in {unsure} of {self.num_images} images every query above '
                'it predicts "no object", which no threshold changes'
            )
        return lines


def _checked(name: str, thresholds: Sequence[float]) -> list[float]:
    """Thresholds in ascending order, each once."""
    if not len(thresholds) or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f'{name} thresholds: found {list(thresholds)}, expected one or more numbers in [0, 1]')
    return sorted(set(thresholds))
