"""Class orders: finding the permutation between two class lists."""

import json
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LISTS = Path(__file__).parents[1] / 'datasets/metainfo'
SYNONYMS = (
    ('plane', 'airplane'),
    ('window', 'windowpane'),
    ('tub', 'bathtub'),
    ('rail', 'railing'),
    ('street lamp', 'streetlight'),
    ('tv', 'television receiver'),
    ('clothes', 'apparel'),
    ('trash can', 'ashcan'),
    ('pool', 'swimming pool'),
    ('falls', 'waterfall'),
)
"""Names of one class in different lists of ADE20K: the published one, and those of MMSegmentation, MMDetection."""


def class_lists() -> dict[str, dict]:
    """The class lists that this package ships, by name; each has ``classes`` and may have ``palette`` and others."""
    return {path.stem: json.loads(path.read_text(encoding='utf-8')) for path in sorted(LISTS.glob('*.json'))}


def read_class_list(name: str) -> dict:
    """Read a shipped class list by its name, or a JSON file with ``classes`` and, if known, ``palette``, ``isthing``.

    Raises:
        ValueError: if there is no such list, or the file holds no class list.
    """
    lists = class_lists()
    if name in lists:
        return lists[name]
    path = Path(name)
    if not path.is_file():
        raise ValueError(f'classes: found {name!r}, expected one of {", ".join(lists)}, or a JSON file of such a list')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'classes: {name} cannot be read as JSON ({error})') from None
    if not isinstance(content, dict) or not isinstance(content.get('classes'), list):
        raise ValueError(f"classes: {name} must be an object with a list 'classes'")
    return content


def list_of_same_classes(classes: Sequence[str]) -> dict | None:
    """The shipped class list with the same classes in any order; None if there is none."""
    for entry in class_lists().values():
        if find_permutation(classes, entry['classes']) is not None:
            return entry
    return None


def list_of_published(num_classes: int, isthing: Sequence[bool] | None = None) -> tuple[str, dict] | None:
    """Guess the class list from the number of classes, since released files of the published code do not store it.

    Args:
        num_classes: K.
        isthing: whether each class is a thing; None if unknown.

    Returns:
        Name and content; None if no list, or lists with different classes, have this number of classes.
    """
    found = {
        name: entry
        for name, entry in class_lists().items()
        if len(entry['classes']) == num_classes
        and (isthing is None or list(map(bool, entry.get('isthing', ()))) == list(map(bool, isthing)))
    }
    if len({tuple(entry['classes']) for entry in found.values()}) != 1:
        return None
    return next(iter(found.items()))


def find_permutation(source: Sequence[str], target: Sequence[str]) -> list[int] | None:
    """Find for each class of a list its label in another list.

    Two names match if they are equal, or if they share a synonym ("road, route" and "road") that no other class of
    either list has.

    Args:
        source: K names.
        target: K names.

    Returns:
        K labels in ``source``; None if the classes are not the same.
    """
    if len(source) != len(target):
        return None
    free = dict(enumerate(map(_synonyms, source)))
    permutation: list[int | None] = [None] * len(target)
    wanted = [_synonyms(name) for name in target]
    for same in (_equal, _overlapping):
        for label, names in enumerate(wanted):
            if permutation[label] is not None:
                continue
            found = [other for other, theirs in free.items() if same(names, theirs)]
            if len(found) == 1:
                permutation[label] = found[0]
                del free[found[0]]
    labels = [label for label in permutation if label is not None]
    return labels if len(labels) == len(target) else None


def things_first(isthing: Sequence[bool]) -> list[int]:
    """The class order of MMDetection: things, then stuff, each in the order of the list.

    Args:
        isthing: whether each of the K classes is a thing.

    Returns:
        K labels of the list.
    """
    return sorted(range(len(isthing)), key=lambda label: not isthing[label])


def inverse(permutation: Sequence[int]) -> list[int]:
    """The inverse permutation."""
    undone = [0] * len(permutation)
    for label, other in enumerate(permutation):
        undone[other] = label
    return undone


def permuted(meta: Mapping, permutation: Sequence[int]) -> dict:
    """Meta information with the classes in another order.

    Args:
        meta: ``classes``, ``palette``, ``isthing`` and ``category_ids`` have an entry for each class.
        permutation: for each class of the result its label in ``meta``.
    """
    keys = ('classes', 'palette', 'isthing', 'category_ids')
    per_class = {key: meta[key] for key in keys if _is_list(meta.get(key)) and len(meta[key]) == len(permutation)}
    return {**meta, **{key: [values[label] for label in permutation] for key, values in per_class.items()}}


def facts_of(dataset_meta: Mapping) -> dict:
    """Meta information of a dataset, as any package stores it, under this package's keys.

    Args:
        dataset_meta: ``classes`` and ``palette``, in lower or upper case; things as ``isthing``, ``thing_classes`` or
            neither.

    Returns:
        ``classes`` and what else is known, as plain lists.

    Raises:
        ValueError: if ``dataset_meta`` is not a dict, or one of its values has the wrong type.
    """
    if not isinstance(dataset_meta, Mapping):
        raise ValueError(
            f'dataset_meta is a {type(dataset_meta).__name__}, expected a dict with classes. Fix: correct it in the '
            'file'
        )
    meta = {str(key).lower(): value for key, value in dataset_meta.items()}
    facts: dict = {}
    if _is_list(meta.get('classes')):
        facts['classes'] = [str(name) for name in meta['classes']]
    if _is_list(meta.get('palette')):
        facts['palette'] = [_whole_numbers(colour, 'palette', 3) for colour in meta['palette']]
    if _is_list(meta.get('isthing')):
        facts['isthing'] = [bool(value) for value in meta['isthing']]
    elif _is_list(meta.get('thing_classes')) and 'classes' in facts:
        things = set(map(str, meta['thing_classes']))
        facts['isthing'] = [name in things for name in facts['classes']]
    if meta.get('ignore_index') is not None:
        (facts['ignore_index'],) = _whole_numbers([meta['ignore_index']], 'ignore_index', 1)
    return facts


def _whole_numbers(values: Any, key: str, count: int) -> list[int]:
    """Values of a file as whole numbers.

    Raises:
        ValueError: with the key.
    """
    try:
        numbers = [operator.index(value) for value in values]
    except TypeError:
        numbers = []
    if len(numbers) != count:
        raise ValueError(
            f'dataset_meta: {key} has {values!r}, expected {count} whole number{"s" * (count > 1)}. Fix: correct it in '
            'the file'
        )
    return numbers


def _is_list(value: object) -> bool:
    return hasattr(value, '__len__') and hasattr(value, '__iter__') and not isinstance(value, str | bytes | Mapping)


def _synonyms(name: str) -> frozenset[str]:
    names = {part.strip().lower().replace('_', ' ') for part in name.split(',')}
    for group in SYNONYMS:
        if names & set(group):
            names |= set(group)
    return frozenset(names)


def _equal(one: frozenset[str], other: frozenset[str]) -> bool:
    return one == other


def _overlapping(one: frozenset[str], other: frozenset[str]) -> bool:
    return bool(one & other)
