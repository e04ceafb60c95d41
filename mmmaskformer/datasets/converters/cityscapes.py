"""Cityscapes: label maps with train ids, and panoptic files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmaskformer.datasets.converters.labels import (
    count_labels,
    ids_and_pixels,
    lookup_table,
    require_known_ids,
    require_same_size,
)
from mmmaskformer.datasets.converters.panoptic_parts import (
    category_rows,
    describe_panoptic,
    image_row,
)
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.searching import list_files, require_folder, require_pairs
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo, load_source_ids
from mmmaskformer.formats.coco_json import segment_row
from mmmaskformer.formats.label_maps import IGNORE_INDEX_8BIT, encode_label_map, read_label_map
from mmmaskformer.formats.panoptic_png import encode_ids

TITLE = 'Cityscapes'
FILES = 'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip'
ADDRESS = 'https://www.cityscapes-dataset.com/downloads (after registration)'
ROOT = 'data/cityscapes'
IMAGES = {'train': 2975, 'val': 500}
METAINFO = load_panoptic_metainfo('cityscapes_panoptic')
IDS = load_source_ids('cityscapes')
LABEL_OF_ID = {number: label for label, number in enumerate(IDS)}
TABLE = lookup_table(LABEL_OF_ID, IGNORE_INDEX_8BIT)
LAST_ID = 33
PER_INSTANCE = 1000
"""Instance files encode a pixel as id * 1000 + number, or as the id if there is no instance."""


def _find(root: Path, kind: str) -> list[tuple[str, str, Path, Path]]:
    """Split, name ('CITY/NAME'), image and annotation of the kind."""
    fix = f'download {FILES} from {ADDRESS} and unpack both in {root}'
    if not (root / 'gtFine').is_dir() and (root / 'gtCoarse').is_dir():
        raise ValueError(
            f'{TITLE}: {root} has the coarse annotations, gtCoarse, but no gtFine; expected the fine ones. Fix: {fix}.'
        )
    found = []
    for split in IMAGES:
        folders = (root / 'leftImg8bit' / split, root / 'gtFine' / split)
        for folder in folders:
            require_folder(folder, TITLE, fix)
        images = list_files(folders[0], '_leftImg8bit.png')
        labels = list_files(folders[1], f'_gtFine_{kind}.png')
        require_pairs(images, labels, TITLE, fix)
        found += [(split, name, path, labels.paths[name]) for name, path in images.paths.items()]
    return found


def find_semantic(source: Path, root: Path) -> list[Item]:
    """Find images and label maps with the publishers' ids."""
    return [
        Item(split, name, (image, labels), (f'gtFine/{split}/{name}_gtFine_labelTrainIds.png',))
        for split, name, image, labels in _find(root, 'labelIds')
    ]


def convert_semantic(item: Item) -> Outcome:
    """Replace the publishers' ids by train ids, as cityscapesScripts does."""
    image, path = item.sources
    ids = read_label_map(str(path))
    require_known_ids(ids, range(LAST_ID + 1), path, f'0 to {LAST_ID}, the ids of the label files')
    require_same_size(image, path, ids.shape)
    labels = TABLE[ids]
    return Outcome(count_labels(labels, len(IDS)), (encode_label_map(labels, wide=False),))


def find_panoptic(source: Path, root: Path) -> list[Item]:
    """Find images and instance maps."""
    return [
        Item(split, name, (image, path), (f'gtFine/cityscapes_panoptic_{split}/{_png_name(name)}',))
        for split, name, image, path in _find(root, 'instanceIds')
    ]


def _png_name(name: str) -> str:
    return f'{Path(name).name}_gtFine_panoptic.png'


def convert_panoptic(item: Item) -> Outcome:
    """Build the panoptic map of an image, with the segment ids of cityscapesScripts.

    Things without an instance number are crowds. Differs from cityscapesScripts: the JSON has the file names on disk.
    """
    image, path = item.sources
    pixels = read_label_map(str(path)).astype(np.int64)
    require_same_size(image, path, pixels.shape)
    semantic = np.where(pixels < PER_INSTANCE, pixels, pixels // PER_INSTANCE)
    require_known_ids(semantic, range(LAST_ID + 1), path, f'0 to {LAST_ID}, or such an id * 1000 + a number')
    ids, segments = np.zeros(pixels.shape, np.int64), []
    for number in ids_and_pixels(pixels)[0].tolist():
        category = number if number < PER_INSTANCE else number // PER_INSTANCE
        if category not in LABEL_OF_ID:
            continue
        mask = pixels == number
        ids[mask] = number
        is_crowd = number < PER_INSTANCE and METAINFO['isthing'][LABEL_OF_ID[category]]
        segments.append(segment_row(mask, number, category, is_crowd))
    counts = Counter(LABEL_OF_ID[row['category_id']] for row in segments)
    image_entry = image_row(Path(item.name).name, f'{item.name}_leftImg8bit.png', pixels.shape)
    entry = {'image': image_entry, 'file_name': _png_name(item.name), 'segments': segments}
    return Outcome(counts, (encode_ids(ids),), entry)


def describe(entries: Sequence[Any]) -> bytes:
    """The JSON file of a split."""
    return describe_panoptic(entries, category_rows(METAINFO))


SEMANTIC = Recipe(
    name='cityscapes',
    title=TITLE,
    address=ADDRESS,
    files=FILES,
    root=ROOT,
    source=None,
    classes=METAINFO['classes'],
    images=IMAGES,
    unit='pixels',
    find=find_semantic,
    convert=convert_semantic,
)
PANOPTIC = SEMANTIC._replace(
    name='cityscapes_panoptic',
    title='Cityscapes panoptic',
    unit='segments',
    find=find_panoptic,
    convert=convert_panoptic,
    json_files={split: f'gtFine/cityscapes_panoptic_{split}.json' for split in IMAGES},
    describe=describe,
)
