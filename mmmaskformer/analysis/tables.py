"""Tables as Markdown and as CSV, from one header and one list of rows."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from mmmaskformer.formats.whole_files import write_whole

Cell = str | int | float | None
"""None and NaN are undefined: '-' in Markdown, empty in CSV."""


def text_of(cell: Cell, digits: int = 2) -> str:
    """Format a cell for display: floats are rounded, undefined values are '-'."""
    if _is_undefined(cell):
        return '-'
    return f'{cell:.{digits}f}' if isinstance(cell, float) else str(cell)


def _is_undefined(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table in Markdown; a vertical bar within a cell is escaped, a line break is a blank."""
    lines = [header, ['---'] * len(header), *([text_of(cell) for cell in row] for row in rows)]
    plain = [[' '.join(cell.splitlines()).replace('|', r'\|') for cell in line] for line in lines]
    return ''.join(f'| {" | ".join(line)} |\n' for line in plain)


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV, floats with all their digits."""
    stream = io.StringIO()
    undefined = [['' if _is_undefined(cell) else cell for cell in row] for row in rows]
    csv.writer(stream, lineterminator='\n').writerows([header, *undefined])
    return stream.getvalue()


def write_tables(stem: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]], title: str) -> list[Path]:
    """Write STEM.md and STEM.csv, each atomically.

    Args:
        stem: path without suffix; its folder is created.
        header: titles of the columns.
        rows: one cell for each column.
        title: a line above the table in Markdown.

    Returns:
        The two files.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f'{stem.name}.md'), stem.with_name(f'{stem.name}.csv')]
    write_whole(files[0], f'{title}\n\n{markdown_table(header, rows)}')
    write_whole(files[1], csv_table(header, rows))
    return files
