"""The parts of a table of names."""

from typing import NamedTuple

from mmmaskformer.checkpoints.templates import Match, Template

KINDS = ('mask', 'per pixel', 'per pixel plus')
"""Kinds of heads: mask classification, and the two per-pixel baselines of the paper."""

Rows = tuple[tuple[str, str], ...]
"""Neutral name and name in the package, without prefixes."""


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        neutral: neutral name.
        theirs: name in the package.
        merges: whether the package orders the 4 C inputs of Swin's patch merging as Swin's authors do: pixels (0, 0),
            (1, 0), (0, 1), (1, 1), each with C channels. The neutral order is that of `torch.nn.Unfold`: channels,
            each with its pixels row by row.
    """

    neutral: Template
    theirs: Template
    merges: bool


class Made(NamedTuple):
    """A tensor that follows from the architecture: skipped on reading, computed on writing.

    Attributes:
        theirs: name in the package.
        kind: how it is computed, see `mmmaskformer.checkpoints.made`.
        reason: why it is skipped.
    """

    theirs: Template
    kind: str
    reason: str


class Choice(NamedTuple):
    """Two alternative sets of rows.

    Attributes:
        theirs: name in the package that only models with ``rows`` have.
        neutral: its neutral name.
        rows: the rows if that name is present.
        otherwise: the rows if it is absent.
    """

    theirs: str
    neutral: str
    rows: tuple[Row, ...]
    otherwise: tuple[Row, ...]


class Names(NamedTuple):
    """The names of one package.

    Attributes:
        title: the model in words, for messages.
        rows: rows of every model.
        choices: rows of some models only.
        made: tensors that follow from the architecture.
        aliases: alternative prefixes of names in some files, with the prefix in the table.
        open_backbone: whether the package accepts backbones without a table. Their names begin with ``backbone.`` or
            ``neck.`` and are the same in MMSegmentation, MMDetection and here.
        kinds: the kinds of heads that it supports, see `KINDS`.
    """

    title: str
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
    made: tuple[Made, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    open_backbone: bool = False
    kinds: tuple[str, ...] = KINDS[:1]

    def rows_of(self, names, neutral: bool) -> tuple[Row, ...]:
        """The rows of a model.

        Args:
            names: names of its weights.
            neutral: whether they are neutral names; otherwise they are the package's.
        """
        chosen = self.rows
        for choice in self.choices:
            chosen += choice.rows if (choice.neutral if neutral else choice.theirs) in names else choice.otherwise
        return chosen


class Found(NamedTuple):
    """A row and the match of a name with it."""

    row: Row
    match: Match


def find_row(rows: tuple[Row, ...], name: str, *, neutral: bool, levels: int = 0) -> Found | None:
    """The first row that matches a name; later rows may be more general.

    Args:
        rows: rows to search.
        name: a complete name.
        neutral: whether it is a neutral name; otherwise it is the package's.
        levels: number of lateral levels.
    """
    for row in rows:
        match = (row.neutral if neutral else row.theirs).match(name, levels)
        if match is not None:
            return Found(row, match)
    return None


def table(rows: Rows, head: str = '', backbone: str = 'backbone.', merges: bool = False) -> tuple[Row, ...]:
    """Build rows from pairs of names and prefixes.

    Args:
        rows: neutral names, which begin with ``backbone.`` for the backbone, and names in the package.
        head: prefix of the head's names in the package.
        backbone: prefix of the backbone's names in the package.
        merges: see `Row`; applies to the rows of the patch merging only.
    """
    return tuple(
        Row(
            Template(neutral),
            Template((backbone if neutral.startswith('backbone.') else head) + theirs),
            merges and '{s}.downsample.' in neutral,
        )
        for neutral, theirs in rows
    )
