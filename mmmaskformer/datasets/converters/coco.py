"""COCO panoptic: the publishers' files, unchanged, with the PNG files unpacked."""

import zipfile
from pathlib import Path

from mmmaskformer.datasets.converters.panoptic_files import check_panoptic, item_of, read_split
from mmmaskformer.datasets.converters.recipe import Archive, Item, Recipe
from mmmaskformer.datasets.converters.searching import require_file, require_folder
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.formats.messages import some

TITLE = 'COCO panoptic'
FILES = 'train2017.zip, val2017.zip and panoptic_annotations_trainval2017.zip'
ADDRESS = 'https://cocodataset.org/#download (http://images.cocodataset.org/zips/ and /annotations/)'
IMAGES = {'train2017': 118287, 'val2017': 5000}
METAINFO = load_panoptic_metainfo('coco_panoptic')


def find(source: Path, root: Path) -> list[Item]:
    """Find the images of the JSON files; PNG files may still be in their archive."""
    fix = f'download {FILES} from {ADDRESS} and unpack all of them in {root}'
    items = []
    for split in IMAGES:
        images, annotations = root / split, root / 'annotations' / f'panoptic_{split}'
        require_folder(images, TITLE, fix)
        json_file = annotations.with_name(f'{annotations.name}.json')
        require_file(json_file, TITLE, fix)
        content, labels = read_split(json_file, METAINFO)
        found = {
            images: {path.name for path in images.iterdir()},
            annotations: _png_names(annotations, fix),
        }
        ours = [
            item_of(split, row, content.annotations[row['id']], labels, (images, annotations)) for row in content.images
        ]
        missing = [path for item in ours for path in item.sources if path.name not in found[path.parent]]
        if missing:
            raise FileNotFoundError(
                f'{TITLE}: {len(missing)} of {2 * len(ours)} files in {json_file} are missing: {some(missing)}. '
                f'Expected all. Fix: an archive was not fully unpacked; {fix}.'
            )
        items += ours
    return items


def _png_names(folder: Path, fix: str) -> set[str]:
    """Names of the PNG files of a split, in their folder or in the archive that unpacks to it."""
    archive = folder.with_name(f'{folder.name}.zip')
    if folder.is_dir() or not archive.is_file():
        require_folder(folder, TITLE, fix)
        return {path.name for path in folder.iterdir()}
    try:
        with zipfile.ZipFile(archive) as stream:
            return {Path(name).name for name in stream.namelist() if name.startswith(f'{folder.name}/')}
    except zipfile.BadZipFile as error:
        raise ValueError(
            f'{TITLE}: {archive} is damaged ({error}), expected a complete zip file. Fix: {fix}.'
        ) from error


RECIPE = Recipe(
    name='coco_panoptic',
    title=TITLE,
    address=ADDRESS,
    files=FILES,
    root='data/coco',
    source=None,
    classes=METAINFO['classes'],
    images=IMAGES,
    unit='segments',
    find=find,
    convert=check_panoptic,
    archives=tuple(Archive(f'annotations/panoptic_{split}.zip', f'panoptic_{split}') for split in IMAGES),
)
