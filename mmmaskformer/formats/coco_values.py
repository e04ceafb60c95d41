"""Single values of annotation files: lenient reading of numbers and flags, and a count of deviations."""

from typing import Any


class Notes:
    """Counts accepted deviations from a format, with the position of the first one of each kind.

    Args:
        origin: the file, for messages.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._found: dict[str, list] = {}

    def add(self, kind: str, where: str) -> None:
        """Count a deviation.

        Args:
            kind: description of the deviation and its treatment, in the plural.
            where: its position; stored for the first one only.
        """
        where = where.removeprefix(f'{self._origin}: ')
        self._found.setdefault(kind, [where, 0])[1] += 1

    def lines(self) -> list[str]:
        """One line for each kind: its number, description and first position."""
        return [f'{self._origin}: {count} {kind}; the first: {where}' for kind, (where, count) in self._found.items()]


def as_whole(value: Any) -> int | None:
    """A whole number that may be written as 3, 3.0 or '3'; None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None


def as_number(value: Any, key: str, where: str, notes: Notes) -> int:
    """A whole number, such as an id.

    Raises:
        ValueError: if the value is not a whole number.
    """
    number = as_whole(value)
    if number is None:
        raise ValueError(f'{where}: {key!r} is {value!r:.80}, expected a whole number. Fix: correct it.')
    if type(value) is not int:
        notes.add(f'values of {key!r} written as {type(value).__name__}, read as whole numbers', where)
    return number


def as_size(value: Any, key: str, where: str, notes: Notes) -> int:
    """A number of pixels.

    Raises:
        ValueError: if it is not a whole number above 0.
    """
    number = as_whole(value)
    if number is None or number < 1:
        raise ValueError(
            f'{where}: {key!r} is {value!r:.80}, expected a number of pixels, at least 1. Fix: write the size of the '
            'image file.'
        )
    return as_number(value, key, where, notes)


def as_flag(value: Any, key: str, where: str, notes: Notes) -> bool:
    """A flag, which may be written as 1, true, 1.0 or '1'.

    Raises:
        ValueError: if it is neither 0 nor 1.
    """
    if isinstance(value, bool):
        return value
    number = as_whole(value)
    if number not in (0, 1):
        raise ValueError(f'{where}: {key!r} is {value!r:.80}, expected 0 or 1. Fix: correct it.')
    if type(value) is not int:
        notes.add(f'values of {key!r} written as {type(value).__name__}, read as 0 or 1', where)
    return bool(number)
