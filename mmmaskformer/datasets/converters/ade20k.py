"""ADE20K with 150 classes (scene parsing benchmark), semantic and panoptic."""

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmaskformer.datasets.converters.labels import count_labels, ids_and_pixels, require_known_ids, require_same_size
from mmmaskformer.datasets.converters.panoptic_parts import (
    category_rows,
    describe_panoptic,
    id_of_colour,
    image_row,
)
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.searching import list_files, require_folder, require_pairs
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.formats.coco_json import segment_row
from mmmaskformer.formats.images import decode_picture, read_content
from mmmaskformer.formats.label_maps import read_label_map
from mmmaskformer.formats.panoptic_png import VOID_ID, encode_ids

TITLE = 'ADE20K'
FILES = 'ADEChallengeData2016.zip'
ADDRESS = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'
INSTANCE_FILES = 'annotations_instance.tar'
INSTANCE_ADDRESS = 'http://sceneparsing.csail.mit.edu/data/ChallengeData2017/annotations_instance.tar'
ROOT = 'data/ade/ADEChallengeData2016'
IMAGES = {'training': 20210, 'validation': 2000}
METAINFO = load_panoptic_metainfo('ade20k_panoptic')
PALETTE = np.array(METAINFO['palette'])
THINGS = [label for label, flag in enumerate(METAINFO['isthing']) if flag]
"""Labels of the things in the order in which the instance files number them, from 1."""
NUM_CLASSES = 150
SPREAD = 30
"""Largest deviation of an instance's colour from the colour of its class, in each channel."""


def find_semantic(source: Path, root: Path) -> list[Item]:
    """Find images and label maps; nothing needs to be converted."""
    pairs = _find_pairs(root)
    return [Item(split, name, (image, labels)) for split, name, image, labels in pairs]


def _find_pairs(root: Path) -> list[tuple[str, str, Path, Path]]:
    if (root / 'index_ade20k.mat').exists() or (root / 'index_ade20k.pkl').exists():
        raise ValueError(
            f'{TITLE}: {root} contains the full ADE20K (it has an index_ade20k file), expected the scene parsing '
            f'benchmark of 150 classes, {FILES}. Fix: download it from {ADDRESS}, or prepare ade20k_full.'
        )
    fix = f'download {FILES} from {ADDRESS} and unpack it in {root.parent}, which creates {root}'
    pairs = []
    for split in IMAGES:
        folders = (root / 'images' / split, root / 'annotations' / split)
        for folder in folders:
            require_folder(folder, TITLE, fix)
        images, labels = list_files(folders[0], '.jpg'), list_files(folders[1], '.png')
        require_pairs(images, labels, TITLE, fix)
        pairs += [(split, name, path, labels.paths[name]) for name, path in images.paths.items()]
    return pairs


def _read_semantic(image: Path, path: Path) -> np.ndarray:
    """(H, W) int64, 0 for unlabelled pixels, label + 1 for others."""
    labels = read_label_map(str(path))
    require_known_ids(labels, range(NUM_CLASSES + 1), path, '0 (unlabelled) to 150')
    require_same_size(image, path, labels.shape)
    return labels.astype(np.int64)


def check_semantic(item: Item) -> Outcome:
    """Check a label map and count its pixels."""
    labels = _read_semantic(*item.sources)
    return Outcome(count_labels(np.where(labels == 0, NUM_CLASSES, labels - 1), NUM_CLASSES))


SEMANTIC = Recipe(
    name='ade20k',
    title='ADE20K, 150 classes',
    address=ADDRESS,
    files=FILES,
    root=ROOT,
    source=None,
    classes=METAINFO['classes'],
    images=IMAGES,
    unit='pixels',
    find=find_semantic,
    convert=check_semantic,
)


def find_panoptic(source: Path, root: Path) -> list[Item]:
    """Find images, label maps and instance maps."""
    title = PANOPTIC.title
    fix = f'download {INSTANCE_FILES} from {INSTANCE_ADDRESS} and unpack it in {root}'
    instances = {}
    pairs = _find_pairs(root)
    for split in IMAGES:
        folder = root / 'annotations_instance' / split
        require_folder(folder, title, fix)
        instances[split] = list_files(folder, '.png')
        require_pairs(list_files(root / 'images' / split, '.jpg'), instances[split], title, fix)
    return [
        Item(
            split,
            name,
            (image, labels, instances[split].paths[name]),
            (f'{JSON_FILES[split].removesuffix(".json")}/{name}.png',),
        )
        for split, name, image, labels in pairs
    ]


