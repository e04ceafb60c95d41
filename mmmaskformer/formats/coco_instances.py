"""Reader for COCO's instance JSON, which counts defects. No images are opened here."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.mask import area, frPyObjects, merge, toBbox

from mmmaskformer.formats.coco_json import check_images, known_id
from mmmaskformer.formats.coco_values import Notes, as_flag, as_number
from mmmaskformer.formats.json_files import read_json, require_different, require_keys, require_lists
from mmmaskformer.formats.run_lengths import pixels_of_runs

NO_OUTLINE = (
    "annotations without a usable outline ('segmentation' missing, empty, or of fewer than three points), left out"
)
TOO_SMALL = 'annotations that are outside of their image or smaller than a pixel, left out'
OTHER_SIZE = 'annotations with a run-length mask of another size than their image, left out'
BROKEN_RUNS = 'annotations whose run lengths do not add up to the pixels of their image, left out'
LOST_PARTS = 'polygons of fewer than three points, left out of outlines that have others'
FAR_POINTS = 'annotations with points further outside of their image than ten times its longer side, left out'
FAR = 10
"""pycocotools walks along the edges of a polygon, several steps per pixel: points further away exhaust the memory."""
NO_BOX = "annotations without a usable 'bbox', computed from their outline"
IGNORED = "annotations with 'ignore' set, left out"
OTHER_IMAGE = 'annotations of images that are not listed, left out'


class InstanceFile(NamedTuple):
    """Content of a COCO instance JSON file.

    Attributes:
        images: dicts with 'id', 'file_name', 'height', 'width', in the order of the file.
        annotations: image id to dicts with 'id', 'category_id', 'bbox' ([x, y, width, height]), 'area' (above 0),
            'iscrowd' (bool) and 'segmentation' (polygons or run lengths); each has an outline.
        categories: category id to name.
        notes: dropped annotations and accepted deviations from COCO's format; see `Notes.lines`.
    """

    images: list[dict]
    annotations: dict[int | str, list[dict]]
    categories: dict[int, str]
    notes: Notes


def read_instances(path: str, backend_args: dict | None = None) -> InstanceFile:
    """Read and check a COCO instance JSON file.

    Args:
        path: of the JSON file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        Its content, without annotations that cannot be used.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, not of the instance form, a value has the wrong type, an id occurs twice, or an
            annotation has a category that is not listed.
    """
    what = f'instance file {path}'
    notes = Notes(what)
    content = _content(path, backend_args, what, notes)
    categories = _categories(content['categories'], what, notes)
    by_image: dict[int | str, list[dict]] = {image['id']: [] for image in content['images']}
    for number, _, kept in _usable_rows(content, categories, what, notes):
        by_image[number].append(kept)
    return InstanceFile(content['images'], by_image, categories, notes)


def complete_instances(path: str, backend_args: dict | None = None) -> dict | None:
    """Content of a file for pycocotools: completed, and without annotations that cannot be evaluated.

    pycocotools fails for an annotation without a usable outline, 'area' or 'iscrowd', counts a detected one with the id
    0 as missed, and uses only the last of several annotations with the same id.

    Args:
        path: of the JSON file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        The whole content with new 'annotations', numbered from 1; None if the file can be used unchanged.

    Raises:
        FileNotFoundError, ValueError: see `read_instances`.
    """
    what = f'instance file {path}'
    notes = Notes(what)
    content = _content(path, backend_args, what, notes)
    categories = _categories(content['categories'], what, notes)
    images = {image['id']: image for image in content['images']}
    rows: list[dict] = []
    for number, row, kept in _usable_rows(content, categories, what, notes):
        pixels = row['area'] if _is_area(row.get('area')) else _area_of(kept['segmentation'], images[number])
        kept |= dict(id=len(rows) + 1, image_id=number, area=pixels, iscrowd=int(kept['iscrowd']))
        rows.append(kept)
    ids = {row['id'] for row in content['annotations'] if type(row.get('id')) is int and row['id'] != 0}
    is_whole = all(_is_area(row.get('area')) and 'iscrowd' in row for row in content['annotations'])
    if not notes.lines() and is_whole and len(ids) == len(content['annotations']):
        return None
    return dict(content, annotations=rows)


def _content(path: str, backend_args: dict | None, what: str, notes: Notes) -> dict:
    """The content of a file, with checked images."""
    content = read_json(path, backend_args, 'a COCO instance JSON', what)
    require_lists(content, ['images', 'annotations', 'categories'], what, 'the COCO instance JSON')
    check_images(content['images'], what, notes)
    return content


def _is_area(value: Any) -> bool:
    """Whether pycocotools can sort annotations by this value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _usable_rows(
    content: Mapping, categories: Mapping, what: str, notes: Notes
) -> Iterator[tuple[int | str, dict, dict]]:
    """Image id, annotation of the file and its completed form, for all usable annotations."""
    images = {image['id']: image for image in content['images']}
    for position, row in enumerate(content['annotations']):
        where = f'{what}: annotation {row.get("id", f"at position {position}")}'
        require_keys(row, ('image_id', 'category_id'), where, what)
        number = known_id(row['image_id'], images.keys(), where, notes)
        if number not in images:
            notes.add(OTHER_IMAGE, where)
            continue
        kept = _usable(row, images[number], categories, where, notes)
        if kept is not None:
            yield number, row, kept


