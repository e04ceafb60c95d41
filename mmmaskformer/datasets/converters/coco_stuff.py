"""COCO-Stuff-10K, releases 1.1 (MATLAB 5) and 1.0 (MATLAB 7.3), converted to the layout of MMSegmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from mmmaskformer.datasets.converters.labels import (
    count_labels,
    lookup_table,
    require_known_ids,
    require_same_size,
)
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.searching import list_files, require_file, require_folder
from mmmaskformer.datasets.metainfo import load_metainfo, load_source_ids
from mmmaskformer.formats.label_maps import encode_label_map
from mmmaskformer.formats.messages import some

TITLE = 'COCO-Stuff-10K'
FILES = 'cocostuff-10k-v1.1.zip'
ADDRESS = 'http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip'
FIX = (
    f'download {FILES} from {ADDRESS} and unpack it; pass the folder with images, annotations and imageLists '
    'with --source'
)
CLASSES = load_metainfo('cocostuff10k')['classes']
LABEL_OF_ID = {number: label for label, number in enumerate(load_source_ids('cocostuff10k'))}
UNLABELLED = 0
# In the files of MMSegmentation 0 is unlabelled and 1 the first class.
STORED_OF_ID = lookup_table({number: label + 1 for number, label in LABEL_OF_ID.items()}, UNLABELLED)
IMAGES = {'train': 9000, 'test': 1000}
FOLDERS = {'train': 'train2014', 'test': 'test2014'}
MATLAB_7 = b'MATLAB 7.3'


def find(source: Path, root: Path) -> list[Item]:
    """Find the images in the lists of the splits."""
    if not source.is_dir() or not (source / 'imageLists').is_dir():
        _refuse_other_release(source)
    require_folder(source / 'imageLists', TITLE, FIX)
    images, labels = list_files(source / 'images', '.jpg'), list_files(source / 'annotations', '.mat')
    items, missing = [], []
    for split, folder in FOLDERS.items():
        listed = source / 'imageLists' / f'{split}.txt'
        require_file(listed, TITLE, FIX)
        for name in listed.read_text(encoding='utf-8-sig').split():
            missing += [
                str(found.folder / f'{name}{found.ending}') for found in (images, labels) if name not in found.paths
            ]
            targets = (f'images/{folder}/{name}.jpg', f'annotations/{folder}/{name}_labelTrainIds.png')
            paths = (source / 'images' / f'{name}.jpg', source / 'annotations' / f'{name}.mat')
            items.append(Item(split, name, paths, targets))
    if missing:
        raise FileNotFoundError(
            f'{TITLE}: {len(missing)} of {2 * len(items)} files that {source / "imageLists"} lists are missing: '
            f'{some(missing)}. Expected all. Fix: the archive was not fully unpacked; {FIX}.'
        )
    return items


def _refuse_other_release(source: Path) -> None:
    """Raise if the folder contains COCO-Stuff 164k."""
    if any((source / name).exists() for name in ('stuffthingmaps_trainval2017', 'stuffthingmaps', 'train2017')):
        raise ValueError(
            f'{TITLE}: {source} contains COCO-Stuff 164k (PNG files for train2017 and val2017), expected the 10k '
            f'images with MATLAB files. Fix: {FIX}.'
        )


def convert(item: Item) -> Outcome:
    """Convert a MATLAB file to a label map; the image is copied."""
    image, path = item.sources
    with open(path, 'rb') as stream:
        is_first_release = stream.read(len(MATLAB_7)) == MATLAB_7
    stored = _read_release_1_0(path) if is_first_release else _read_release_1_1(path)
    require_same_size(image, path, stored.shape)
    counts = count_labels(np.where(stored == UNLABELLED, len(CLASSES), stored - 1), len(CLASSES))
    return Outcome(counts, (image, encode_label_map(stored, wide=False)))


def _read_release_1_1(path: Path) -> np.ndarray:
    """Read (H, W) int64 with 0 for unlabelled, else label + 1; the file has the ids of COCO."""
    try:
        content = scipy.io.loadmat(path, variable_names=['S'])
    except Exception as error:  # scipy raises arbitrary errors for a truncated file
        raise _damaged(path, error) from error
    ids = _label_matrix(content, path)
    known = {UNLABELLED, *LABEL_OF_ID}
    require_known_ids(ids, known, path, '0 (unlabelled) to 182, the ids of COCO, except the 11 unused ones')
    return STORED_OF_ID[ids]


def _read_release_1_0(path: Path) -> np.ndarray:
    """Read (H, W) int64 with 0 for unlabelled, else label + 1; in the file, 1 is unlabelled."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{path}: this is release 1.0 of {TITLE}, in HDF5 format, which needs the package h5py. Fix: pip install '
            f'h5py, or use release 1.1: {FIX}.'
        ) from error
    try:
        with h5py.File(path, 'r') as content:
            ids = _label_matrix({'S': np.asarray(content['S'])} if 'S' in content else {}, path).T
    except OSError as error:
        raise _damaged(path, error) from error
    require_known_ids(ids, range(1, len(CLASSES) + 2), path, '1 (unlabelled) to 172')
    return ids - 1


def _label_matrix(content: dict[str, Any], path: Path) -> np.ndarray:
    ids = content.get('S')
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or not ids.size or ids.dtype.kind not in 'uif':
        raise ValueError(f"{path}: found no matrix 'S' of class ids, expected one. Fix: {FIX}.")
    return ids.astype(np.int64)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f'{path}: {path.stat().st_size} bytes that are not a complete MATLAB file ({type(error).__name__}: {error}). '
        f"Expected the matrix 'S'. Fix: {FIX}."
    )


RECIPE = Recipe(
    name='cocostuff10k',
    title=TITLE,
    address=ADDRESS,
    files=FILES,
    root='data/coco_stuff10k',
    source='data/cocostuff-10k-v1.1',
    classes=CLASSES,
    images=IMAGES,
    unit='pixels',
    find=find,
    convert=convert,
)
