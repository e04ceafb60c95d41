"""Mapillary Vistas v1.2: the publishers' files, checked but not converted."""

from pathlib import Path

from mmmaskformer.datasets.converters.labels import count_labels, require_known_ids, require_same_size
from mmmaskformer.datasets.converters.panoptic_files import check_panoptic, item_of, read_split
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.searching import list_files, require_file, require_folder, require_pairs
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.formats.json_files import read_json
from mmmaskformer.formats.label_maps import read_label_map

TITLE = 'Mapillary Vistas v1.2'
FILES = 'mapillary-vistas-dataset_public_v1.2.zip'
ADDRESS = 'https://www.mapillary.com/dataset/vistas (after registration)'
ROOT = 'data/mapillary'
IMAGES = {'training': 18000, 'validation': 2000}
METAINFO = load_panoptic_metainfo('mapillary_panoptic')
NAMES = (*METAINFO['classes'], 'Unlabeled')
PANOPTIC_JSON = 'panoptic_2018.json'


def _fix(root: Path) -> str:
    return f'download {FILES} from {ADDRESS} and unpack it in {root}'


def _require_release(root: Path) -> None:
    """Raise unless the folder contains release 1.2."""
    require_folder(root, TITLE, _fix(root))
    if (root / 'config_v2.0.json').exists() or (root / 'training' / 'v2.0').exists():
        parts = '{training,validation}'
        raise ValueError(
            f'{TITLE}: {root} contains release 2.0 (config_v2.0.json or training/v2.0), expected 1.2, since release '
            f'2.0 has 124 labels. Fix: {_fix(root)}; or, if release 2.0 includes the labels of 1.2, move the content '
            f'of {root}/{parts}/v1.2 to {root}/{parts}, rename config_v1.2.json to config.json, and remove '
            f'{parts}/v2.0 and config_v2.0.json.'
        )
    require_file(root / 'config.json', TITLE, _fix(root))
    path = root / 'config.json'
    content = read_json(str(path), None, 'the list of labels', f'label list {path}')
    labels = content.get('labels') if isinstance(content, dict) else None
    names = [row.get('readable') for row in labels if isinstance(row, dict)] if isinstance(labels, list) else []
    if names != list(NAMES):
        first = next((pair for pair in zip(names, NAMES, strict=False) if pair[0] != pair[1]), None)
        detail = '' if first is None else f'; the first difference is {first[0]!r}, expected {first[1]!r}'
        raise ValueError(
            f'{path}: lists {len(names)} labels{detail}. Expected the {len(NAMES)} of release 1.2. Fix: {_fix(root)}.'
        )


def find_semantic(source: Path, root: Path) -> list[Item]:
    """Find images and label maps; nothing needs to be converted."""
    _require_release(root)
    items = []
    for split in IMAGES:
        folders = (root / split / 'images', root / split / 'labels')
        for folder in folders:
            require_folder(folder, TITLE, _fix(root))
        images, labels = list_files(folders[0], '.jpg'), list_files(folders[1], '.png')
        require_pairs(images, labels, TITLE, _fix(root))
        items += [Item(split, name, (path, labels.paths[name])) for name, path in images.paths.items()]
    return items


def check_semantic(item: Item) -> Outcome:
    """Check a label map and count its pixels; the last label is "Unlabeled"."""
    image, path = item.sources
    labels = read_label_map(str(path))
    require_known_ids(labels, range(len(NAMES)), path, f'0 to {len(NAMES) - 1}, the labels of release 1.2')
    require_same_size(image, path, labels.shape)
    return Outcome(count_labels(labels, len(NAMES) - 1))


def find_panoptic(source: Path, root: Path) -> list[Item]:
    """Find the images of the JSON files."""
    _require_release(root)
    items = []
    for split in IMAGES:
        folders = (root / split / 'images', root / split / 'panoptic')
        for folder in folders:
            require_folder(folder, PANOPTIC.title, _fix(root))
        require_file(folders[1] / PANOPTIC_JSON, PANOPTIC.title, _fix(root))
        images, masks = list_files(folders[0], '.jpg'), list_files(folders[1], '.png')
        require_pairs(images, masks, PANOPTIC.title, _fix(root))
        content, labels = read_split(folders[1] / PANOPTIC_JSON, METAINFO)
        items += [item_of(split, row, content.annotations[row['id']], labels, folders) for row in content.images]
    return items


SEMANTIC = Recipe(
    name='mapillary',
    title=TITLE,
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
PANOPTIC = SEMANTIC._replace(
    name='mapillary_panoptic',
    title='Mapillary Vistas v1.2 panoptic',
    unit='segments',
    find=find_panoptic,
    convert=check_panoptic,
)
