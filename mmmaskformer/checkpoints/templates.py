"""Templates of weight names with indices, such as ``layers.{d}.norm.{wb}``: matching and filling.

A field is one of

- an index: ``l`` pyramid level, finest first; ``d`` and ``e`` decoder and encoder layer; ``s`` stage and ``b`` block of
  the backbone; ``c`` convolution; ``m`` linear layer. All count from 0. A digit after the letter is an offset, so
  ``{s1}`` is the stage counted from 1. ``{r}`` is the level counted from the coarsest one.
- ``wb``: weight or bias. ``bn``: the four tensors of a batch norm.
- names separated by commas, ``{q,k,v}``: parts of one tensor, concatenated along the first dimension.
"""

import re
from functools import cached_property
from typing import NamedTuple

Indices = dict[str, int | str]
"""Values of the fields of a name: indices counted from 0, and names."""

NAMES = {'wb': ('weight', 'bias'), 'bn': ('weight', 'bias', 'running_mean', 'running_var')}
FIELD = re.compile(r'\{([^}]*)\}')


class Match(NamedTuple):
    """A parsed name.

    Attributes:
        indices: values of its fields.
        part: index among the parts of a tensor; 0 for a complete one.
    """

    indices: Indices
    part: int


class Template:
    """A name with fields.

    Args:
        text: see the docstring of the module.
    """

    def __init__(self, text: str):
        self.text = text
        self.fields = FIELD.findall(text)
        self.parts: tuple[str, ...] = next((tuple(f.split(',')) for f in self.fields if ',' in f), ())

    def __repr__(self) -> str:
        return f'Template({self.text!r})'

    @cached_property
    def _pattern(self) -> re.Pattern:
        pieces = FIELD.split(self.text)
        # The odd pieces are fields.
        return re.compile(''.join(_group(p) if i % 2 else re.escape(p) for i, p in enumerate(pieces)))

    def match(self, name: str, levels: int = 0) -> Match | None:
        """Parse a name.

        Args:
            name: a complete name.
            levels: number of lateral levels, for ``{r}``.

        Returns:
            The match; None if the name does not fit the template.
        """
        found = self._pattern.fullmatch(name)
        if found is None:
            return None
        indices: Indices = {}
        part = 0
        for field, value in zip(self.fields, found.groups(), strict=True):
            if ',' in field:
                part = self.parts.index(value)
            elif field in NAMES:
                indices[field] = value
            elif field == 'r':
                indices['l'] = levels - 1 - int(value)
            else:
                indices[field[0]] = int(value) - _offset(field)
        return Match(indices, part)

    def fill(self, indices: Indices, levels: int = 0) -> tuple[str, ...]:
        """The name with these indices, or the names of its parts.

        Args:
            indices: values of all fields.
            levels: number of lateral levels, for ``{r}``.
        """
        return tuple(self._fill(indices, levels, part) for part in self.parts or ('',))

    def _fill(self, indices: Indices, levels: int, part: str) -> str:
        def value(field: re.Match) -> str:
            name = field[1]
            if ',' in name:
                return part
            if name in NAMES:
                return str(indices[name])
            if name == 'r':
                return str(levels - 1 - int(indices['l']))
            return str(int(indices[name[0]]) + _offset(name))

        return FIELD.sub(value, self.text)


def _group(field: str) -> str:
    if ',' in field:
        return f'({"|".join(map(re.escape, field.split(",")))})'
    return f'({"|".join(NAMES[field])})' if field in NAMES else r'(\d+)'


def _offset(field: str) -> int:
    return int(field[1:] or 0)
