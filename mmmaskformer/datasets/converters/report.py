"""The report at the end of a preparation, and for a dataset that is already prepared."""

from mmmaskformer.datasets.converters.recipe import Recipe
from mmmaskformer.datasets.converters.records import Record
from mmmaskformer.formats.messages import some

MAX_NAME = 40
SHOWN = 8
"""Number of items that a message names."""


def report(recipe: Recipe, record: Record, root: object) -> str:
    """Format the numbers of images beside the published ones, and the pixels or segments of each class.

    Args:
        recipe: recipe of the dataset.
        record: record of the complete dataset.
        root: its folder.

    Returns:
        Lines of text.
    """
    splits = list(recipe.images)
    lines = [f'{recipe.title}: complete in {root}', '', _row('images', splits)]
    lines.append(_row('found', [f'{record.images.get(split, 0):,}' for split in splits]))
    lines.append(_row('published', [f'{recipe.images[split]:,}' for split in splits]))
    seen = {split: {label for label, count in record.counts.get(split, {}).items() if count} for split in splits}
    classes = len(recipe.classes)
    lines.append(_row('classes that occur', [f'{len(seen[split])} of {classes}' for split in splits]))
    lines += ['', _row(f'{recipe.unit} of each class', splits)]
    for label, name in enumerate(recipe.classes):
        counts = [f'{record.counts.get(split, {}).get(label, 0):,}' for split in splits]
        lines.append(_row(f'{label:>3} {name}', counts))
    return '\n'.join([*lines, '', *_remarks(recipe, record, seen)]).rstrip()


def _row(name: str, cells: list[str]) -> str:
    short = name if len(name) <= MAX_NAME else f'{name[: MAX_NAME - 3]}...'
    return f'{short:<{MAX_NAME}}' + ''.join(f'{cell:>20}' for cell in cells)


def _remarks(recipe: Recipe, record: Record, seen: dict[str, set[int]]) -> list[str]:
    """Differences from the published data."""
    remarks = []
    for split, published in recipe.images.items():
        found = record.images.get(split, 0)
        if found != published:
            remarks.append(f'{split} has {found:,} images; the published number is {published:,}.')
    first = next(iter(recipe.images))
    absent = [name for label, name in enumerate(recipe.classes) if label not in seen[first]]
    if absent:
        remarks.append(f'{len(absent)} classes have no {recipe.unit} in {first}: {some(absent, SHOWN)}.')
    return remarks