def _categories(rows: Sequence[dict], what: str, notes: Notes) -> dict[int, str]:
    for position, row in enumerate(rows):
        require_keys(row, ('id', 'name'), 'category', what)
        where = f'{what}: category {position} ({row["name"]!r:.80})'
        row['id'] = as_number(row['id'], 'id', where, notes)
        if not isinstance(row['name'], str):
            raise ValueError(f"{where}: 'name' is {row['name']!r:.80}, expected text. Fix: correct it.")
    require_different([row['id'] for row in rows], 'categories', what)
    return {row['id']: row['name'] for row in rows}


def _usable(row: dict, image: Mapping, categories: Mapping, where: str, notes: Notes) -> dict | None:
    """The completed annotation; None, with a note, if it has no usable outline."""
    category = as_number(row['category_id'], 'category_id', where, notes)
    if category not in categories:
        raise ValueError(
            f'{where} has category_id {category}, expected one of the {len(categories)} ids in '
            "'categories'. Fix: list the category or correct the annotation."
        )
    where = f'{where} of {image["file_name"]}'
    is_crowd = as_flag(row.get('iscrowd', 0), 'iscrowd', where, notes)
    if as_flag(row.get('ignore') or 0, 'ignore', where, notes):
        notes.add(IGNORED, where)
        return None
    outline = _usable_outline(row.get('segmentation'), image, where, notes)
    if outline is None:
        return None
    box = _usable_box(row.get('bbox'), image)
    if box is None:
        notes.add(NO_BOX, where)
        box = _box_of(outline, image)
    if not _is_visible(box, image):
        notes.add(TOO_SMALL, where)
        return None
    return dict(
        id=row.get('id'), category_id=category, bbox=box, area=box[2] * box[3], iscrowd=is_crowd, segmentation=outline
    )


def _usable_outline(outline: Any, image: Mapping, where: str, notes: Notes) -> list | dict | None:
    """Polygons with at least three points each, or run lengths of the image's size; None, and a note, if neither."""
    if isinstance(outline, dict):
        if not isinstance(outline.get('counts'), list | str) or not outline['counts']:
            notes.add(NO_OUTLINE, where)
        elif outline.get('size') != [image['height'], image['width']]:
            notes.add(OTHER_SIZE, where)
        elif pixels_of_runs(outline['counts']) != image['height'] * image['width']:
            notes.add(BROKEN_RUNS, where)
        else:
            return outline
        return None
    parts = outline if isinstance(outline, list) else []
    # Some tools write a single polygon without the list around it.
    parts = [parts] if parts and all(map(_is_finite, parts)) else parts
    polygons = [part for part in parts if _is_polygon(part)]
    if not polygons:
        notes.add(NO_OUTLINE, where)
        return None
    if not _is_near((value for polygon in polygons for value in polygon), image):
        notes.add(FAR_POINTS, where)
        return None
    if len(polygons) < len(parts):
        notes.add(LOST_PARTS, where)
    return polygons


def _is_polygon(part: Any) -> bool:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return False
    return all(_is_finite(value) for value in part)


def _is_finite(value: Any) -> bool:
    # not math.isfinite, which fails for whole numbers beyond the range of floats
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_near(values: Iterable[float], image: Mapping) -> bool:
    limit = FAR * max(image['height'], image['width'])
    return all(abs(value) <= limit for value in values)


def _usable_box(box: Any, image: Mapping) -> list | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or not _is_near(box, image):
        return None
    return box if box[2] >= 1 and box[3] >= 1 else None


def _box_of(outline: list | dict, image: Mapping) -> list[float]:
    """[x, y, width, height] around an outline."""
    if isinstance(outline, dict):
        packed = outline if isinstance(outline['counts'], str) else frPyObjects(outline, *outline['size'])
        return toBbox(packed).tolist()
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in outline])
    # Parts outside of the image do not belong to the mask.
    points = points.clip(0, (image['width'], image['height']))
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _area_of(outline: list | dict, image: Mapping) -> int:
    """Pixels inside an outline."""
    if isinstance(outline, dict) and isinstance(outline['counts'], str):
        return int(area(outline))
    packed = frPyObjects(outline, image['height'], image['width'])
    return int(area(merge(packed) if isinstance(packed, list) else packed))


def _is_visible(box: Sequence[float], image: Mapping) -> bool:
    """Whether MMDetection keeps the box: at least a pixel wide and high, and not outside of the image."""
    x, y, width, height = box
    inside = min(x + width, image['width']) > max(x, 0) and min(y + height, image['height']) > max(y, 0)
    return inside and width >= 1 and height >= 1
