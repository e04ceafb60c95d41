"""Prepares the trees of `helpers.published` and gives the config settings of the prepared datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.published import SIZE, Tree, write_map, write_photo
from mmmaskformer.datasets.converters.engine import Prepared, prepare
from mmmaskformer.datasets.converters.recipe import Recipe
from mmmaskformer.datasets.converters.recipes import RECIPES


class DataSet(NamedTuple):
    """The settings with which a config uses a prepared dataset.

    Attributes:
        type: of the dataset.
        splits: training and validation split, by their published names.
        prefix: ``data_prefix`` of a split.
        ann_file: of a split; None for semantic data.
    """

    type: str
    splits: tuple[str, str]
    prefix: Callable[[str], dict]
    ann_file: Callable[[str], str] | None = None


def _two(img: str, seg: str, keys: tuple[str, str] = ('img_path', 'seg_map_path')) -> Callable[[str], dict]:
    return lambda split: dict(zip(keys, (img.format(split), seg.format(split)), strict=True))


PANOPTIC_KEYS = ('img', 'seg')
ADE_SPLITS, CITY_SPLITS = ('training', 'validation'), ('train', 'val')
SHORT = {'training': 'train', 'validation': 'val'}
DATA_SETS = {
    'ade20k': DataSet('ADE20KDataset', ADE_SPLITS, _two('images/{}', 'annotations/{}')),
    'ade20k_full': DataSet('ADE20KFullDataset', ADE_SPLITS, _two('images/{}', 'annotations/{}')),
    'cocostuff10k': DataSet('COCOStuff10KDataset', ('train', 'test'), _two('images/{}2014', 'annotations/{}2014')),
    'cityscapes': DataSet('CityscapesDataset', CITY_SPLITS, _two('leftImg8bit/{}', 'gtFine/{}')),
    'mapillary': DataSet('MapillaryDataset', ADE_SPLITS, _two('{}/images', '{}/labels')),
    'coco_panoptic': DataSet(
        'CocoPanopticDataset',
        ('train2017', 'val2017'),
        _two('{}', 'annotations/panoptic_{}', PANOPTIC_KEYS),
        'annotations/panoptic_{}.json'.format,
    ),
    'ade20k_panoptic': DataSet(
        'ADE20KPanopticDataset',
        ADE_SPLITS,
        lambda split: dict(img=f'images/{split}', seg=f'ade20k_panoptic_{SHORT[split]}'),
        lambda split: f'ade20k_panoptic_{SHORT[split]}.json',
    ),
    'cityscapes_panoptic': DataSet(
        'CityscapesPanopticDataset',
        CITY_SPLITS,
        _two('leftImg8bit/{}', 'gtFine/cityscapes_panoptic_{}', PANOPTIC_KEYS),
        'gtFine/cityscapes_panoptic_{}.json'.format,
    ),
    'mapillary_panoptic': DataSet(
        'MapillaryPanopticDataset',
        ADE_SPLITS,
        _two('{}/images', '{}/panoptic', PANOPTIC_KEYS),
        '{}/panoptic/panoptic_2018.json'.format,
    ),
}


def settings_of(tree: Tree, split: str) -> dict:
    """Settings of the dataset of a prepared split, without pipeline."""
    data = DATA_SETS[tree.name]
    named = {} if data.ann_file is None else {'ann_file': data.ann_file(split)}
    # serialising the data runs the garbage collector, which takes longer than everything else
    settings = dict(data_root=str(tree.root), data_prefix=data.prefix(split), serialize_data=False)
    return dict(type=f'mmmaskformer.{data.type}', **settings) | named


def visible(root: Path) -> dict[str, bytes]:
    """Contents of all files except those in hidden folders."""
    files = (path for path in root.rglob('*') if path.is_file())
    names = {str(path.relative_to(root)): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith('.')}


def prepare_part(tree: Tree, recipe: Recipe | None = None, **kwargs) -> Prepared:
    """Prepare a tree, in this process unless ``workers`` is given."""
    recipe = recipe or RECIPES[tree.name]
    return prepare(recipe, tree.root, tree.source, partial_set=True, **{'workers': 1} | kwargs)


def more_of_cityscapes(tree: Tree, count: int) -> None:
    """Add training images, so that there are enough for several processes."""
    for number in range(100, 100 + count):
        start = f'train/aachen/aachen_000000_{number:06d}'
        write_photo(tree.root / f'leftImg8bit/{start}_leftImg8bit.png', seed=number)
        write_map(tree.root / f'gtFine/{start}_gtFine_labelIds.png', np.full(SIZE, 7))
        write_map(tree.root / f'gtFine/{start}_gtFine_instanceIds.png', np.full(SIZE, 26000 + number), np.uint16)
        write_map(tree.root / f'gtFine/{start}_gtFine_color.png', np.zeros((*SIZE, 4)))
