"""Counts of the classes that each query predicts over a dataset, and of the classes per image."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mmmaskformer.core.inference.queries import confident_queries


class QueryClasses:
    """Counts the images in which each query predicts each class.

    A query predicts a class in an image if that is its most probable one, "no object" included, and its probability is
    above a threshold. Whether its mask wins pixels plays no part.

    Args:
        num_queries: Q.
        num_classes: K.
        object_threshold: of class probabilities, in [0, 1].

    Attributes:
        counts: (Q, K) int64.
        num_images: added so far.

    Source: paper, section 4.3, the figure beside "Number of queries". It names no threshold; 0 counts every prediction.
    """

    def __init__(self, num_queries: int, num_classes: int, object_threshold: float = 0.0):
        self.counts = np.zeros((num_queries, num_classes), np.int64)
        self.object_threshold = object_threshold
        self.num_images = 0

    def add(self, class_logits: Tensor) -> None:
        """Count the predictions (Q, K + 1) of an image."""
        queries, labels, _ = confident_queries(class_logits, self.object_threshold)
        self.counts[queries.cpu().numpy(), labels.cpu().numpy()] += 1
        self.num_images += 1

    def unique(self) -> np.ndarray:
        """Number of different classes that each query predicted, (Q,) int64."""
        return (self.counts > 0).sum(1)

    def order(self) -> np.ndarray:
        """The queries (Q,) int64, sorted by the number of different classes, most first; ties in query order."""
        return np.argsort(-self.unique(), kind='stable')

    def table(self, classes: Sequence[str]) -> tuple[list[str], list[list]]:
        """A row for each query, in `order`: its index, its number of classes and of predictions, and the classes.

        Args:
            classes: K names.

        Returns:
            Header and rows. Each class is followed by its number of images, the most frequent first.
        """
        rows = []
        for query in self.order():
            counts = self.counts[query]
            frequent = [label for label in np.argsort(-counts, kind='stable') if counts[label]]
            names = '; '.join(f'{classes[label]} {counts[label]}' for label in frequent)
            rows.append([int(query), len(frequent), int(counts.sum()), names])
        return ['query', 'unique classes', 'predictions', 'classes (images)'], rows


class ClassesPerImage(NamedTuple):
    """Statistics of the number of different classes per image of a dataset.

    Attributes:
        histogram: (n,) int64, number of images with 0, 1, … n - 1 classes.
        images_of_class: (K,) int64, number of images with each class.
    """

    histogram: np.ndarray
    images_of_class: np.ndarray

    @classmethod
    def of(cls, labels_of_images: Iterable[tuple[str, Iterable[int]]], num_classes: int) -> 'ClassesPerImage':
        """Count.

        Args:
            labels_of_images: for each image its name, for messages, and the classes in it; a class may be listed more
                than once.
            num_classes: K.

        Raises:
            ValueError: if a label is outside the class list.
        """
        numbers, images_of_class = [], np.zeros(num_classes, np.int64)
        for name, labels in labels_of_images:
            present = sorted(set(labels))
            if present and not 0 <= present[0] <= present[-1] < num_classes:
                raise ValueError(
                    f'{name}: found the labels {present}, expected 0 to {num_classes - 1}. Fix: check the class list, '
                    'reduce_zero_label and ignore_index of the dataset'
                )
            images_of_class[present] += 1
            numbers.append(len(present))
        return cls(np.bincount(np.array(numbers, np.int64)), images_of_class)

    @property
    def num_images(self) -> int:
        """Of the dataset."""
        return int(self.histogram.sum())

    @property
    def mean(self) -> float:
        """Classes per image; NaN without images."""
        images = self.num_images
        return float(np.arange(len(self.histogram)) @ self.histogram / images) if images else float('nan')
