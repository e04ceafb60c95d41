"""Class lists as data files, ``NAME.json`` beside this module, and the function that reads and checks them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
REQUIRED = {'classes', 'palette'}
OPTIONAL = {'about'}


def load_metainfo(name_or_path: str | Path) -> dict:
    """Read a class list.

    Args:
        name_or_path: name of a list of this package, such as 'camvid', or path of a JSON file with the keys
            'classes' (names, in the order of the label ids), 'palette' (one [R, G, B] in [0, 255] each) and
            optionally 'about' (free text).

    Returns:
        {'classes': tuple of str, 'palette': list of [R, G, B]}, as mmengine's ``metainfo``.

    Raises:
        FileNotFoundError: if there is no such list or file.
        ValueError: if it is not JSON of that form, a name or colour occurs twice, or the lengths differ.
    """
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
    return check_metainfo(content, str(path))


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
            f"class list {origin}: found {found}, expected an object with 'classes', 'palette' and optionally 'about'."
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
        raise ValueError(f"class list {origin}: 'classes' is {classes!r:.80}, expected a list of names, at least one.")
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise ValueError(f'class list {origin}: class names occur twice: {twice}. Fix: give every class its own name.')


def _require_colours(palette: Sequence, origin: str) -> None:
    if not isinstance(palette, Sequence) or isinstance(palette, str):
        raise ValueError(f"class list {origin}: 'palette' is {palette!r:.80}, expected a list of [R, G, B].")
    wrong = [colour for colour in palette if not _is_colour(colour)]
    if wrong:
        raise ValueError(
            f'class list {origin}: palette holds {wrong[0]!r}, expected [R, G, B] of integers from 0 to 255.'
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
