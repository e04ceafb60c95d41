"""The versions that this package supports, read from setup.cfg, the only place that declares them.

An installed package has no setup.cfg; its metadata contain the same lines. Imports only the standard library, for the
doctor.
"""

# so that an interpreter that is too old can import this file for the doctor, which reports it
from __future__ import annotations

import re
from configparser import ConfigParser
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

SETUP = Path(__file__).resolve().parents[1] / 'setup.cfg'


class Requirement(NamedTuple):
    """The supported versions of one distribution, or of Python itself.

    Attributes:
        name: such as 'mmengine', or 'python'.
        oldest: the oldest version that works, such as '0.10'; None if any does.
        too_new: the first version that does not work, such as '0.11'; None if none is known.
        extra: the extra that requires it, such as 'mim'; None if the package itself does.
    """

    name: str
    oldest: str | None
    too_new: str | None
    extra: str | None

    def __str__(self) -> str:
        """The requirement in pip's syntax, such as 'mmengine>=0.10,<0.11'."""
        limits = [f'>={self.oldest}' if self.oldest else '', f'<{self.too_new}' if self.too_new else '']
        return self.name + ','.join(filter(None, limits))


@lru_cache(maxsize=1)
def requirements() -> dict[str, Requirement]:
    """All requirements in setup.cfg, by name; 'python' is the interpreter."""
    if SETUP.is_file():
        return from_setup_file(SETUP)
    return from_metadata(metadata.metadata('mmmaskformer'))


def from_setup_file(path: Path) -> dict[str, Requirement]:
    """Read a setup.cfg.

    Args:
        path: of the file.

    Returns:
        Name → requirement.
    """
    setup = ConfigParser()
    setup.read(path, encoding='utf-8')
    found = {'python': parse('python' + setup['options']['python_requires'])}
    lines = [(line, None) for line in setup['options']['install_requires'].splitlines()]
    for extra, text in setup['options.extras_require'].items():
        lines += [(line, extra) for line in text.splitlines()]
    return found | _by_name(lines)


def from_metadata(fields) -> dict[str, Requirement]:
    """Read the metadata of the installed package.

    Args:
        fields: result of `importlib.metadata.metadata`.

    Returns:
        Name → requirement.
    """
    lines = []
    for text in fields.get_all('Requires-Dist') or []:
        line, _, marker = text.partition(';')
        extra = re.search(r'extra\s*==\s*["\'](\w+)', marker)
        lines.append((line, extra[1] if extra else None))
    return {'python': parse('python' + fields['Requires-Python'])} | _by_name(lines)


def _by_name(lines: list[tuple[str, str | None]]) -> dict[str, Requirement]:
    """Requirements by name; those of the package itself take precedence over those of extras."""
    found = {}
    for line, extra in lines:
        if line.strip() and not line.strip().startswith('#'):
            requirement = parse(line, extra)
            found.setdefault(requirement.name, requirement)
    return found


def parse(text: str, extra: str | None = None) -> Requirement:
    """Read one requirement.

    Args:
        text: a name with lower and upper limits in any order, such as 'mmengine<0.11,>=0.10'.
        extra: the extra that requires it.

    Returns:
        The requirement.

    Raises:
        ValueError: if the line has another form, such as '~=1.0'.
    """
    match = re.fullmatch(r'\s*([\w.-]*\w)\s*((?:>=|<)\s*[\d.]+)?\s*,?\s*((?:>=|<)\s*[\d.]+)?\s*', text)
    if match is None:
        raise ValueError(f"requirement '{text}': expected NAME, NAME>=A, NAME<B or NAME>=A,<B")
    limits = dict(re.findall(r'(>=|<)\s*([\d.]+)', text))
    return Requirement(match[1], limits.get('>='), limits.get('<'), extra)
