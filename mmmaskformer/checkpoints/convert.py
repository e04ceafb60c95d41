"""Weights of one package to those of another, by the tables of names: whole or not at all."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.checkpoints.key_maps import LOSS_REASON, NAMES
from mmmaskformer.checkpoints.made import NO_OBJECT_WEIGHT, make
from mmmaskformer.checkpoints.names import KINDS, Names, Row, find_row
from mmmaskformer.checkpoints.sizes import (
    COUNTER,
    Architecture,
    Backbone,
    OtherBackbone,
    Shapes,
    SizesError,
    backbone_shapes,
    expected_shapes,
    measure,
    measure_backbone,
)

SHOWN = 5
Weights = dict[str, Tensor]
CLASS_LAYERS = {
    'mask': ('class_embed.weight', 'class_embed.bias'),
    'per pixel': ('pixel_classifier.weight', 'pixel_classifier.bias'),
    'per pixel plus': ('query_embed.weight',),  # query k makes the logits of class k
}
"""Weights with a row for each class, by kind of head."""

COUNTER_REASON = 'a counter of training batches that evaluation does not read'


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; nothing was written."""


class Neutral(NamedTuple):
    """Weights by the names of no package.

    Attributes:
        weights: by neutral name, in the neutral layout.
        dropped: what was not read: name in the package to reason.
        architecture: of the model.
    """

    weights: Weights
    dropped: dict[str, str]
    architecture: Architecture


class Conversion(NamedTuple):
    """The weights of a model in another package.

    Attributes:
        weights: by name there.
        dropped: names in the source that were not used, each with the reason.
        made: names in the target that no weight of the source fills, each with the reason.
        architecture: of the model.
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
        weights: by name in the source.
        source: package, a key of `key_maps.NAMES`.
        target: likewise.
        permutation: for each class of the target its label in the source; see `classes`.
        no_object_weight: see `made.make`.

    Raises:
        ConversionError: if a name is not known, a weight is missing or has another shape than the others imply, or the
            target cannot express the model; names what is wrong.
    """
    neutral = read_neutral(weights, source)
    if permutation is not None:
        neutral = neutral._replace(
            weights=permute_classes(neutral.weights, permutation, neutral.architecture.head.kind)
        )
    written, unwritten, made = write_neutral(neutral, target, no_object_weight)
    # A name that both packages store is not dropped, only computed again.
    return Conversion(written, neutral.dropped | unwritten, made, neutral.architecture)


def renamed(names: Iterable[str], source: str, target: str) -> dict[str, str]:
    """The names of weights in another package, for weights that are whole in both; others are left out.

    Args:
        names: of a model of the source, all or enough to tell what it has: an encoder, a stem of three convolutions.
        source: package, a key of `key_maps.NAMES`.
        target: likewise.
    """
    given = _spelt_as_in_table(dict.fromkeys(names, torch.empty(0)), NAMES[source])
    rows = NAMES[source].rows_of(given, neutral=False)
    levels = _levels(given, rows, neutral=False)
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


def read_neutral(weights: Mapping[str, Tensor], source: str) -> Neutral:
    """Weights of a package by neutral names, complete and of consistent shapes.

    Args:
        weights: by name in the package.
        source: the package, a key of `key_maps.NAMES`.

    Raises:
        ConversionError: see `convert`.
    """
    names = NAMES[source]
    taken = _take(weights, names)
    architecture = _checked_architecture(taken, names)
    without_classes = architecture.head.kind == 'per pixel plus' and LOSS_REASON in taken.dropped.values()
    if without_classes:
        raise ConversionError('it has class weights of the loss, but no class_embed. Fix: copy the file again')
    return Neutral(taken.weights, taken.dropped, architecture)


def read_backbone(weights: Mapping[str, Tensor], names: Names) -> tuple[Weights, dict[str, str], Backbone]:
    """Weights of a backbone alone by neutral names, complete and of consistent shapes.

    Args:
        weights: by name in the package, with its prefix of backbones.
        names: of the package: a table of `key_maps.NAMES`, or one with rows of backbones only.

    Returns:
        The weights, what was not read with the reason, and the kind of backbone.

    Raises:
        ConversionError: see `convert`.
    """
    taken = _take(weights, names)
    try:
        backbone = measure_backbone(taken.weights)
    except SizesError as error:
        raise ConversionError(f'{error} is missing or has too few dimensions') from None
    if backbone is None or isinstance(backbone, OtherBackbone):
        raise ConversionError(f'no ResNet or Swin is among its weights: {_some(list(weights))}')
    problems = _problems(taken.weights, backbone_shapes(backbone), backbone.describe(), str)
    if problems:
        raise ConversionError(f'it is no whole {backbone.describe()}: {_some(problems, "; ")}')
    return taken.weights, taken.dropped, backbone


