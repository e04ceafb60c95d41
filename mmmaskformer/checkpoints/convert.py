"""Conversion of all weights of a model from one package to another, with the tables of names."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.made import NO_OBJECT_WEIGHT, make
from mmmaskformer.checkpoints.names import KINDS, Row, find_row
from mmmaskformer.checkpoints.neutral import (
    SHOWN,
    ConversionError,
    Neutral,
    Weights,
    count_levels,
    read_neutral,
    spelt_as_in_table,
)
from mmmaskformer.checkpoints.sizes import COUNTER, Architecture, OtherBackbone
from mmmaskformer.formats.messages import some

CLASS_LAYERS = {
    'mask': ('class_embed.weight', 'class_embed.bias'),
    'per pixel': ('pixel_classifier.weight', 'pixel_classifier.bias'),
    'per pixel plus': ('query_embed.weight',),  # query k computes the logits of class k
}
"""Weights with a row for each class, by kind of head."""

COUNTER_REASON = 'a counter of training batches that evaluation does not read'


class Conversion(NamedTuple):
    """The weights of a model in another package.

    Attributes:
        weights: weights by name in the target.
        dropped: names in the source that were not used, each with the reason.
        made: names in the target that have no weight in the source, each with the reason.
        architecture: architecture of the model.
    """

    weights: Weights
    dropped: dict[str, str]
    made: dict[str, str]
    architecture: Architecture


def convert(
    weights: Mapping[str, Tensor],
    source: str,
    target: str,
    *,
    permutation: list[int] | None = None,
    no_object_weight: float = NO_OBJECT_WEIGHT,
) -> Conversion:
    """Convert all weights of a model.

    Args:
        weights: weights by name in the source.
        source: package, a key of `key_maps.NAMES`.
        target: likewise.
        permutation: for each class of the target, its label in the source; see `classes`.
        no_object_weight: see `made.make`.

    Raises:
        ConversionError: if a name is unknown, a weight is missing or its shape contradicts the others, or the target
            cannot represent the model.
    """
    neutral = read_neutral(weights, source)
    if permutation is not None:
        neutral = neutral._replace(
            weights=permute_classes(neutral.weights, permutation, neutral.architecture.head.kind)
        )
    written, unwritten, made = write_neutral(neutral, target, no_object_weight)
    # A name that both packages store is not dropped, only recomputed.
    return Conversion(written, neutral.dropped | unwritten, made, neutral.architecture)


def renamed(names: Iterable[str], source: str, target: str) -> dict[str, str]:
    """Map names to those of another package, for weights that are one tensor in both; others are left out.

    Args:
        names: names of a model of the source, enough of them to show its parts, such as an encoder.
        source: package, a key of `key_maps.NAMES`.
        target: likewise.
    """
    given = spelt_as_in_table(dict.fromkeys(names, torch.empty(0)), NAMES[source])
    rows = NAMES[source].rows_of(given, neutral=False)
    levels = count_levels(given, rows, neutral=False)
    neutral = {
        name: found.row.neutral.fill(found.match.indices)[0]
        for name in given
        if (found := find_row(rows, name, neutral=False, levels=levels)) and not found.row.theirs.parts
    }
    rows = NAMES[target].rows_of(set(neutral.values()), neutral=True)
    return {
        name: found.row.theirs.fill(found.match.indices, levels)[0]
        for name, other in neutral.items()
        if (found := find_row(rows, other, neutral=True)) and not found.row.theirs.parts
    }


def write_neutral(
    neutral: Neutral, target: str, no_object_weight: float = NO_OBJECT_WEIGHT
) -> tuple[Weights, dict[str, str], dict[str, str]]:
    """Rename neutral weights to the names of a package.

    Args:
        neutral: the weights, under neutral names.
        target: package, a key of `key_maps.NAMES`.
        no_object_weight: see `made.make`.

    Returns:
        The weights; the neutral names without a place in the package, and the names that were computed, each with the
        reason.

    Raises:
        ConversionError: if the package cannot represent the model.
    """
    names = NAMES[target]
    if neutral.architecture.head.kind not in names.kinds:
        raise ConversionError(
            f'{names.title} has no per-pixel baseline; the model is {neutral.architecture.describe()}. Fix: convert to '
            'mmmaskformer or official'
        )
    rows = names.rows_of(neutral.weights, neutral=True)
    levels = count_levels(neutral.weights, rows, neutral=True)
    weights, computed = _with_counters(neutral.weights, rows)
    written: Weights = {}
    unwritten: dict[str, str] = {}
    made: dict[str, str] = {}
    impossible = []
    for name, value in weights.items():
        if fits := find_row(rows, name, neutral=True):
            theirs = fits.row.theirs.fill(fits.match.indices, levels)
            value = _to_authors(value) if fits.row.merges else value
            written.update(zip(theirs, value.chunk(len(theirs)) if len(theirs) > 1 else (value,), strict=True))
            if name in computed:
                made[theirs[0]] = COUNTER_REASON
        elif names.open_backbone and name.startswith(('backbone.', 'neck.')):
            written[name] = value
        elif name.endswith(COUNTER):
            unwritten[name] = COUNTER_REASON
        else:
            impossible.append(name)
    if impossible:
        raise ConversionError(
            f'{names.title} has no place for {len(impossible)} of the weights: {some(impossible, SHOWN)}. The model is '
            f'{neutral.architecture.describe()}. Fix: convert to another package'
        )
    if isinstance(neutral.architecture.backbone, OtherBackbone) and not names.open_backbone:
        raise ConversionError(
            f'{names.title} has no place for the backbone. It is {neutral.architecture.describe()}. Fix: convert '
            'to another package'
        )
    for row in names.made:
        for name, value in make(row, neutral.architecture, no_object_weight).items():
            written[name], made[name] = value, row.reason
    # torch.save would store the whole base tensor with a view of it.
    return {name: value.contiguous().clone() for name, value in written.items()}, unwritten, made


def permute_classes(weights: Weights, permutation: list[int], kind: str = KINDS[0]) -> Weights:
    """Reorder the classes; "no object" stays last.

    Args:
        weights: weights by neutral name.
        permutation: for each class, its label in ``weights``.
        kind: kind of head, one of `names.KINDS`.

    Raises:
        ConversionError: if the permutation has another number of classes.
    """
    names = CLASS_LAYERS[kind]
    rows = len(weights[names[0]]) - (kind == 'mask')
    if sorted(permutation) != list(range(rows)):
        raise ConversionError(f'its {rows} classes cannot be reordered with a permutation of {len(permutation)}')
    index = torch.tensor([*permutation, len(permutation)] if kind == 'mask' else permutation)
    return weights | {name: weights[name][index] for name in names}


def _with_counters(weights: Weights, rows: tuple[Row, ...]) -> tuple[Weights, set[str]]:
    """Add the batch-norm counters that the target stores and the source does not; return also their names."""
    absent = {
        name.removesuffix('.running_mean') + COUNTER
        for name in weights
        if name.endswith('.running_mean') and name.removesuffix('.running_mean') + COUNTER not in weights
    }
    absent = {name for name in absent if any(row.neutral.match(name) for row in rows)}
    return weights | {name: torch.tensor(0) for name in sorted(absent)}, absent


def _to_authors(value: Tensor) -> Tensor:
    """Reorder the last dimension from the order of `torch.nn.Unfold` to 4 blocks of C; see `names.Row`."""
    return value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)
