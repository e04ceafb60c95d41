"""ADE20K-Full: all images of the release of 2021, with the 847 classes of the published preparation."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmmaskformer.datasets.converters.labels import count_labels, lookup_table
from mmmaskformer.datasets.converters.plain_pickle import read_plain_pickle
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.searching import require_file, require_folder
from mmmaskformer.datasets.metainfo import load_metainfo, load_source_ids
from mmmaskformer.formats.images import decode_picture, read_content
from mmmaskformer.formats.label_maps import IGNORE_INDEX_16BIT, encode_label_map
from mmmaskformer.formats.messages import some

TITLE = 'ADE20K-Full, 847 classes'
RELEASE = 'ADE20K_2021_17_01'
FILES = f'{RELEASE}.zip'
ADDRESS = 'https://ade20k.csail.mit.edu (after registration)'
INDEX = 'index_ade20k.pkl'
CLASSES = load_metainfo('ade20k_full')['classes']
IDS = load_source_ids('ade20k_full')
LABEL_OF_ID = {number: label for label, number in enumerate(IDS)}
TABLE = lookup_table(LABEL_OF_ID, IGNORE_INDEX_16BIT)
SHORT_SIDE = 512
KNOWN_SHARE = 0.9
"""Share of the 847 names that must match in the index of the right release; spelling may differ slightly."""
IMAGES = {'training': 25574, 'validation': 2000}
FIX = f'download {FILES} from {ADDRESS} and unpack it; pass the folder {RELEASE} with --source'


def find(source: Path, root: Path) -> list[Item]:
    """Find the images of the index."""
    require_folder(source, TITLE, FIX)
    if not (source / INDEX).is_file() and (source / 'index_ade20k.mat').is_file():
        raise ValueError(
            f'{TITLE}: {source} has index_ade20k.mat but no {INDEX}, like the release of 2016. Expected the release '
            f'{RELEASE}, which has other class ids. Fix: {FIX}.'
        )
    require_file(source / INDEX, TITLE, FIX)
    index = read_plain_pickle(source / INDEX)
    folders, names = _columns(index, source)
    _require_release(index, source)
    items = []
    for folder, name in zip(folders, names, strict=True):
        split = 'validation' if name.split('_')[1:2] == ['val'] else 'training'
        image = _below(source, folder) / name
        stem = name.removesuffix('.jpg')
        targets = (f'images/{split}/{name}', f'annotations/{split}/{stem}.png')
        items.append(Item(split, stem, (image, image.with_name(f'{stem}_seg.png')), targets))
    missing = [path for item in items for path in item.sources if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'{TITLE}: {len(missing)} of {2 * len(items)} files that {source / INDEX} lists are missing: '
            f'{some(missing)}. Expected all. Fix: the archive was not fully unpacked; {FIX}.'
        )
    return items


def _columns(index: object, source: Path) -> tuple[list[str], list[str]]:
    """Folder and file name of each image."""
    if not isinstance(index, dict) or not {'folder', 'filename', 'objectnames'} <= set(index):
        found = sorted(index) if isinstance(index, dict) else type(index).__name__
        raise ValueError(
            f"{source / INDEX}: found {found!s:.200}, expected the lists 'folder', 'filename' and 'objectnames'. Fix: "
            f'{FIX}.'
        )
    folders, names = ([str(value) for value in index[key]] for key in ('folder', 'filename'))
    if len(folders) != len(names):
        raise ValueError(
            f'{source / INDEX}: {len(folders)} folders but {len(names)} file names, expected as many. Fix: {FIX}.'
        )
    return folders, names


def _require_release(index: dict, source: Path) -> None:
    """Raise unless class ids have the meaning of the release from which the list of 847 classes was made."""
    names = [str(name).strip() for name in index['objectnames']]
    # ids count the names from 1; an index of another tool could count from 0
    right = max(
        sum(
            number - first < len(names) and names[number - first] == name
            for number, name in zip(IDS, CLASSES, strict=True)
        )
        for first in (1, 0)
    )
    if right < KNOWN_SHARE * len(IDS):
        raise ValueError(
            f'{source / INDEX}: {right} of the 847 classes have the same id as in the release {RELEASE} '
            f'(found {len(names)} object names). Expected that release, since others number the classes '
            f'differently. Fix: {FIX}.'
        )


def _below(source: Path, folder: str) -> Path:
    """Folder of an image; paths in the index begin with the name of the release."""
    parts = Path(folder.replace('\\', '/')).parts
    return source.joinpath(*(parts[1:] if parts[:1] == (RELEASE,) else parts))


def convert(item: Item) -> Outcome:
    """Shrink image and label map to at most 512 pixels on the shorter side, as the published preparation does.

    The image is re-encoded with the same quality even if its size does not change.
    """
    image_path, label_path = item.sources
    image, ids = _read_image(image_path), _read_ids(label_path)
    if image.shape[:2] != ids.shape:
        raise ValueError(
            f'{label_path}: {ids.shape[0]} x {ids.shape[1]} pixels (height x width), but its image {image_path} has '
            f'{image.shape[0]} x {image.shape[1]}. Expected equal sizes. Fix: {FIX}.'
        )
    size = shrunk_size(*ids.shape)
    if size != ids.shape:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        ids = cv2.resize(ids.astype(np.int32), size[::-1], interpolation=cv2.INTER_NEAREST)
    labels = TABLE[ids]
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format='JPEG')
    return Outcome(count_labels(labels, len(CLASSES)), (stream.getvalue(), encode_label_map(labels, wide=True)))


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """Size (height, width) after shrinking the shorter side to at most 512 pixels."""
    if min(height, width) <= SHORT_SIDE:
        return height, width
    if width >= height:
        return SHORT_SIDE, round(width / float(height) * SHORT_SIDE)
    return round(height / float(width) * SHORT_SIDE), SHORT_SIDE


def _read_image(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image if image.mode in ('L', 'RGB') else image.convert('RGB'))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f'{path}: {path.stat().st_size} bytes that are not a complete image ({error}), expected a JPEG. Fix: {FIX}.'
        ) from error


def _read_ids(path: Path) -> np.ndarray:
    """Ids of objects, (H, W) int64: red // 10 * 256 + green."""
    content = read_content(str(path), where=FILES, what='segmentation', expected='an RGB PNG')
    pixels, mode = decode_picture(content, str(path), what='segmentation', expected='an RGB PNG')
    if mode != 'RGB':
        raise ValueError(f'{path}: found an image of Pillow mode {mode!r}, expected RGB. Fix: {FIX}.')
    pixels = pixels.astype(np.int64)
    return pixels[..., 0] // 10 * 256 + pixels[..., 1]


RECIPE = Recipe(
    name='ade20k_full',
    title=TITLE,
    address=ADDRESS,
    files=FILES,
    root='data/ade20k_full',
    source=f'data/{RELEASE}',
    classes=CLASSES,
    images=IMAGES,
    unit='pixels',
    find=find,
    convert=convert,
)
