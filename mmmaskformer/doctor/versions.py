"""Versions of packages, compared with the supported ranges."""

from __future__ import annotations

import re

from mmmaskformer.requirements import Requirement


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without suffix and trailing zeros: '2.10.0rc1+cu121' → (2, 10).

    Raises:
        ValueError: if the version does not start with a number.
    """
    match = re.match(r'\d+(\.\d+)*', version)
    if match is None:
        raise ValueError(f"version '{version}' was found; expected one that starts with a number, such as '2.1.0'")
    numbers = [int(number) for number in match[0].split('.')]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def fits(version: str, limits: Requirement) -> bool:
    """Whether a version is in the supported range."""
    old = limits.oldest is not None and release(version) < release(limits.oldest)
    return not old and (limits.too_new is None or release(version) < release(limits.too_new))


def in_words(limits: Requirement) -> str:
    """Describe a supported range, such as 'at least 2.1 and below 3'."""
    words = [f'at least {limits.oldest}' if limits.oldest else '', f'below {limits.too_new}' if limits.too_new else '']
    return ' and '.join(filter(None, words))
