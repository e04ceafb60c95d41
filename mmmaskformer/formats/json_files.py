"""JSON annotation files: parsed, and checked for the lists and keys that they need."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import fileio

SHOWN = 3


def read_json(path: str | Path, backend_args: dict | None, expected: str, what: str) -> Any:
    """Parse a JSON file.

    Args:
        path: of the file.
        backend_args: of `mmengine.fileio.get`.
        expected: form of the file, for the message if it is missing.
        what: kind and path of the file, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{what}: not found. Expected: {expected}. Fix: correct data_root or ann_file; '
            'relative paths start at the working directory.'
        ) from None
    try:
        # bytes, which may be UTF-16, or UTF-8 with a byte order mark, as written by Windows programs
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise ValueError(f'{what}: not UTF-8 text ({error}). Fix: copy or write the file again.') from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{what}: not valid JSON ({error}). Fix: copy or write the file again.') from error


def require_lists(content: Any, keys: Sequence[str], what: str, wanted: str) -> None:
    """Check that the content of a JSON file is an object with these lists of objects.

    Raises:
        ValueError: if it is not.
    """
    for key in keys:
        if not isinstance(content, Mapping) or not isinstance(content.get(key), list):
            found = f'the keys {sorted(content)}' if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(
                f'{what}: found {found}, expected an object with the lists {list(keys)}. Fix: set ann_file to {wanted}.'
            )
        for position, row in enumerate(content[key]):
            if not isinstance(row, dict):
                raise ValueError(
                    f'{what}: entry {position} of {key!r} is {row!r:.80}, expected an object. Fix: correct or remove '
                    'it.'
                )


def require_keys(row: Mapping, keys: Sequence[str], where: str, what: str) -> None:
    """Check that an object has all keys.

    Raises:
        ValueError: if it lacks one.
    """
    for key in keys:
        if key not in row:
            raise ValueError(f'{what}: {where} {row!r:.120} has no {key!r}, expected {list(keys)}. Fix: add it.')


def require_different(ids: Sequence, key: str, what: str) -> None:
    """Check that ids occur once.

    Raises:
        ValueError: if one does not.
    """
    twice = [number for number, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(
            f'{what}: ids {twice[:SHOWN]} occur more than once in {key!r}, expected different ones. '
            'Fix: give each its own id.'
        )