def merge_semantic_and_instances(item: Item) -> Outcome:
    """Build the panoptic map of an image, as the published preparation does.

    Stuff comes from the semantic map, one segment for each class. Things from the instance map are drawn over it. Thing
    pixels without an instance are void. As published, area and box of stuff are those before things are drawn over it.
    """
    image, semantic_path, instance_path = item.sources
    labels = _read_semantic(image, semantic_path) - 1
    categories, numbers = _read_instances(instance_path, image)
    ids = np.zeros(labels.shape, np.int64)
    segments: list[dict] = []
    for label in ids_and_pixels(labels[labels >= 0])[0].tolist():
        if not METAINFO['isthing'][label]:
            _paste(ids, segments, labels == label, label, id_of_colour(PALETTE[label]))
    colours = InstanceColours(item.name)
    for number in ids_and_pixels(numbers[numbers > 0])[0].tolist():
        mask = numbers == number
        label = _thing_of(categories[mask], number, instance_path)
        _paste(ids, segments, mask, label, colours.next_id(label))
    counts = Counter(row['category_id'] for row in segments)
    image_entry = image_row(item.name, f'{item.name}.jpg', labels.shape)
    entry = {'image': image_entry, 'file_name': f'{item.name}.png', 'segments': segments}
    return Outcome(counts, (encode_ids(ids),), entry)


def _read_instances(path: Path, image: Path) -> tuple[np.ndarray, np.ndarray]:
    """Category (1 to 100) and instance number of each pixel, 0 for none; both (H, W) int64."""
    content = read_content(str(path), where=INSTANCE_FILES, what='instance file', expected='an RGB PNG')
    pixels, mode = decode_picture(content, str(path), what='instance file', expected='an RGB PNG')
    if mode != 'RGB':
        raise ValueError(
            f'{path}: found an image of Pillow mode {mode!r}, expected RGB: red is the category, green the instance '
            f'number. Fix: unpack {INSTANCE_FILES} again.'
        )
    require_same_size(image, path, pixels.shape[:2])
    require_known_ids(pixels[..., 0], range(len(THINGS) + 1), path, 'categories 0 (none) to 100 in the red channel')
    return pixels[..., 0].astype(np.int64), pixels[..., 1].astype(np.int64)


def _thing_of(categories: np.ndarray, number: int, path: Path) -> int:
    """Label of an instance, which must be the same in all its pixels."""
    found = np.unique(categories).tolist()
    if len(found) != 1 or found[0] == 0:
        raise ValueError(
            f'{path}: the pixels of instance {number} (green) have the categories {found} (red), expected one from 1 '
            f'to 100. Fix: the file is damaged; unpack {INSTANCE_FILES} again.'
        )
    return THINGS[found[0] - 1]


def _paste(ids: np.ndarray, segments: list[dict], mask: np.ndarray, label: int, number: int) -> None:
    ids[mask] = number
    segments.append(segment_row(mask, number, label))


class InstanceColours:
    """Assigns ids to the segments of an image; ids are colours close to those of the classes, as published.

    The first instance of a class gets the colour of the class, further ones get random colours close to it. Differs
    from the published preparation: they depend only on the name of the image, not on the images prepared before.

    Args:
        name: name of the image.
    """

    def __init__(self, name: str) -> None:
        self._rng = np.random.default_rng(zlib.crc32(name.encode()))
        stuff = [colour for colour, flag in zip(PALETTE, METAINFO['isthing'], strict=True) if not flag]
        self._taken = {VOID_ID, *map(id_of_colour, stuff)}

    def next_id(self, label: int) -> int:
        """A new id for an instance of a class."""
        number = id_of_colour(PALETTE[label])
        while number in self._taken:
            colour = PALETTE[label] + self._rng.integers(-SPREAD, SPREAD + 1, 3)
            number = id_of_colour(colour.clip(0, 255))
        self._taken.add(number)
        return number


def describe(entries: Sequence[Any]) -> bytes:
    """The JSON file of a split."""
    return describe_panoptic(entries, category_rows(METAINFO))


JSON_FILES = {'training': 'ade20k_panoptic_train.json', 'validation': 'ade20k_panoptic_val.json'}
PANOPTIC = SEMANTIC._replace(
    name='ade20k_panoptic',
    title='ADE20K panoptic',
    address=f'{ADDRESS} and {INSTANCE_ADDRESS}',
    files=f'{FILES} and {INSTANCE_FILES}',
    unit='segments',
    find=find_panoptic,
    convert=merge_semantic_and_instances,
    json_files=JSON_FILES,
    describe=describe,
)
