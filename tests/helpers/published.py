"""Tiny datasets in the on-disk formats in which they are published, with the expected result of their preparation."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy.io
from PIL import Image

from mmmaskformer.datasets.metainfo import load_metainfo, load_panoptic_metainfo, load_source_ids

SIZE = (48, 72)
IGNORED = -1
"""Ignored pixels in the true labels below; files use 255, 65535 or another value of their publisher."""


class Truth(NamedTuple):
    """Ground truth of an image.

    Attributes:
        labels: (H, W) int64, -1 where ignored or void.
        segments: (label, area, iscrowd) of each segment, sorted; empty for semantic data.
    """

    labels: np.ndarray
    segments: tuple[tuple[int, int, bool], ...] = ()


class Tree(NamedTuple):
    """A dataset as it is published.

    Attributes:
        name: for `mmmaskformer data prepare`.
        source: folder where it is unpacked; None for the root.
        root: folder where it is prepared.
        truth: ground truth by split and image name.
    """

    name: str
    source: Path | None
    root: Path
    truth: dict[str, dict[str, Truth]]


def labels_in_bands(classes: Sequence[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) int64: vertical bands of the classes, and a row of ignored pixels at the bottom."""
    width = size[1]
    row = np.asarray(classes)[np.arange(width) * len(classes) // width]
    labels = np.repeat(row[None], size[0], axis=0)
    labels[-1] = IGNORED
    return labels


def write_photo(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    """A noise image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size[::-1]).save(path)


def write_map(path: Path, values: np.ndarray, dtype: type = np.uint8) -> None:
    """A PNG file with these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(dtype)).save(path)


def ade20k(folder: Path) -> Tree:
    """ADEChallengeData2016: ids 1 to 150, 0 unlabelled."""
    root = folder / 'ADEChallengeData2016'
    truth = {
        split: {
            f'ADE_{word}_{number:08d}': Truth(labels_in_bands(classes))
            for number, classes in ((1, (0, 149, 12)), (2, (2, 7, 12, 20)))
        }
        for split, word in (('training', 'train'), ('validation', 'val'))
    }
    for split, images in truth.items():
        for seed, (name, shown) in enumerate(images.items()):
            write_photo(root / 'images' / split / f'{name}.jpg', seed=seed)
            write_map(root / 'annotations' / split / f'{name}.png', shown.labels + 1)
    (root / 'objectInfo150.txt').write_text('Idx\tRatio\tTrain\tVal\tStuff\tName\n')
    (root / 'sceneCategories.txt').write_text('ADE_train_00000001 airport_terminal\n')
    return Tree('ade20k', None, root, truth)


def ade20k_panoptic(folder: Path) -> Tree:
    """The same with annotations_instance: red is the category from 1, green the instance number."""
    tree = ade20k(folder)
    metainfo = load_panoptic_metainfo('ade20k_panoptic')
    things = [label for label, flag in enumerate(metainfo['isthing']) if flag]
    truth = {}
    for split, images in tree.truth.items():
        truth[split] = {}
        for name, shown in images.items():
            # two persons (label 12), regardless of the semantic map below
            instances = np.zeros((*SIZE, 3), np.uint8)
            instances[10:20, 5:15] = things.index(12) + 1, 3, 0
            instances[10:20, 40:60] = things.index(12) + 1, 7, 0
            write_map(tree.root / 'annotations_instance' / split / f'{name}.png', instances)
            labels = shown.labels.copy()
            stuff = [label for label in np.unique(labels[labels >= 0]).tolist() if not metainfo['isthing'][label]]
            # as published, an area is measured before things cover the segment
            segments = [(label, int((labels == label).sum()), False) for label in stuff]
            labels[np.isin(labels, things)] = IGNORED
            labels[instances[..., 1] > 0] = 12
            segments += [(12, 100, False), (12, 200, False)]
            truth[split][name] = Truth(labels, tuple(sorted(segments)))
    return tree._replace(name='ade20k_panoptic', truth=truth)


def ade20k_full(folder: Path) -> Tree:
    """ADE20K_2021_17_01: an index, and ids in red and green of *_seg.png."""
    source = folder / 'ADE20K_2021_17_01'
    ids = np.array([*load_source_ids('ade20k_full'), 1])  # 1 is an object outside the class list
    truth: dict[str, dict[str, Truth]] = {'training': {}, 'validation': {}}
    rows = []
    for split, word, number, classes in (
        ('training', 'train', 1, (0, 300, 846)),
        ('training', 'train', 2, (1, 255, 256, 400)),
        ('validation', 'val', 1, (0, 845)),
    ):
        name, place = f'ADE_{word}_{number:08d}', f'images/ADE/{split}/urban/street'
        labels = labels_in_bands(classes)
        write_photo(source / place / f'{name}.jpg', seed=number)
        values = ids[labels]
        blue = np.full(SIZE, 9)
        write_map(source / place / f'{name}_seg.png', np.stack([values // 256 * 10, values % 256, blue], axis=-1))
        write_map(source / place / f'{name}_parts_1.png', np.zeros((*SIZE, 3)))
        write_map(source / place / name / f'instance_000_{name}.png', np.zeros(SIZE))
        (source / place / f'{name}.json').write_text('{"annotation": {}}')
        rows.append((f'ADE20K_2021_17_01/{place}', f'{name}.jpg'))
        truth[split][name] = Truth(labels)
    write_full_index(source / 'index_ade20k.pkl', rows)
    return Tree('ade20k_full', source, folder / 'prepared', truth)


def write_full_index(path: Path, rows: Sequence[tuple[str, str]], first: int = 1) -> None:
    """The index of ADE20K-Full; ids count the names from ``first``."""
    names = np.array([f'object {number}' for number in range(3688)], dtype=object)
    for name, number in zip(load_metainfo('ade20k_full')['classes'], load_source_ids('ade20k_full'), strict=True):
        names[number - first] = name
    index = {
        'folder': [folder for folder, _ in rows],
        'filename': np.array([name for _, name in rows], dtype=object),
        'objectnames': list(names),
        'objectPresence': np.zeros((3688, len(rows)), np.uint8),
        'scene': ['/street'] * len(rows),
    }
    path.write_bytes(pickle.dumps(index))


def cocostuff10k(folder: Path) -> Tree:
    """cocostuff-10k-v1.1: MATLAB files with COCO's ids, 0 for unlabelled."""
    source = folder / 'cocostuff-10k-v1.1'
    ids = np.array([*load_source_ids('cocostuff10k'), 0])
    truth: dict[str, dict[str, Truth]] = {'train': {}, 'test': {}}
    for split, number, classes in (('train', 77, (0, 79, 80)), ('train', 78, (170, 11)), ('test', 79, (0, 5, 170))):
        name, labels = f'COCO_train2014_{number:012d}', labels_in_bands(classes)
        write_photo(source / 'images' / f'{name}.jpg', seed=number)
        (source / 'annotations').mkdir(exist_ok=True)
        content = {'S': ids[labels].astype(np.uint8), 'captions': ['a scene'], 'regionMapStuff': np.ones(SIZE)}
        scipy.io.savemat(source / 'annotations' / f'{name}.mat', content, do_compression=True)
        truth[split][name] = Truth(labels)
    lists = {split: list(images) for split, images in truth.items()}
    lists['all'] = [name for names in lists.values() for name in names]
    (source / 'imageLists').mkdir()
    for split, names in lists.items():
        (source / 'imageLists' / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))
    return Tree('cocostuff10k', source, folder / 'coco_stuff10k', truth)


def cityscapes(folder: Path) -> Tree:
    """leftImg8bit and gtFine: label files with ids 0 to 33, instance files with id * 1000 + number."""
    root = folder / 'cityscapes'
    ids = np.array([*load_source_ids('cityscapes'), 4])  # 4 is "static", which is not evaluated
    truth: dict[str, dict[str, Truth]] = {'train': {}, 'val': {}}
    for split, city, number, classes in (
        ('train', 'aachen', 19, (0, 13, 10)),
        ('train', 'bochum', 20, (1, 11, 18, 2)),
        ('val', 'lindau', 21, (0, 13, 11)),
    ):
        name, labels = f'{city}_000000_{number:06d}', labels_in_bands(classes)
        write_photo(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png', seed=number)
        start = root / 'gtFine' / split / city / f'{name}_gtFine_'
        write_map(Path(f'{start}labelIds.png'), ids[labels])
        write_map(Path(f'{start}instanceIds.png'), _cityscapes_instances(labels, ids[labels]), np.uint16)
        write_map(Path(f'{start}color.png'), np.zeros((*SIZE, 4)))
        Path(f'{start}polygons.json').write_text('{"imgHeight": 1024, "imgWidth": 2048, "objects": []}')
        truth[split][f'{city}/{name}'] = Truth(labels)
    write_photo(root / 'leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png')
    return Tree('cityscapes', None, root, truth)


def _cityscapes_instances(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Two instances of each thing, in the upper and the lower half; row 30 is a crowd."""
    things = np.isin(labels, [11, 12, 13, 14, 15, 16, 17, 18])
    numbers = (np.arange(SIZE[0]) >= SIZE[0] // 2)[:, None]
    numbered = things & (np.arange(SIZE[0]) != 30)[:, None]
    return np.where(numbered, values * 1000 + numbers, values)


def cityscapes_panoptic(folder: Path) -> Tree:
    """Two instances and a crowd of each thing, in the same layout."""
    tree = cityscapes(folder)
    truth: dict[str, dict[str, Truth]] = {split: {} for split in tree.truth}
    for split, images in tree.truth.items():
        for name, shown in images.items():
            segments = []
            for label in np.unique(shown.labels[shown.labels >= 0]).tolist():
                band = shown.labels == label
                if label >= 11:
                    upper, crowd = band[: SIZE[0] // 2].sum(), band[30].sum()
                    lower = band.sum() - upper - crowd
                    segments += [(label, int(upper), False), (label, int(lower), False), (label, int(crowd), True)]
                else:
                    segments.append((label, int(band.sum()), False))
            truth[split][name] = Truth(shown.labels, tuple(sorted(segments)))
    return tree._replace(name='cityscapes_panoptic', truth=truth)


def mapillary(folder: Path) -> Tree:
    """Vistas v1.2: palette PNG of labels 0 to 65, instances, panoptic files, config.json."""
    root = folder / 'mapillary'
    metainfo = load_panoptic_metainfo('mapillary_panoptic')
    palette = [*metainfo['palette'], [0, 0, 0]]
    truth: dict[str, dict[str, Truth]] = {'training': {}, 'validation': {}}
    for split, name, classes in (
        ('training', '__CRyFzoDOXn6unQ6a3DnQ', (13, 0, 64)),
        ('training', '_1Gn_xkw7sa_i9GU4mkxxQ', (27, 55, 19)),
        ('validation', 'zzVtzgRDgzgqsYIKO0VcMg', (13, 63)),
    ):
        labels = labels_in_bands(classes)
        write_photo(root / split / 'images' / f'{name}.jpg', seed=len(classes))
        stored = np.where(labels == IGNORED, 65, labels)
        image = Image.fromarray(stored.astype(np.uint8)).convert('P')
        image.putdata(stored.ravel().tolist())
        image.putpalette([value for colour in palette for value in colour])
        (root / split / 'labels').mkdir(parents=True, exist_ok=True)
        image.save(root / split / 'labels' / f'{name}.png')
        write_map(root / split / 'instances' / f'{name}.png', stored * 256, np.uint16)
        truth[split][name] = Truth(labels, _one_segment_each(labels))
    rows = zip([*metainfo['classes'], 'Unlabeled'], palette, [*metainfo['isthing'], False], strict=True)
    labels_of_config = [
        {'color': colour, 'instances': flag, 'readable': name, 'name': f'object--{name}', 'evaluate': True}
        for name, colour, flag in rows
    ]
    (root / 'config.json').write_text(json.dumps({'labels': labels_of_config, 'version': '1.1', 'mapping': 'public'}))
    categories = [
        {'id': label + 1, 'name': name, 'isthing': int(flag), 'supercategory': 'object', 'color': colour}
        for label, (name, colour, flag) in enumerate(
            zip(metainfo['classes'], metainfo['palette'], metainfo['isthing'], strict=True)
        )
    ]
    for split, images in truth.items():
        panoptic = root / split / 'panoptic'
        _write_panoptic(panoptic, panoptic / 'panoptic_2018.json', images, [*range(1, 66)], categories, number=str)
    return Tree('mapillary', None, root, truth)


def mapillary_panoptic(folder: Path) -> Tree:
    """Vistas v1.2 with panoptic files."""
    return mapillary(folder)._replace(name='mapillary_panoptic')


def coco_panoptic(folder: Path) -> Tree:
    """COCO 2017: the PNG files of the training images are still in the archive inside the archive."""
    root = folder / 'coco'
    metainfo = load_panoptic_metainfo('coco_panoptic')
    truth: dict[str, dict[str, Truth]] = {'train2017': {}, 'val2017': {}}
    for split, number, classes in (
        ('train2017', 9, (0, 79, 80)),
        ('train2017', 25, (132, 1)),
        ('val2017', 139, (0, 100)),
    ):
        labels = labels_in_bands(classes)
        write_photo(root / split / f'{number:012d}.jpg', seed=number)
        truth[split][f'{number:012d}'] = Truth(labels, _one_segment_each(labels))
    columns = (metainfo[key] for key in ('category_ids', 'classes', 'isthing', 'palette'))
    categories = [
        {'supercategory': 'thing', 'color': colour, 'isthing': int(flag), 'id': number, 'name': name}
        for number, name, flag, colour in zip(*columns, strict=True)
    ]
    for split, images in truth.items():
        pngs = root / 'annotations' / f'panoptic_{split}'
        _write_panoptic(pngs, Path(f'{pngs}.json'), images, metainfo['category_ids'], categories, number=int)
    pngs = root / 'annotations/panoptic_train2017'
    with zipfile.ZipFile(f'{pngs}.zip', 'w') as archive:
        for path in sorted(pngs.iterdir()):
            # `ZipInfo` has a fixed date, since compared trees must not depend on the time of writing.
            archive.writestr(zipfile.ZipInfo(f'panoptic_train2017/{path.name}'), path.read_bytes())
            archive.writestr(zipfile.ZipInfo(f'__MACOSX/panoptic_train2017/._{path.name}'), b'of a Mac')
            path.unlink()
    pngs.rmdir()
    return Tree('coco_panoptic', None, root, truth)


def _one_segment_each(labels: np.ndarray) -> tuple[tuple[int, int, bool], ...]:
    return tuple((label, int((labels == label).sum()), False) for label in np.unique(labels[labels >= 0]).tolist())


def _write_panoptic(
    folder: Path,
    json_file: Path,
    images: dict[str, Truth],
    category_ids: Sequence[int],
    categories: list[dict],
    number: Callable[[str], int | str],
) -> None:
    """PNG files and the JSON of a split; the id of a segment is 300000 + its label."""
    rows: list[dict] = []
    annotations: list[dict] = []
    for name, shown in images.items():
        ids = np.where(shown.labels >= 0, 300000 + shown.labels, 0)
        write_map(folder / f'{name}.png', np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1))
        rows.append({'id': number(name), 'file_name': f'{name}.jpg', 'height': SIZE[0], 'width': SIZE[1]})
        segments = [
            {
                'id': 300000 + label,
                'category_id': category_ids[label],
                'area': area,
                'bbox': [0, 0, 1, 1],
                'iscrowd': int(iscrowd),
            }
            for label, area, iscrowd in shown.segments
        ]
        annotations.append({'image_id': number(name), 'file_name': f'{name}.png', 'segments_info': segments})
    content = {'info': {}, 'licenses': [], 'images': rows, 'annotations': annotations, 'categories': categories}
    json_file.write_text(json.dumps(content))


BUILDERS = {
    builder.__name__: builder
    for builder in (
        ade20k,
        ade20k_full,
        cocostuff10k,
        cityscapes,
        mapillary,
        coco_panoptic,
        ade20k_panoptic,
        cityscapes_panoptic,
        mapillary_panoptic,
    )
}


def as_opencv_reads(path: Path) -> np.ndarray:
    """The values of a file, read with a different library than the package uses."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def end_process(item: object) -> None:
    """A conversion that kills its process, as the system does when memory runs out."""
    os._exit(1)
