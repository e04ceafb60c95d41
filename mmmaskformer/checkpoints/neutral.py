"""Weights of a package under neutral names: each is used or dropped with a reason, and all shapes are checked."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.checkpoints.key_maps import LOSS_REASON, NAMES
from mmmaskformer.checkpoints.names import Names, Row, find_row
from mmmaskformer.checkpoints.shapes import Shapes, backbone_shapes, expected_shapes
from mmmaskformer.checkpoints.sizes import (
    COUNTER,
    Architecture,
    Backbone,
    OtherBackbone,
    SizesError,
    measure,
    measure_backbone,
)
from mmmaskformer.formats.messages import some

SHOWN = 5
"""Number of weights that a message names."""

OTHER_SHARE = 0.1
"""Fraction of weights with wrong shapes from which a backbone is another one with equal names, such as a RegNet."""

Weights = dict[str, Tensor]


class ConversionError(ValueError):
    """The checkpoint cannot be converted; nothing was written."""


class Neutral(NamedTuple):
    """Weights under neutral names.

    Attributes:
        weights: weights by neutral name, in the neutral layout.
        dropped: reason for each weight that was not read, by name in the package.
        architecture: architecture of the model.
    """

    weights: Weights
    dropped: dict[str, str]
    architecture: Architecture


def read_neutral(weights: Mapping[str, Tensor], source: str) -> Neutral:
    """Rename the weights of a package to neutral names and check that they are complete and consistent.

    Args:
        weights: weights by name in the package.
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
    """Rename the weights of a bare backbone to neutral names and check that they are complete and consistent.

    Args:
        weights: weights by name in the package, with its prefix of backbones.
        names: table of the package, from `key_maps.NAMES` or with rows of backbones only.

    Returns:
        The weights; the reason for each weight that was not read; the architecture of the backbone.

    Raises:
        ConversionError: see `convert`.
    """
    taken = _take(weights, names)
    try:
        backbone = measure_backbone(taken.weights)
    except SizesError as error:
        raise ConversionError(f'{error} is missing or has too few dimensions') from None
    if backbone is None or isinstance(backbone, OtherBackbone):
        raise ConversionError(f'found neither a ResNet nor a Swin among its weights: {some(weights, SHOWN)}')
    problems = _problems(taken.weights, backbone_shapes(backbone), backbone.describe(), str)
    if problems:
        raise ConversionError(f'it is not a complete {backbone.describe()}: {some(problems, SHOWN, "; ")}')
    return taken.weights, taken.dropped, backbone


class _Taken(NamedTuple):
    """Weights by neutral name, their rows in the table, and the reason for each weight that was not read."""

    weights: Weights
    rows: dict[str, Row]
    dropped: dict[str, str]


def _take(weights: Mapping[str, Tensor], names: Names) -> _Taken:
    """Rename or drop every weight; a name without a row is an error."""
    weights = spelt_as_in_table(weights, names)
    rows = names.rows_of(weights, neutral=False)
    levels = count_levels(weights, rows, neutral=False)
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
            f'{len(unknown)} of its {len(weights)} weights are not part of {names.title}: {some(unknown, SHOWN)}. '
            'Fix: use the checkpoint of an unmodified MaskFormer'
        )
    return _Taken({name: _joined(name, found, used.get(name)) for name, found in parts.items()}, used, dropped)


def spelt_as_in_table(weights: Mapping[str, Tensor], names: Names) -> Weights:
    """Rename weights to the spelling of the table, without the prefixes of wrappers.

    Args:
        weights: weights by name in a file.
        names: the table.

    Raises:
        ConversionError: if two names denote the same weight.
    """
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
                f'{given} and {origin[name]} both denote the weight {name} of {names.title}; expected one of them'
            )
        spelt[name], origin[name] = value, given
    return spelt


def count_levels(names: Iterable[str], rows: tuple[Row, ...], neutral: bool) -> int:
    """Number of lateral levels of a model.

    Args:
        names: names of its weights.
        rows: rows of the table of its package.
        neutral: whether they are neutral names.
    """
    for row in rows:
        if row.neutral.text == 'lateral.{l}.conv.weight':
            template = row.neutral if neutral else row.theirs
            return sum(template.match(name) is not None for name in names)
    return 0


def _joined(name: str, parts: dict[int, Tensor], row: Row | None) -> Tensor:
    """Concatenate the parts of a neutral weight."""
    wanted = len(row.theirs.parts) or 1 if row else 1
    if len(parts) < wanted:
        absent = [part for index, part in enumerate(row.theirs.parts) if index not in parts] if row else []
        raise ConversionError(f'{name} consists of {wanted} weights of the source, of which {absent} are missing')
    value = torch.cat([parts[index] for index in range(wanted)]) if wanted > 1 else parts[0]
    return _from_authors(value) if row and row.merges else value


def _from_authors(value: Tensor) -> Tensor:
    """Reorder the last dimension from 4 blocks of C to the order of `torch.nn.Unfold`; see `names.Row`."""
    return value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-1, -2).flatten(-2)


def _checked_architecture(taken: _Taken, names: Names) -> Architecture:
    """Find the architecture and compare the shape of every weight with it."""
    weights = taken.weights
    rows = names.rows_of(weights, neutral=True)
    levels = count_levels(weights, rows, neutral=True)

    def theirs(neutral: str) -> str:
        found = find_row(rows, neutral, neutral=True)
        return found.row.theirs.fill(found.match.indices, levels)[0] if found else neutral

    try:
        architecture = measure(weights, names.kinds)
    except SizesError as error:
        raise ConversionError(
            f'{theirs(str(error))} is missing or has too few dimensions; expected {names.title}, complete. Fix: copy '
            'the file again, or use one of a complete model'
        ) from None
    others = any(name not in taken.rows and not name.endswith(COUNTER) for name in weights)
    compared = weights
    another = names.open_backbone and _is_another(weights, architecture.backbone)
    if others or another:  # a backbone without a table, even if its names match those of a ResNet
        backbone = [name for name in weights if name.startswith(('backbone.', 'neck.'))]
        architecture = Architecture(architecture.head, OtherBackbone(len(backbone)))
        compared = {name: value for name, value in weights.items() if name not in backbone}
    expected = expected_shapes(architecture, NAMES['mmmaskformer'])
    problems = _problems(compared, expected, architecture.describe(), theirs) + _width_problems(architecture)
    if problems:
        raise ConversionError(
            f'the weights are not those of {names.title}: {some(problems, SHOWN, "; ")}. Fix: copy the file again, or '
            'use one of an unmodified model'
        )
    return architecture


def _is_another(weights: Weights, backbone: Backbone | None) -> bool:
    """Whether the backbone has all names of a ResNet or Swin, and other shapes throughout."""
    expected = backbone_shapes(backbone)
    found = {name: tuple(weights[name].shape) for name in expected if name in weights}
    differing = sum(found[name] != expected[name] for name in found)
    return bool(expected) and found.keys() == expected.keys() and differing > OTHER_SHARE * len(found)


def _problems(weights: Weights, expected: Shapes, what: str, theirs: Callable[[str], str]) -> list[str]:
    """Weights that are missing, superfluous or of another shape, under the names of the package."""
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
    return [f'the head takes features of {architecture.head.widths} channels, but the backbone has {net.widths}']
