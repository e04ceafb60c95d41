"""Class lists as data files, ``NAME.json`` beside this module, and the function that reads and checks them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
REQUIRED = {'classes', 'palette'}
PANOPTIC = {'isthing', 'category_ids'}
SOURCE_IDS = 'source_ids'
OPTIONAL = {'about', SOURCE_IDS, *PANOPTIC}


def load_metainfo(name_or_path: str | Path) -> dict:
    """Read a class list.

    Args:
        name_or_path: name of a list of this package, such as 'camvid', or path of a JSON file with the keys
            'classes' (names, in the order of the label ids), 'palette' (one [R, G, B] in [0, 255] each) and
            optionally 'about' (free text) and the keys of `load_panoptic_metainfo` and `load_source_ids`, which are
            ignored here.

    Returns:
        {'classes': tuple of str, 'palette': list of [R, G, B]}, as mmengine's ``metainfo``.

    Raises:
        FileNotFoundError: if there is no such list or file.
        ValueError: if it is not JSON of that form, a name or colour occurs twice, or the lengths differ.
    """
    return check_metainfo(*_read(name_or_path))


def load_panoptic_metainfo(name_or_path: str | Path) -> dict:
    """Read a class list with things and stuff.

    Args:
        name_or_path: see `load_metainfo`; the file has the key 'isthing' (true or false for each class) and optionally
            'category_ids' (the id of each class in panoptic files; without them classes are found by name).

    Returns:
        See `check_panoptic_metainfo`.

    Raises:
        FileNotFoundError, ValueError: see `load_metainfo` and `check_panoptic_metainfo`.
    """
    content, origin = _read(name_or_path)
    panoptic = {key: content[key] for key in PANOPTIC if key in content}
    return check_panoptic_metainfo(check_metainfo(content, origin) | panoptic, origin)


def load_source_ids(name_or_path: str | Path) -> tuple[int, ...]:
    """Read the ids of the classes in the label files of their publishers.

    Args:
        name_or_path: see `load_metainfo`; the file has the key 'source_ids' (one integer for each class).

    Returns:
        The id of each class, in the order of the labels.

    Raises:
        FileNotFoundError, ValueError: see `load_metainfo`; also if the ids are missing, not distinct or of another
            number than the classes.
    """
    content, origin = _read(name_or_path)
    count = len(check_metainfo(content, origin)['classes'])
    return _different_ids(content.get(SOURCE_IDS, ()), count, origin, SOURCE_IDS)


def _read(name_or_path: str | Path) -> tuple[Mapping, str]:
    """Content of a list, not yet checked, and its path."""
    path = Path(name_or_path)
    if path.suffix != '.json':
        path = FOLDER / f'{name_or_path}.json'
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob('*.json'))
        raise FileNotFoundError(
            f'class list {str(name_or_path)!r}: no such file. Expected: one of the names {known} or the path of a '
            '.json file. Fix: correct metainfo_file, or write the file.'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'class list {path}: not valid JSON ({error}). Fix: repair the file.') from error
    return content, str(path)


def check_metainfo(content: Mapping, origin: str) -> dict:
    """Check a class list and bring it into the form of mmengine's ``metainfo``.

    Args:
        content: 'classes', 'palette', optionally 'about'; see `load_metainfo`.
        origin: file or key it comes from, for messages.

    Returns:
        {'classes': tuple of str, 'palette': list of [R, G, B]}.

    Raises:
        ValueError: if keys, lengths, names or colours are wrong.
    """
    keys = set(content) if isinstance(content, Mapping) else None
    if keys is None or REQUIRED - keys or keys - REQUIRED - OPTIONAL:
        found = type(content).__name__ if keys is None else f'the keys {sorted(keys)}'
        raise ValueError(
            f"class list {origin}: found {found}, expected an object with 'classes', 'palette' and optionally "
            f'{sorted(OPTIONAL)}. Fix: correct the keys.'
        )
    classes, palette = content['classes'], content['palette']
    require_names(classes, origin)
    _require_colours(palette, origin)
    if len(classes) != len(palette):
        raise ValueError(
            f'class list {origin}: {len(classes)} classes but {len(palette)} palette colours. Fix: one [R, G, B] for '
            'each class.'
        )
    return {'classes': tuple(classes), 'palette': [list(colour) for colour in palette]}


def check_panoptic_metainfo(content: Mapping, origin: str) -> dict:
    """Check which classes are things, and add MMDetection's lists of things and stuff.

    Args:
        content: 'classes' and 'isthing' (true or false for each), optionally 'category_ids', 'palette' and others.
        origin: where it comes from, for messages.

    Returns:
        ``content`` with 'classes' (tuple of str), 'isthing' (tuple of bool), 'category_ids' (tuple of int, if given),
        'thing_classes' and 'stuff_classes' (tuples of str). Things need not come first.

    Raises:
        ValueError: if a list is missing, has another length than 'classes', or holds other values.
    """
    for key in ('classes', 'isthing'):
        if key not in content:
            raise ValueError(
                f'class list {origin}: no {key!r}. Fix: set metainfo=dict(classes=(names), isthing=(True for a thing, '
                'False for stuff, for each class)), or metainfo_file to a JSON file with these keys.'
            )
    classes, isthing = content['classes'], content['isthing']
    require_names(classes, origin)
    if not _is_list(isthing) or len(isthing) != len(classes) or any(flag not in (0, 1) for flag in isthing):
        raise ValueError(
            f"class list {origin}: 'isthing' is {isthing!r:.80}, expected true (thing) or false (stuff) for each of "
            f'the {len(classes)} classes. Fix: set one flag for each class.'
        )
    checked = dict(content, classes=tuple(classes), isthing=tuple(bool(flag) for flag in isthing))
    if 'category_ids' in content:
        checked['category_ids'] = _different_ids(content['category_ids'], len(classes), origin, 'category_ids')
    for key, wanted in (('thing_classes', True), ('stuff_classes', False)):
        checked[key] = tuple(name for name, flag in zip(classes, isthing, strict=True) if bool(flag) is wanted)
    return checked


def _different_ids(ids: Sequence, count: int, origin: str, key: str) -> tuple[int, ...]:
    integers = _is_list(ids) and all(isinstance(number, int) for number in ids)
    if not integers or not len(set(ids)) == len(ids) == count:
        raise ValueError(
            f'class list {origin}: {key!r} is {ids!r:.80}, expected {count} different integers. Fix: set one for each '
            'class.'
        )
    return tuple(ids)


def _is_list(value: Sequence) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def require_names(classes: Sequence, origin: str) -> None:
    """Check a list of class names.

    Args:
        classes: the names.
        origin: where they come from, for messages.

    Raises:
        ValueError: if it is not a list of names, is empty, or has a name twice.
    """
    names_only = isinstance(classes, Sequence) and all(isinstance(name, str) and name for name in classes)
    if isinstance(classes, str) or not names_only or not classes:
        raise ValueError(
            f"class list {origin}: 'classes' is {classes!r:.80}, expected a list of names, at least one. Fix: list the "
            'name of each class.'
        )
    # Classes are found by name without surrounding spaces.
    names = [name.strip() for name in classes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'class list {origin}: class names occur twice: {twice}. Fix: give every class its own name.')


def _require_colours(palette: Sequence, origin: str) -> None:
    if not isinstance(palette, Sequence) or isinstance(palette, str):
        raise ValueError(
            f"class list {origin}: 'palette' is {palette!r:.80}, expected a list of [R, G, B]. Fix: set one for each "
            'class.'
        )
    wrong = [colour for colour in palette if not _is_colour(colour)]
    if wrong:
        raise ValueError(
            f'class list {origin}: palette holds {wrong[0]!r}, expected [R, G, B] of integers from 0 to 255. Fix: '
            'correct it.'
        )
    colours = [tuple(colour) for colour in palette]
    twice = sorted({colour for colour in colours if colours.count(colour) > 1})
    if twice:
        raise ValueError(f'class list {origin}: palette colours occur twice: {twice}. Fix: give each class its own.')


def _is_colour(colour: Sequence) -> bool:
    return (
        isinstance(colour, Sequence)
        and len(colour) == 3
        and all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
    )


def chosen_metainfo(
    owner: str, metainfo_file: str | None, metainfo: Mapping | None, load: Callable[[str], dict]
) -> Mapping | None:
    """The class list of a dataset, given as a file or directly.

    Args:
        owner: class of the dataset, for the message.
        metainfo_file: name or path of the list.
        metainfo: the list.
        load: reads ``metainfo_file``.

    Returns:
        The list; None if neither is given.

    Raises:
        ValueError: if both are given.
    """
    if metainfo_file is None:
        return metainfo
    if metainfo is not None:
        raise ValueError(
            f'{owner}: found both metainfo_file={metainfo_file!r} and metainfo, expected one class list. Fix: remove '
            'one of the two.'
        )
    return load(metainfo_file)
