"""Random pairs of panoptic maps, the official tool's counts, and a slow count by definition."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from panopticapi.evaluation import PQStat, pq_compute_single_core
from PIL import Image

from mmmaskformer.core.segments import Segments

Pair = tuple[Segments, Segments]


def random_pair(rng: np.random.Generator, num_classes: int = 6, size: tuple[int, int] = (18, 26)) -> Pair:
    """Ground truth with void and crowds, and a prediction that agrees with it in part.

    Ids are random 24-bit numbers, some true segments have no pixels, and the last class never occurs.
    """
    truth = _random_map(rng, num_classes - 1, size)
    is_crowd = rng.random(len(truth.labels)) < 0.25
    areas = np.array([np.count_nonzero(truth.ids == one) for one in truth.listed_ids])
    truth = replace(truth, is_crowd=is_crowd, areas=areas)
    other = _random_map(rng, num_classes - 1, size)
    ids, segment_ids, labels = other.ids.copy(), list(other.listed_ids), list(other.labels)
    for true_id, label in zip(truth.listed_ids, truth.labels, strict=True):
        if rng.random() < 0.6:  # keep most of the segment under another id, sometimes as another class
            ids[(truth.ids == true_id) & (rng.random(size) < rng.choice([0.5, 0.8, 1.0]))] = true_id ^ 1 << 23
            segment_ids.append(true_id ^ 1 << 23)
            labels.append(label if rng.random() < 0.8 else rng.integers(num_classes - 1))
    return truth, _only_visible(Segments(ids, np.array(labels), listed_ids=np.array(segment_ids)))


def _random_map(rng: np.random.Generator, num_classes: int, size: tuple[int, int]) -> Segments:
    """Rectangles on void; later ones cover earlier ones."""
    ids = np.zeros(size, np.uint32)
    segment_ids = rng.choice(2**23 - 1, rng.integers(1, 9), replace=False) + 1
    for segment_id in segment_ids:
        top, left = rng.integers(0, size[0] - 2), rng.integers(0, size[1] - 2)
        ids[top : top + rng.integers(2, size[0]), left : left + rng.integers(2, size[1])] = segment_id
    return Segments(ids, rng.integers(0, num_classes, len(segment_ids)), listed_ids=segment_ids)


def _only_visible(panoptic: Segments) -> Segments:
    """Only the segments that have pixels."""
    seen = np.isin(panoptic.listed_ids, panoptic.ids)
    return Segments(panoptic.ids, panoptic.labels[seen], listed_ids=panoptic.listed_ids[seen])


def official_stat(pairs: list[Pair], num_classes: int, folder: Path) -> PQStat:
    """The counts of panopticapi for files that are written into ``folder``; category id = label + 1."""
    entries = []
    for index, pair in enumerate(pairs):
        for part, panoptic in zip(('truth', 'result'), pair, strict=True):
            (folder / part).mkdir(exist_ok=True)
            colours = np.stack([panoptic.ids >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(folder / part / f'{index}.png')
        entries.append(
            tuple({'image_id': index, 'file_name': f'{index}.png', 'segments_info': describe(one)} for one in pair)
        )
    return pq_compute_single_core(0, entries, str(folder / 'truth'), str(folder / 'result'), categories(num_classes))


def describe(panoptic: Segments) -> list[dict]:
    """``segments_info`` of a map, with category id = label + 1, and crowds and areas if present."""
    rows = []
    for index, (segment_id, label) in enumerate(zip(panoptic.listed_ids, panoptic.labels, strict=True)):
        row = {'id': int(segment_id), 'category_id': int(label) + 1}
        if panoptic.is_crowd is not None:
            row |= {'iscrowd': int(panoptic.is_crowd[index]), 'area': int(panoptic.areas[index])}
        rows.append(row)
    return rows


def categories(num_classes: int) -> dict[int, dict]:
    """Every second class is a thing."""
    return {label + 1: {'id': label + 1, 'isthing': label % 2} for label in range(num_classes)}


def counts_by_definition(truth: Segments, prediction: Segments, num_classes: int) -> np.ndarray:
    """TP, FP, FN and sum of IoUs per class, (K, 4), from sets of pixels, pair by pair."""
    counts = np.zeros((num_classes, 4))
    true_pixels = [set(np.flatnonzero(truth.ids == one)) for one in truth.listed_ids]
    pred_pixels = [set(np.flatnonzero(prediction.ids == one)) for one in prediction.listed_ids]
    void = set(np.flatnonzero(truth.ids == 0))
    rows = list(zip(truth.labels, true_pixels, truth.is_crowd, strict=True))
    crowds = {label: pixels for label, pixels, crowd in rows if crowd}
    matched = set()
    for label, mine, crowd in rows:
        partner = None
        for index, theirs in enumerate(pred_pixels):
            iou = len(mine & theirs) / len((mine | theirs) - (theirs & void)) if mine & theirs else 0
            if iou > 0.5 and prediction.labels[index] == label and not crowd:
                partner = index
                counts[label] += (1, 0, 0, iou)
        matched.add(partner)
        counts[label, 2] += partner is None and not crowd
    for index, (label, theirs) in enumerate(zip(prediction.labels, pred_pixels, strict=True)):
        outside = len(theirs & void) + len(theirs & crowds.get(label, set()))
        counts[label, 1] += index not in matched and outside <= len(theirs) / 2
    return counts