def write_neutral(
    neutral: Neutral, target: str, no_object_weight: float = NO_OBJECT_WEIGHT
) -> tuple[Weights, dict[str, str], dict[str, str]]:
    """Weights by the names of a package.

    Args:
        neutral: the weights.
        target: the package, a key of `key_maps.NAMES`.
        no_object_weight: see `made.make`.

    Returns:
        The weights; neutral names that the package has no place for, with the reason; names that were computed, with
        the reason.

    Raises:
        ConversionError: if the package cannot express the model.
    """
    names = NAMES[target]
    if neutral.architecture.head.kind not in names.kinds:
        raise ConversionError(
            f'{names.title} has no per-pixel baseline; the model is {neutral.architecture.describe()}. Fix: convert to '
            'mmmaskformer or official'
        )
    rows = names.rows_of(neutral.weights, neutral=True)
    levels = _levels(neutral.weights, rows, neutral=True)
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
            f'{names.title} has no place for {len(impossible)} of the weights: {_some(impossible)}. The model is '
            f'{neutral.architecture.describe()}. Fix: convert to another package'
        )
    for row in names.made:
        for name, value in make(row, neutral.architecture, no_object_weight).items():
            written[name], made[name] = value, row.reason
    # Views of one tensor would be stored whole for each of them.
    return {name: value.contiguous().clone() for name, value in written.items()}, unwritten, made


def permute_classes(weights: Weights, permutation: list[int], kind: str = KINDS[0]) -> Weights:
    """Put classes in another order; "no object" stays last.

    Args:
        weights: by neutral name.
        permutation: for each class its label in ``weights``.
        kind: of the head, one of `names.KINDS`.
    """
    names = CLASS_LAYERS[kind]
    index = torch.tensor([*permutation, len(permutation)] if kind == 'mask' else permutation)
    return weights | {name: weights[name][index] for name in names}


class _Taken(NamedTuple):
    """Weights by neutral name, the row of each that has one, and what was not read with the reason."""

    weights: Weights
    rows: dict[str, Row]
    dropped: dict[str, str]


def _take(weights: Mapping[str, Tensor], names: Names) -> _Taken:
    """Every weight by its neutral name, or dropped with a reason, or an error."""
    weights = _spelt_as_in_table(weights, names)
    rows = names.rows_of(weights, neutral=False)
    levels = _levels(weights, rows, neutral=False)
    parts: dict[str, dict[int, Tensor]] = {}
    used: dict[str, Row] = {}
    dropped: dict[str, str] = {}
    unknown = []
    for name, value in weights.items():
        if found := find_row(rows, name, neutral=False, levels=levels):
            (neutral,) = found.row.neutral.fill(found.match.indices)
            parts.setdefault(neutral, {})[found.match.part] = value
            used[neutral] = found.row
        elif reason := next((made.reason for made in names.made if made.theirs.match(name)), None):
            dropped[name] = reason
        elif names.open_backbone and name.startswith(('backbone.', 'neck.')):
            parts[name] = {0: value}
        else:
            unknown.append(name)
    if unknown:
        raise ConversionError(
            f'{len(unknown)} of its {len(weights)} weights have names that {names.title} has not: {_some(unknown)}; '
            'expected no others. Fix: give the checkpoint of an unchanged MaskFormer'
        )
    return _Taken({name: _joined(name, found, used.get(name)) for name, found in parts.items()}, used, dropped)


def _spelt_as_in_table(weights: Mapping[str, Tensor], names: Names) -> Weights:
    """Weights with the names of the table, without the prefixes of wrappers."""
    spelt: Weights = {}
    origin: dict[str, str] = {}
    for given, value in weights.items():
        name = given
        for prefix in ('module.', '_orig_mod.'):
            name = name.removeprefix(prefix)
        for other, own in names.aliases:
            if name.startswith(other):
                name = own + name.removeprefix(other)
        if name in spelt:
            raise ConversionError(
                f'{given} and {origin[name]} are both the weight {name} of {names.title}; expected one of them'
            )
        spelt[name], origin[name] = value, given
    return spelt


