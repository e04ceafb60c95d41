"""Mapping of the categories of a panoptic file to the labels of a class list."""

from collections.abc import Mapping

from mmmaskformer.formats.messages import some

SHOWN = 8
"""Number of items that a message names."""


def labels_of_categories(categories: Mapping[int, Mapping], metainfo: Mapping, path: str) -> dict[int, int]:
    """Find the classes of a class list among the categories of a file.

    If ``metainfo`` has 'category_ids', class i is the category with that id, whose name may be spelt differently.
    Otherwise classes are found by name.

    Args:
        categories: category id to dict with 'name' and 'isthing'.
        metainfo: 'classes', 'isthing' and optionally 'category_ids'.
        path: of the file, for messages.

    Returns:
        Labels by category id. Categories that are not in the class list are omitted.

    Raises:
        ValueError: if a class is missing, its name belongs to another id or to several, or ``isthing`` differs.
    """
    names: dict[str, list[int]] = {}
    for number, row in categories.items():
        names.setdefault(row['name'].strip(), []).append(number)
    labels: dict[int, int] = {}
    given = metainfo.get('category_ids')
    ids = given or [_only_id(name.strip(), names, path) for name in metainfo['classes']]
    for label, (name, number, isthing) in enumerate(zip(metainfo['classes'], ids, metainfo['isthing'], strict=True)):
        if number not in categories or number not in names.get(name.strip(), [number]):
            raise ValueError(_describe_missing_class(name, number, names, metainfo, path))
        found = int(categories[number]['isthing'])
        if bool(found) is not isthing:
            raise ValueError(
                f"panoptic file {path}: category {number} ({categories[number]['name']!r}) has 'isthing': {found}, "
                f"the class list has isthing={isthing} for class {label} ({name!r}). Fix: correct metainfo['isthing'] "
                'or the file; both must have the same things.'
            )
        labels[number] = label
    return labels


def _only_id(name: str, names: Mapping[str, list[int]], path: str) -> int | None:
    """The id of the category of this name; None if there is none."""
    ids = names.get(name, [None])
    if len(ids) > 1:
        raise ValueError(
            f'panoptic file {path}: {len(ids)} categories have the name {name!r}, ids {ids}, so that the class cannot '
            "be found by its name. Fix: merge or rename them in the file, or set metainfo['category_ids'] to the id of "
            'each class; the other categories then become void.'
        )
    return ids[0]


def _describe_missing_class(
    name: str, number: int | None, names: Mapping[str, list[int]], metainfo: Mapping, path: str
) -> str:
    shown = some((f'{known!r} ({known_ids[0]})' for known, known_ids in names.items()), SHOWN)
    if 'category_ids' in metainfo:
        elsewhere = f', where {name!r} has id {names[name.strip()][0]}' if name.strip() in names else ''
        wanted = f'class {name!r} with category id {number}{elsewhere}'
        fix = "metainfo['category_ids'], or leave them out to find classes by name"
    else:
        wanted, fix = f'class {name!r}', "metainfo['classes']"
    return (
        f"panoptic file {path}: its 'categories' do not fit the class list: expected {wanted}, found {shown} "
        f'(name and id). Fix: correct {fix}, or use the dataset class that belongs to the file.'
    )
