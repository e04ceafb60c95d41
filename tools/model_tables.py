"""Write the table of models in the README of each folder of configs from its metafile.yml.

python tools/model_tables.py            # rewrite what is out of date
python tools/model_tables.py --check    # exit 1 if something is
"""

import argparse
import sys
from pathlib import Path

from mmengine.fileio import load

from mmmaskformer.formats.whole_files import write_whole

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
BEGIN, END = '<!-- written by tools/model_tables.py from metafile.yml -->', '<!-- end of the table -->'
PAPER = ' of the paper'
COLUMNS = {'Crop Size': 'crop', 'Batch Size': 'batch', 'Iterations': 'iterations'}
"""Metadata keys with a column of their own, and its heading."""


def table(models: list[dict]) -> str:
    """A Markdown table of the models of a metafile.

    Args:
        models: its entries, in the order of the rows.

    Returns:
        Lines joined by newlines. Columns: backbone, model (if there are others than MaskFormer), crop, batch,
        iterations, parameters, FLOPs, each metric, config, zoo name. Empty columns are omitted.
    """
    metrics = list(dict.fromkeys(name for model in models for name in _metrics(model)))
    header = [
        'backbone',
        'model',
        *COLUMNS.values(),
        'parameters',
        'FLOPs',
        *metrics,
        'config',
        'name in the zoo of the paper',
    ]
    rows = [_row(model, metrics) for model in models]
    if all(row[1] == 'MaskFormer' for row in rows):
        rows = [[row[0], '', *row[2:]] for row in rows]
    filled = [index for index in range(len(header)) if any(row[index] for row in rows)]
    lines = [[header[index] for index in filled], ['---'] * len(filled)]
    lines += [[row[index] or '–' for index in filled] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _row(model: dict, metrics: list[str]) -> list[str]:
    metadata = model['Metadata']
    values = _metrics(model)
    sizes = [_beside_the_paper(metadata, key) for key in ('Parameters', 'FLOPs')]
    file = Path(model['Config']).name
    return [
        metadata['Architecture'][0],
        ', '.join(metadata['Architecture'][1:]),
        *(str(metadata.get(key, '')) for key in COLUMNS),
        *sizes,
        *(str(values.get(name, '')) for name in metrics),
        f'[config]({file})',
        metadata.get('Zoo Name', ''),
    ]


def _metrics(model: dict) -> dict[str, float]:
    """Results by name; those of the paper are marked."""
    results = model.get('Results', [])
    return {name.replace(PAPER, ' (paper)'): value for result in results for name, value in result['Metrics'].items()}


def _beside_the_paper(metadata: dict, key: str) -> str:
    ours, published = metadata.get(key, ''), metadata.get(key + PAPER)
    return f'{ours} (paper {published})' if published else str(ours)


def updated(readme: Path) -> str:
    """The text of the README with the current table of its metafile.

    Raises:
        ValueError: if the README has no place for the table.
    """
    text = readme.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'{readme}: found no place for the table, expected the lines {BEGIN!r} and {END!r}')
    models = load(readme.with_name('metafile.yml'))['Models']
    return f'{before}{BEGIN}\n\n{table(models)}\n\n{END}{after}'


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing')
    parser.add_argument('--configs', type=Path, default=CONFIGS, help='folder of the families (default: of the clone)')
    args = parser.parse_args(arguments)
    stale = []
    for readme in sorted(args.configs.glob('*/README.md')):
        text = updated(readme)
        if text != readme.read_text(encoding='utf-8'):
            stale.append(readme)
            if not args.check:
                write_whole(readme, text)
    for readme in stale:
        print(f'{readme}: {"out of date. Fix: run python tools/model_tables.py" if args.check else "written"}')
    return 1 if stale and args.check else 0


if __name__ == '__main__':
    sys.exit(main())
