"""What a table of names is made of."""

from typing import NamedTuple

from mmmaskformer.checkpoints.templates import Match, Template

KINDS = ('mask', 'per pixel', 'per pixel plus')
"""Kinds of heads: mask classification, and the two per-pixel baselines of the paper."""

Rows = tuple[tuple[str, str], ...]
"""Neutral name and name in the package, without prefixes."""


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        neutral: name in no package.
        theirs: name in the package.
        merges: whether the 4 C inputs of Swin's patch merging are in the order of Swin's authors there: pixels (0, 0),
            (1, 0), (0, 1), (1, 1), each with C channels. The neutral order is that of `torch.nn.Unfold`: channels,
            each with its pixels row by row.
    """

    neutral: Template
    theirs: Template
    merges: bool


class Made(NamedTuple):
    """A tensor that follows from the architecture: not read, and computed when it is written.

    Attributes:
        theirs: name in the package.
        kind: what computes it, see `mmmaskformer.checkpoints.made`.
        reason: why it is not read.
    """

    theirs: Template
    kind: str
    reason: str


class Choice(NamedTuple):
    """Rows of which a model has one set or the other.

    Attributes:
        theirs: name in the package that only models with ``rows`` have.
        neutral: its neutral name.
        rows: if that name is there.
        otherwise: if it is not.
    """

    theirs: str
    neutral: str
    rows: tuple[Row, ...]
    otherwise: tuple[Row, ...]


class Names(NamedTuple):
    """The names of one package.

    Attributes:
        title: of the model, for messages.
        rows: those of any model.
        choices: rows that only some models have.
        made: tensors that follow from the architecture.
        aliases: beginnings of names that are spelt otherwise in some files, with the spelling of the table.
        open_backbone: whether the package takes backbones that no table knows. Their names begin with ``backbone.`` or
            ``neck.`` and are the same in MMSegmentation, MMDetection and here.
        kinds: of heads that it has, see `KINDS`.
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
            names: of its weights.
            neutral: whether they are neutral names; else those of the package.
        """
        chosen = self.rows
        for choice in self.choices:
            chosen += choice.rows if (choice.neutral if neutral else choice.theirs) in names else choice.otherwise
        return chosen


class Found(NamedTuple):
    """A row and how a name fits it."""

    row: Row
    match: Match


def find_row(rows: tuple[Row, ...], name: str, *, neutral: bool, levels: int = 0) -> Found | None:
    """The first row that a name fits; later ones may be more general.

    Args:
        rows: to look through.
        name: a whole name.
        neutral: whether it is a neutral name; else one of the package.
        levels: number of lateral levels.
    """
    for row in rows:
        match = (row.neutral if neutral else row.theirs).match(name, levels)
        if match is not None:
            return Found(row, match)
    return None


def table(rows: Rows, head: str = '', backbone: str = 'backbone.', merges: bool = False) -> tuple[Row, ...]:
    """Rows with prefixes.

    Args:
        rows: of neutral names, those of the backbone beginning with ``backbone.``, and names in the package.
        head: prefix of the names of the head in the package.
        backbone: prefix of those of the backbone.
        merges: see `Row`; for the rows of the patch merging only.
    """
    return tuple(
        Row(
            Template(neutral),
            Template((backbone if neutral.startswith('backbone.') else head) + theirs),
            merges and '{s}.downsample.' in neutral,
        )
        for neutral, theirs in rows
    )
