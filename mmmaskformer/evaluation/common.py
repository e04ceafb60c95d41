"""Helpers of both metrics: one result per image, ground truth of MMDetection's samples, tables."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmmaskformer.core.segments import Segments
from mmmaskformer.formats.panoptic_png import read_ids
from mmmaskformer.heads.results import kind_of_field, result_kinds


def image_key(sample: Mapping) -> tuple | None:
    """A key that identifies an image; None if the sample has neither id nor path."""
    key = (sample.get('img_id'), sample.get('img_path'))
    return None if key == (None, None) else key


def name_of(sample: Mapping) -> str:
    """The name of the file for messages."""
    return str(sample.get('seg_map_path') or sample.get('img_path') or 'data sample without a path')


def once_per_image(results: Iterable[tuple]) -> list[tuple]:
    """Drop results of images that a distributed sampler repeated to give every process equally many.

    Args:
        results: tuples that begin with `image_key`; all tuples with None are kept.
    """
    seen, kept = set(), []
    for result in results:
        if result[0] is None or result[0] not in seen:
            kept.append(result)
        seen.add(result[0])
    return kept


def require_form(metric: str, field: str, forms: Sequence[str]) -> None:
    """Check that a metric can read the result in a field.

    Args:
        metric: name of the metric, for the message.
        field: field of data samples; fields without a result of ours are not checked.
        forms: forms that the metric reads, see `mmmaskformer.heads.results.ResultKind`.

    Raises:
        ValueError: if the result in the field has another form.
    """
    kind = kind_of_field(field)
    if kind is not None and kind.form not in forms:
        able = [other.field for other in result_kinds().values() if other.form in forms]
        raise ValueError(
            f"{metric}.field: found '{field}', the result '{kind.name}' of form {kind.form!r}, which {metric} cannot "
            f'read. Expected one of {able}. Fix: set field to one of them.'
        )


def prediction_of(sample: Mapping, field: str, form: str) -> Mapping:
    """The result in a field of a data sample.

    Args:
        sample: data sample as a dict.
        field: the field.
        form: expected form, for the message.

    Raises:
        KeyError: if the sample lacks the field; names the entry of ``test_cfg`` that provides it.
    """
    if field not in sample:
        kind = kind_of_field(field) or next(kind for kind in result_kinds().values() if kind.form == form)
        raise KeyError(
            f"{name_of(sample)}: the data sample has no '{field}'. Fix: add this result to model.test_cfg, such as "
            f"test_cfg=dict({kind.name}=dict()), or set another field in the metric's config."
        )
    return sample[field]


def panoptic_truth(
    sample: Mapping, is_thing: Sequence[bool], backend_args: dict | None = None, listed_areas: bool = False
) -> Segments:
    """The ground truth of an image at the size of its file.

    Args:
        sample: data sample with ``seg_map_path`` (a panoptic PNG, id = R + 256 G + 65536 B) and ``segments_info``:
            dicts of ``id``, ``category`` (the label) and ``iscrowd``. MMDetection's own dataset omits ``iscrowd``;
            there a crowd is a segment of a thing class with ``is_thing`` False. The optional ``void_ids`` are the ids
            of void segments, whose classes are not in the class list.
        is_thing: K flags.
        backend_args: as in `mmengine.fileio.get`.
        listed_areas: use the ``area`` of the segments, if it is a number, instead of their pixels in the PNG.

    Raises:
        KeyError: if the sample has no ground truth.
        FileNotFoundError, ValueError: if the PNG cannot be read.
    """
    missing = [key for key in ('seg_map_path', 'segments_info') if sample.get(key) is None]
    if missing:
        raise KeyError(
            f'{name_of(sample)}: the data sample has no {" and no ".join(missing)}. Fix: let the last transform of the '
            "test pipeline pack it (type='mmmaskformer.PackPanopticInputs'); for a test set without annotations use "
            'format_only=True.'
        )
    segments = sample['segments_info']
    labels = np.array([segment['category'] for segment in segments], np.int64)
    ids = read_ids(sample['seg_map_path'], backend_args)
    return Segments(
        ids,
        labels,
        void_ids=np.array(sample.get('void_ids') or [], np.int64),
        listed_ids=np.array([segment['id'] for segment in segments], np.int64),
        is_crowd=np.array([_is_crowd(segment, is_thing) for segment in segments], bool),
        areas=_listed_areas(segments, ids) if listed_areas else None,
    )


def _listed_areas(segments: Sequence[Mapping], ids: np.ndarray) -> np.ndarray:
    """Areas of the segments, (M,) int64: listed ones, else those in the map."""
    pixels = dict(zip(*(found.tolist() for found in np.unique(ids, return_counts=True)), strict=True))
    listed = [(segment.get('area'), segment['id']) for segment in segments]
    return np.array([pixels.get(number, 0) if area is None else round(area) for area, number in listed], np.int64)


def _is_crowd(segment: Mapping, is_thing: Sequence[bool]) -> bool:
    if 'iscrowd' in segment:
        return bool(segment['iscrowd'])
    label = segment['category']
    return 0 <= label < len(is_thing) and bool(is_thing[label]) and not segment['is_thing']


def percent(value: float) -> str:
    """Format a ratio in percent; '-' for NaN."""
    return '-' if math.isnan(value) else f'{100 * value:.2f}'


def format_table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Format a table as text: the first column left-aligned, the others right-aligned.

    Args:
        header: titles of the columns.
        rows: one cell for each column.
    """
    table = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]
    return '\n'.join([lines[0], '-' * len(lines[0]), *lines[1:]])
