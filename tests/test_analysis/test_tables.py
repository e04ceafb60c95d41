"""Tables as Markdown and CSV."""

import csv

from mmmaskformer.analysis.tables import csv_table, markdown_table, write_tables

HEADER, ROWS = ['name', 'mIoU', 'n'], [['a|b', 12.3456, 3], ['c', float('nan'), None]]


def test_markdown_rounds_and_escapes():
    lines = ['| name | mIoU | n |', '| --- | --- | --- |', r'| a\|b | 12.35 | 3 |', '| c | - | - |']
    assert markdown_table(HEADER, ROWS) == '\n'.join(lines) + '\n'


def test_csv_keeps_all_digits_and_leaves_undefined_cells_empty():
    assert list(csv.reader(csv_table(HEADER, ROWS).splitlines())) == [HEADER, ['a|b', '12.3456', '3'], ['c', '', '']]


def test_a_dash_is_a_name_and_a_line_break_breaks_no_table():
    assert list(csv.reader(csv_table(['name'], [['-'], [None]]).splitlines())) == [['name'], ['-'], ['']]
    assert markdown_table(['name'], [['a\nb']]).splitlines()[2] == '| a b |'


def test_both_files_are_written(tmp_path):
    files = write_tables(tmp_path / 'new' / 'table', HEADER, ROWS, 'A title')
    assert [file.name for file in files] == ['table.md', 'table.csv']
    assert files[0].read_text() == 'A title\n\n' + markdown_table(HEADER, ROWS)
