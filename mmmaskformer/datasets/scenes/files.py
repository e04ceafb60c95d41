"""Writes synthetic scenes to disk in the layouts of both hosts: MMSegmentation's folders and COCO panoptic.

::

    root/images/{train,val}/000000.png         RGB
    root/annotations/{train,val}/000000.png    one channel, class index, 255 to ignore
    root/panoptic_{train,val}/000000.png       id = R + 256 G + 65536 B, 0 is void
    root/panoptic_{train,val}.json             images, annotations, categories with id = class index + 1
    root/scenes.json                           the arguments
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmmaskformer.datasets.scenes.scenes import CLASSES, Scene, make_scene
from mmmaskformer.formats.coco_json import segment_row, write_panoptic
from mmmaskformer.formats.panoptic_png import write_ids
from mmmaskformer.formats.whole_files import whole_folder

# Incremented whenever the same arguments give other images, so that an old dataset is not mistaken for a new one.
VERSION = 1
RECORD = 'scenes.json'
SPLITS = ('train', 'val')


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The random generator of one image, which depends only on the three arguments.

    Raises:
        ValueError: if ``split`` is neither 'train' nor 'val'.
    """
    if split not in SPLITS:
        raise ValueError(f'split: found {split!r}, expected one of {SPLITS}')
    return np.random.default_rng([seed, SPLITS.index(split), index])


def write_scenes(root: str | Path, num_train: int, num_val: int, seed: int = 0, overwrite: bool = False) -> bool:
    """Write a dataset of scenes, or keep an existing one with the same arguments.

    The dataset is written to a hidden folder beside ``root``, which is renamed at the end, so ``root`` is always
    complete or absent.

    Args:
        root: folder to create.
        num_train: number of training images, at least 1.
        num_val: number of validation images, at least 1.
        seed: non-negative; image i of a split does not depend on the number of images.
        overwrite: replace a different dataset of scenes; nothing else is ever replaced.

    Returns:
        True if a dataset was written, False if an existing one was kept.

    Raises:
        ValueError: if a number or the seed is out of range.
        FileExistsError: if ``root`` contains something else, or is no folder.
        OSError: if the dataset cannot be written.
    """
    for key, value, least in (('num_train', num_train, 1), ('num_val', num_val, 1), ('seed', seed, 0)):
        if value < least:
            raise ValueError(f'{key}: found {value}, expected at least {least}')
    root = Path(root)
    record = {'version': VERSION, 'num_train': num_train, 'num_val': num_val, 'seed': seed}
    if _keep_existing(root, record, overwrite):
        return False
    with whole_folder(root) as fresh:
        for split, count in (('train', num_train), ('val', num_val)):
            _write_split(fresh, split, count, seed)
        (fresh / RECORD).write_text(json.dumps(record) + '\n')
    return True


def _keep_existing(root: Path, record: dict, overwrite: bool) -> bool:
    """Whether ``root`` is already the requested dataset; raises if it must not be replaced."""
    if root.is_dir() and not any(root.iterdir()):
        return False
    if not root.exists():
        return False
    if not (root / RECORD).is_file():
        raise FileExistsError(f'{root}: exists and is not a dataset of scenes; expected no such folder, or an '
                              'empty one. Fix: choose another folder')  # fmt: skip
    found = json.loads((root / RECORD).read_text())
    complete = all(
        len(list((root / folder).glob('*.png'))) == record[f'num_{split}']
        for split in SPLITS
        for folder in (f'images/{split}', f'annotations/{split}', f'panoptic_{split}')
    )
    if found == record and complete and not overwrite:
        return True
    if not overwrite:
        problem = f'made with {found}' if found != record else 'of which files are missing'
        raise FileExistsError(f'{root}: holds scenes {problem}; expected none, or the complete set made with '
                              f'{record}. Fix: choose another folder, or replace it with --overwrite')  # fmt: skip
    return False


def _write_split(root: Path, split: str, count: int, seed: int) -> None:
    """Write the images, both kinds of labels and the COCO file of one split."""
    folders = [root / 'images' / split, root / 'annotations' / split, root / f'panoptic_{split}']
    for folder in folders:
        folder.mkdir(parents=True)
    images, annotations = [], []
    for index in track(range(count), description=f'{split} scenes'):
        scene = make_scene(scene_rng(seed, split, index))
        name = f'{index:06d}.png'
        height, width = scene.semantic.shape
        for folder, pixels in zip(folders[:2], (scene.image, scene.semantic), strict=True):
            Image.fromarray(pixels).save(folder / name)
        write_ids(folders[2] / name, scene.panoptic)
        images.append({'id': index + 1, 'file_name': name, 'height': height, 'width': width})
        annotations.append({'image_id': index + 1, 'file_name': name, 'segments_info': describe_segments(scene)})
    write_panoptic(root / f'panoptic_{split}.json', annotations, images, coco_categories())


def describe_segments(scene: Scene) -> list[dict]:
    """COCO ``segments_info`` of a scene: id, category_id, area in pixels, bbox [x, y, width, height], iscrowd."""
    return [segment_row(scene.panoptic == segment.id, segment.id, segment.label + 1) for segment in scene.segments]


def coco_categories() -> list[dict]:
    """COCO ``categories`` of the scenes; id = class index + 1, since some readers treat 0 as void."""
    return [
        {'id': label + 1, 'name': row.name, 'isthing': int(row.isthing), 'color': list(row.color)}
        for label, row in enumerate(CLASSES)
    ]
