"""docs/datasets.md agrees with the recipes."""

import re

import pytest
from helpers.fresh import ROOT
from helpers.prepared import DATA_SETS

from mmmaskformer.datasets.converters.recipes import RECIPES

PAGE = (ROOT / 'docs/datasets.md').read_text(encoding='utf-8')
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r'^\| \[`(\w+)`\]\(#\w+\) \| (.*) \| (.*) \| (.*) \| (.*) \| (.*) \|$', PAGE, re.M)
}


def section(name: str) -> str:
    return PAGE.split(f'\n## {name}\n')[1].split('\n## ')[0]


def test_every_dataset_has_a_row():
    assert list(ROWS) == list(RECIPES) == list(DATA_SETS)


@pytest.mark.parametrize('name', list(RECIPES))
def test_numbers_addresses_and_places(name):
    recipe, (_, classes, _, images, base) = RECIPES[name], ROWS[name]
    assert sum(map(int, re.findall(r'\d+', classes))) == len(recipe.classes)
    assert images == ', '.join(f'{number:,}' for number in recipe.images.values())
    settings = (ROOT / 'configs/_base_/datasets' / base.strip('`')).read_text()
    assert f"data_root='{recipe.root}'" in settings and f'num_classes = {len(recipe.classes)}\n' in settings

    text = section(name)
    assert f'mmmaskformer data prepare {name}\n' in text and f'{recipe.root}/' in text
    if name.endswith('_panoptic') and name != 'coco_panoptic':  # the section begins with that of the semantic data
        text += section(name.removesuffix('_panoptic'))
    for address in re.findall(r'https?://[^\s()]+', recipe.address):
        assert address in text or address.startswith('http://images.cocodataset.org')
    for archive in re.findall(r'[\w.-]+\.(?:zip|tar)', recipe.files):
        assert archive in text