def _levels(names: Mapping[str, Tensor], rows: tuple[Row, ...], neutral: bool) -> int:
    """Number of lateral levels."""
    for row in rows:
        if row.neutral.text == 'lateral.{l}.conv.weight':
            template = row.neutral if neutral else row.theirs
            return sum(template.match(name) is not None for name in names)
    return 0


def _joined(name: str, parts: dict[int, Tensor], row: Row | None) -> Tensor:
    """A neutral weight from its parts."""
    wanted = len(row.theirs.parts) or 1 if row else 1
    if len(parts) < wanted:
        absent = [part for index, part in enumerate(row.theirs.parts) if index not in parts] if row else []
        raise ConversionError(f'{name} is made of {wanted} weights of the source, of which {absent} are missing')
    value = torch.cat([parts[index] for index in range(wanted)]) if wanted > 1 else parts[0]
    return _from_authors(value) if row and row.merges else value


def _from_authors(value: Tensor) -> Tensor:
    """The last dimension, 4 blocks of C, in the order of `torch.nn.Unfold`; see `names.Row`."""
    return value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-1, -2).flatten(-2)


def _to_authors(value: Tensor) -> Tensor:
    """The inverse of `_from_authors`."""
    return value.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., [0, 2, 1, 3], :].flatten(-2)


def _with_counters(weights: Weights, rows: tuple[Row, ...]) -> tuple[Weights, set[str]]:
    """Weights with the counters of batch norms that the target stores and the source did not; and their names."""
    absent = {
        name.removesuffix('.running_mean') + COUNTER
        for name in weights
        if name.endswith('.running_mean') and name.removesuffix('.running_mean') + COUNTER not in weights
    }
    absent = {name for name in absent if any(row.neutral.match(name) for row in rows)}
    return weights | {name: torch.tensor(0) for name in sorted(absent)}, absent


def _checked_architecture(taken: _Taken, names: Names) -> Architecture:
    """The architecture, after comparing every weight with it."""
    weights = taken.weights
    rows = names.rows_of(weights, neutral=True)
    levels = _levels(weights, rows, neutral=True)

    def theirs(neutral: str) -> str:
        found = find_row(rows, neutral, neutral=True)
        return found.row.theirs.fill(found.match.indices, levels)[0] if found else neutral

    try:
        architecture = measure(weights, names.kinds)
    except SizesError as error:
        raise ConversionError(
            f'{theirs(str(error))} is missing or has too few dimensions; expected {names.title}, complete. Fix: copy '
            'the file again, or give one of a whole model'
        ) from None
    others = [name for name in weights if name not in taken.rows and not name.endswith(COUNTER)]
    compared = weights
    if others:  # of a backbone that no table knows, though some of its names may be those of a ResNet
        backbone = [name for name in weights if name.startswith(('backbone.', 'neck.'))]
        architecture = Architecture(architecture.head, OtherBackbone(len(backbone)))
        compared = {name: value for name, value in weights.items() if name not in backbone}
    expected = expected_shapes(architecture, NAMES['mmmaskformer'])
    problems = _problems(compared, expected, architecture.describe(), theirs) + _width_problems(architecture)
    if problems:
        raise ConversionError(
            f'the weights do not make up a whole {names.title}: {_some(problems, "; ")}. Fix: copy the file again, or '
            'give one of an unchanged model'
        )
    return architecture


def _problems(weights: Weights, expected: Shapes, what: str, theirs: Callable[[str], str]) -> list[str]:
    """What is missing, too much or of another shape, under the names of the package."""
    problems = [f'{theirs(name)} is missing' for name in expected if name not in weights]
    problems += [
        f'{theirs(name)} is not part of {what}'
        for name in weights
        if name not in expected and not name.endswith(COUNTER)
    ]
    return problems + [
        f'{theirs(name)} has the shape {tuple(weights[name].shape)} instead of {shape}'
        for name, shape in expected.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]


def _width_problems(architecture: Architecture) -> list[str]:
    net = architecture.backbone
    if net is None or isinstance(net, OtherBackbone) or net.widths == architecture.head.widths:
        return []
    return [f'the head takes features of {architecture.head.widths} channels, the backbone gives {net.widths}']


def _some(names: list[str], separator: str = ', ') -> str:
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return separator.join(names[:SHOWN]) + more
