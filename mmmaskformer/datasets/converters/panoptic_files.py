"""Panoptic data published in COCO's format: nothing is converted, every file is checked."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmmaskformer.datasets.category_labels import labels_of_categories
from mmmaskformer.datasets.converters.labels import require_same_size
from mmmaskformer.datasets.converters.recipe import Item, Outcome
from mmmaskformer.formats.coco_json import PanopticFile, read_panoptic
from mmmaskformer.formats.panoptic_png import VOID_ID, read_ids


def read_split(path: Path, metainfo: Mapping) -> tuple[PanopticFile, dict[int, int]]:
    """Read a panoptic JSON file and find the label of each of its categories.

    Raises:
        FileNotFoundError, ValueError: if it is missing or damaged, or its categories are not those of the class list.
    """
    content = read_panoptic(str(path))
    return content, labels_of_categories(content.categories, metainfo, str(path))


def item_of(
    split: str, image: Mapping, annotation: Mapping, labels: Mapping[int, int], folders: tuple[Path, Path]
) -> Item:
    """The `Item` of an image of a panoptic JSON file.

    Args:
        split: split of the image.
        image: its row of 'images'.
        annotation: its row of 'annotations'.
        labels: labels by category id.
        folders: folders of the images and of the PNG files.
    """
    segments = {row['id']: labels[row['category_id']] for row in annotation['segments_info']}
    sources = (folders[0] / image['file_name'], folders[1] / annotation['file_name'])
    return Item(split, str(image['id']), sources, facts=(segments, (image['height'], image['width'])))


def check_panoptic(item: Item) -> Outcome:
    """Compare a PNG with the JSON file and with its image, and count the segments of each class.

    Listed segments without pixels are accepted, since the published files have some.

    Raises:
        ValueError: if the PNG has segments that the JSON file lacks, or the sizes differ.
    """
    image, path = item.sources
    segments, size = item.facts
    ids = read_ids(path)
    if ids.shape != size:
        raise ValueError(
            f'{path}: {ids.shape[0]} x {ids.shape[1]} pixels (height x width), but {size[0]} x {size[1]} in the JSON '
            'file. Expected equal sizes. Fix: JSON and PNG files are of different releases; unpack both again.'
        )
    require_same_size(image, path, size)
    found = set(np.unique(ids).tolist()) - {VOID_ID}
    if found - set(segments):
        raise ValueError(
            f'{path}: found the segment ids {sorted(found - set(segments))[:8]}, which the JSON file does not list for '
            'this image. Expected equal segments. Fix: JSON and PNG files are of different releases; unpack both again.'
        )
    return Outcome(Counter(segments.values()))
