"""The segments of one image: one form from inference to metrics, pictures and files."""

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

VOID = 0
"""Id of pixels that belong to no segment."""

Array = TypeVar('Array', 'Tensor', np.ndarray)
"""Inference returns tensors; metrics, pictures and files use numpy arrays."""


@dataclass(frozen=True, eq=False)
class Segments(Generic[Array]):
    """A map of ids and a table of segments, which do not overlap.

    Attributes:
        ids: (H, W) integer, the id of the segment that each pixel belongs to, or `VOID`.
        labels: (S,) integer in [0, K), class of each segment.
        scores: (S,) float, probability of the class; that of the first query if several of a stuff class are joined.
            None for ground truth.
        listed_ids: (S,) integer, positive and unique: the id of each segment in the map. None if the ids are 1 to S, in
            the order of the table.
        void_ids: (V,) integer, further ids in the map that mean void, such as those of segments whose class is not in
            the class list; None if there are none.
        is_crowd: (S,) bool, groups of things without separate instances; None if there are none.
        areas: (S,) integer, in pixels, if given by the ground truth; None to count them in ``ids``.
    """

    ids: Array
    labels: Array
    scores: Array | None = None
    _: KW_ONLY
    listed_ids: Array | None = None
    void_ids: Array | None = None
    is_crowd: Array | None = None
    areas: Array | None = None
