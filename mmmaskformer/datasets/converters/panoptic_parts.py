"""Parts of COCO's panoptic form that the converters share."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mmmaskformer.formats.panoptic_png import colours_of_ids


def id_of_colour(colour: Sequence[int]) -> int:
    """The segment id of an (R, G, B) in [0, 255]: R + 256 G + 65536 B."""
    red, green, blue = (int(value) for value in colour)
    return red + 256 * green + 65536 * blue


def encode_ids(ids: np.ndarray) -> bytes:
    """The bytes of a panoptic PNG.

    Args:
        ids: (H, W) integer in [0, 2**24).
    """
    return cv2.imencode('.png', colours_of_ids(ids)[..., ::-1])[1].tobytes()


def segment_row(mask: np.ndarray, number: int, category_id: int, iscrowd: bool = False) -> dict:
    """A row of 'segments_info'.

    Args:
        mask: (H, W) bool, its pixels, at least one.
        number: its id.
        category_id: of its class in the file.
        iscrowd: whether it stands for several instances.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        'id': number,
        'category_id': category_id,
        'area': int(np.count_nonzero(mask)),
        'bbox': [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        'iscrowd': int(iscrowd),
    }


def image_row(number: str, file_name: str, size: Sequence[int]) -> dict:
    """A row of 'images'.

    Args:
        number: id of the image.
        file_name: below the folder of the images.
        size: (height, width).
    """
    return {'id': number, 'file_name': file_name, 'height': int(size[0]), 'width': int(size[1])}


def category_rows(metainfo: Mapping) -> list[dict]:
    """The rows of 'categories' for a panoptic class list."""
    columns = ('category_ids', 'classes', 'isthing', 'palette')
    return [
        {'id': number, 'name': name, 'isthing': int(isthing), 'color': colour}
        for number, name, isthing, colour in zip(*(metainfo[key] for key in columns), strict=True)
    ]


def describe_panoptic(entries: Sequence[Any], categories: Sequence[dict]) -> bytes:
    """The content of a COCO panoptic JSON file.

    Args:
        entries: of the images: 'image', 'file_name' and 'segments'.
        categories: see `category_rows`.
    """
    content = {
        'images': [entry['image'] for entry in entries],
        'annotations': [
            {
                'image_id': entry['image']['id'],
                'file_name': entry['file_name'],
                'segments_info': entry['segments'],
            }
            for entry in entries
        ],
        'categories': list(categories),
    }
    return json.dumps(content).encode()
