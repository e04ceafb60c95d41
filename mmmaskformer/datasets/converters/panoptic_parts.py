"""Helpers of the converters for COCO panoptic JSON files."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def id_of_colour(colour: Sequence[int]) -> int:
    """The segment id of an (R, G, B) in [0, 255]: R + 256 G + 65536 B."""
    red, green, blue = (int(value) for value in colour)
    return red + 256 * green + 65536 * blue


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
