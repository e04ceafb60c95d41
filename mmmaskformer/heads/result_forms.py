"""Checks of the return value of a result's function, which may be user-defined, before it is packed."""

from typing import Any

import torch
from torch import Tensor

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.segments import Segments
from mmmaskformer.core.shapes import form_of, is_float, is_integer
from mmmaskformer.heads.results import INSTANCES, PANOPTIC, SEMANTIC, Classes, ResultKind


def require_form(kind: ResultKind, found: Any, size: tuple[int, int], classes: Classes) -> None:
    """Check the return value of a result's function for one image.

    Values are checked on a CPU only, since a GPU would have to synchronise.

    Args:
        kind: kind of the result; without a form, nothing is checked.
        found: return value of its function.
        size: (H, W) of the output.
        classes: classes of the model.

    Raises:
        ValueError: if it does not have the type, shapes and values of the form, see `PACKERS`.
    """
    if kind.form is not None:
        REQUIRE[kind.form](f"result '{kind.name}' (form {kind.form!r})", found, size, classes)


def _require_labels(where: str, found: Any, size: tuple[int, int], classes: Classes) -> None:
    _require_map(where, 'the result', found, size, f'labels, {classes.num_classes} for no class')
    _require_range(where, 'labels', found, 0, None)


def _require_segments(where: str, found: Any, size: tuple[int, int], classes: Classes) -> None:
    if not isinstance(found, Segments | QuerySegments):
        raise ValueError(f'{where}: found {form_of(found)}, expected Segments of mmmaskformer.core')
    _require_map(where, 'ids', found.ids, size, 'ids of segments, 0 for void')
    if isinstance(found, Segments) and found.listed_ids is not None:
        raise ValueError(f'{where}: found listed_ids, expected ids from 1 to S in the order of the table and no list')
    count = len(found.labels)
    for name, values, good, what in (
        ('labels', found.labels, is_integer, 'integer'),
        ('scores', found.scores, is_float, 'float'),
    ):
        if not isinstance(values, Tensor) or tuple(values.shape) != (count,) or not good(values):
            raise ValueError(f'{where}: {name} are {form_of(values)}, expected ({count},) {what}, one per segment')
    _require_range(where, 'labels', found.labels, 0, classes.num_classes - 1)
    _require_range(where, 'ids', found.ids, 0, count)
    if isinstance(found, Segments) and found.labels.device.type == 'cpu':
        seen = found.ids.flatten().long().bincount(minlength=count + 1)[1:] > 0
        _require_one_of_each_stuff(where, found.labels[seen & ~classes.is_thing[found.labels]])


def _require_one_of_each_stuff(where: str, stuff: Tensor) -> None:
    """Check labels (S,) of stuff segments with pixels: the host's encoding would join those of a class silently."""
    labels, counts = stuff.unique(return_counts=True)
    if (counts > 1).any():
        label = int(labels[counts.argmax()])
        raise ValueError(
            f'{where}: class {label} is stuff and has {int(counts.max())} segments, expected one for each class of '
            'stuff. Fix: join them'
        )


def _require_instances(where: str, found: Any, size: tuple[int, int], classes: Classes) -> None:
    if not isinstance(found, tuple) or len(found) != 4 or not all(isinstance(part, Tensor) for part in found):
        raise ValueError(f'{where}: found {form_of(found)}, expected labels, scores, masks and boxes of the instances')
    labels, scores, masks, boxes = found
    count = len(labels)
    for name, values, shape, good, what in (
        ('labels', labels, (count,), is_integer, 'integer'),
        ('scores', scores, (count,), is_float, 'float'),
        ('masks', masks, (count, *size), lambda x: x.dtype == torch.bool, 'bool at the size of the output'),
        ('boxes', boxes, (count, 4), is_float, 'float'),
    ):
        if tuple(values.shape) != shape or not good(values):
            raise ValueError(f'{where}: {name} are {form_of(values)}, expected {shape} {what}')
    _require_range(where, 'labels', labels, 0, classes.num_classes - 1)


def _require_map(where: str, name: str, found: Any, size: tuple[int, int], what: str) -> None:
    if not isinstance(found, Tensor) or tuple(found.shape) != tuple(size) or not is_integer(found):
        raise ValueError(
            f'{where}: {name} is {form_of(found)}, expected {tuple(size)} integer {what}. Fix: compute it from '
            '`masks.logits()`, which has the size of the output'
        )


def _require_range(where: str, name: str, values: Tensor, low: int, high: int | None) -> None:
    if values.device.type != 'cpu' or not values.numel():
        return
    least, most = (int(value) for value in values.aminmax())
    if least < low or (high is not None and most > high):
        limit = f'at least {low}' if high is None else f'{low} to {high}'
        raise ValueError(f'{where}: found {name} from {least} to {most}, expected {limit}')


REQUIRE = {SEMANTIC: _require_labels, PANOPTIC: _require_segments, INSTANCES: _require_instances}
"""The check of each form."""
