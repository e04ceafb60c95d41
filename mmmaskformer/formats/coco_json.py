"""Reader and writer for COCO's panoptic JSON, with a clear error for each defect.

Small deviations of other tools from COCO's format are accepted and counted in ``notes``. No images are opened here.
"""

import json
import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmmaskformer.formats.coco_values import Notes, as_flag, as_number, as_size, as_whole
from mmmaskformer.formats.json_files import SHOWN, read_json, require_different, require_keys, require_lists
from mmmaskformer.formats.panoptic_png import MAX_ID
from mmmaskformer.formats.whole_files import write_whole


class PanopticFile(NamedTuple):
    """Content of a COCO panoptic JSON file.

    Attributes:
        images: dicts with 'id', 'file_name', 'height', 'width', in the order of the file.
        annotations: image id to dict with 'file_name' of the PNG and 'segments_info', whose dicts have 'id' (1 to
            2**24 - 1), 'category_id', 'iscrowd' (bool) and 'area' (a number, None if the file has no usable one); one
            for each image, or empty if the annotations were not wanted.
        categories: category id to dict with 'name' and 'isthing' (bool).
        notes: accepted deviations from COCO's format; see `Notes.lines`.
    """

    images: list[dict]
    annotations: dict[int | str, dict]
    categories: dict[int, dict]
    notes: Notes


def read_panoptic(path: str, backend_args: dict | None = None, *, with_annotations: bool = True) -> PanopticFile:
    """Read and check a COCO panoptic JSON file.

    Args:
        path: of the JSON file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.
        with_annotations: False reads only images and categories, for a test set without ground truth.

    Returns:
        Its content. Ids and sizes written as text are numbers, file names have no './' and no backslash.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, not of the panoptic form, a value has the wrong type, an id occurs twice, images
            and annotations do not pair up, or a segment has a category that is not listed.
    """
    what = f'panoptic file {path}'
    notes = Notes(what)
    content = read_json(path, backend_args, 'a COCO panoptic JSON', what)
    wanted = ['images', 'categories'] + ['annotations'] * with_annotations
    require_lists(content, wanted, what, 'the COCO panoptic JSON')
    categories = _check_categories(content['categories'], what, notes)
    images = content['images']
    check_images(images, what, notes)
    if not with_annotations:
        return PanopticFile(images, {}, categories, notes)
    annotations = _pair(content['annotations'], images, what, notes)
    for annotation in annotations.values():
        _check_segments(annotation, categories, what, notes)
    return PanopticFile(images, annotations, categories, notes)


def write_panoptic(
    path: str | Path,
    annotations: Sequence[Mapping],
    images: Sequence[Mapping] | None = None,
    categories: Sequence[Mapping] | None = None,
) -> None:
    """Write a COCO panoptic JSON file atomically.

    Args:
        path: the file; its folder must exist.
        annotations: dicts with 'image_id', 'file_name' and 'segments_info'.
        images: see `PanopticFile`; None for a file of results, which has annotations only.
        categories: a list of dicts with 'id', 'name' and 'isthing'; None for a file of results.
    """
    write_whole(path, panoptic_text(annotations, images, categories))


def panoptic_text(
    annotations: Sequence[Mapping],
    images: Sequence[Mapping] | None = None,
    categories: Sequence[Mapping] | None = None,
) -> str:
    """The content of a COCO panoptic JSON file; arguments as in `write_panoptic`."""
    parts = {'images': images, 'annotations': annotations, 'categories': categories}
    return json.dumps({key: list(rows) for key, rows in parts.items() if rows is not None}, default=_plain_number)


def _plain_number(value: Any) -> int | float | bool:
    """A number of numpy as one of Python, for JSON."""
    if not isinstance(value, np.generic):
        raise TypeError(f'{value!r:.80} is a {type(value).__name__}, expected a number, text, a list or a dict')
    return value.item()


def segment_row(mask: np.ndarray, number: int, category_id: int, iscrowd: bool = False) -> dict:
    """A row of 'segments_info'.

    Args:
        mask: (H, W) bool, its pixels, at least one.
        number: id of the segment.
        category_id: of its class in the file.
        iscrowd: whether it stands for several instances.

    Raises:
        ValueError: if it has no pixels.
    """
    if not mask.any():
        raise ValueError(f'segment {number}: found no pixels, expected at least one. Fix: leave it out')
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        'id': number,
        'category_id': category_id,
        'area': int(np.count_nonzero(mask)),
        'bbox': [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        'iscrowd': int(iscrowd),
    }


def plain_name(name: Any, notes: Notes, where: str) -> str:
    """A file name with slashes only and without './'.

    Raises:
        ValueError: if it is not a string.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: 'file_name' is {name!r:.80}, expected the name of a file. Fix: correct it.")
    if '\\' not in name and '//' not in name and './' not in name:
        return name
    plain = posixpath.normpath(name.replace('\\', '/'))
    if plain != name:
        notes.add("file names with '\\', './' or '//', read with '/' alone", name)
    return plain


def _image_id(value: Any, key: str, where: str) -> int | str:
    if isinstance(value, str) and value:
        return value
    number = as_whole(value)
    if number is None:
        raise ValueError(f'{where}: {key!r} is {value!r:.80}, expected a whole number or text. Fix: correct it.')
    return number


def check_images(images: Sequence[dict], what: str, notes: Notes) -> None:
    """Check the images of a file and make their values plain, in place.

    Args:
        images: of the file.
        what: kind and path of the file, for messages.
        notes: counts accepted deviations.

    Raises:
        ValueError: if a value is missing or wrong, or an id occurs twice.
    """
    for position, image in enumerate(images):
        require_keys(image, ('id', 'file_name', 'height', 'width'), 'image', what)
        where = f'{what}: image {position} ({image["file_name"]!r:.80})'
        image['id'] = _image_id(image['id'], 'id', where)
        image['file_name'] = plain_name(image['file_name'], notes, where)
        for key in ('height', 'width'):
            image[key] = as_size(image[key], key, where, notes)
    require_different([image['id'] for image in images], 'images', what)


def _check_categories(rows: Sequence[dict], what: str, notes: Notes) -> dict[int, dict]:
    if rows and all('isthing' not in row for row in rows):
        raise ValueError(
            f"{what}: its 'categories' have no 'isthing', as in instance or detection files; expected 1 "
            '(thing) or 0 (stuff) in each. Fix: set ann_file to the COCO panoptic JSON (panoptic_*.json), or add it.'
        )
    for position, row in enumerate(rows):
        require_keys(row, ('id', 'name', 'isthing'), 'category', what)
        where = f'{what}: category {position} ({row["name"]!r:.80})'
        row['id'] = as_number(row['id'], 'id', where, notes)
        if not isinstance(row['name'], str):
            raise ValueError(f"{where}: 'name' is {row['name']!r:.80}, expected text. Fix: correct it.")
        row['isthing'] = as_flag(row['isthing'], 'isthing', where, notes)
    require_different([row['id'] for row in rows], 'categories', what)
    return {row['id']: row for row in rows}


def _pair(annotations: Sequence[dict], images: Sequence[Mapping], what: str, notes: Notes) -> dict:
    """Annotations by image id, exactly one for each image."""
    if any('segments_info' not in annotation for annotation in annotations):
        first = next(row for row in annotations if 'segments_info' not in row)
        raise ValueError(
            f'{what}: the annotation of image {first.get("image_id")} has the keys {sorted(first)}, but '
            "no 'segments_info'; this is not a COCO panoptic JSON (instance files have one annotation for each "
            'object). Fix: set ann_file to the panoptic JSON.'
        )
    known = {image['id'] for image in images}
    for position, row in enumerate(annotations):
        require_keys(row, ('image_id', 'file_name'), 'annotation', what)
        where = f'{what}: annotation {position} ({row["file_name"]!r:.80})'
        row['image_id'] = known_id(row['image_id'], known, where, notes)
        row['file_name'] = plain_name(row['file_name'], notes, where)
    require_different([row['image_id'] for row in annotations], 'annotations', what)
    by_image = {row['image_id']: row for row in annotations}
    for missing, problem in (
        ([image['id'] for image in images if image['id'] not in by_image], 'images have no annotation'),
        ([number for number in by_image if number not in known], 'annotations belong to no image'),
    ):
        if missing:
            raise ValueError(
                f'{what}: {len(missing)} {problem}, image ids {missing[:SHOWN]}; expected one annotation '
                "for each image. Fix: complete the file; an image without segments has 'segments_info': []."
            )
    return by_image


def known_id(value: Any, known: Collection, where: str, notes: Notes) -> int | str:
    """The id of an image, which may be written as text in one place and as a number in the other.

    Args:
        value: of 'image_id'.
        known: ids of all images.
        where: its position, for messages.
        notes: counts ids of the other type.

    Raises:
        ValueError: if it is neither a whole number nor text.
    """
    number = _image_id(value, 'image_id', where)
    if number not in known:
        other = as_whole(number) if isinstance(number, str) else str(number)
        if other is not None and other in known:
            notes.add("'image_id' written as text where the image has a number, or the reverse", where)
            return other
    return number


def _check_segments(annotation: dict, categories: Mapping[int, dict], what: str, notes: Notes) -> None:
    """Check the segments of an image and make their values plain, in place."""
    segments, name = annotation['segments_info'], annotation['file_name']
    if not isinstance(segments, list):
        raise ValueError(
            f"{what}: 'segments_info' of {name} is {segments!r:.80}, expected a list of objects. Fix: correct it; an "
            "image without segments has 'segments_info': []."
        )
    for position, segment in enumerate(segments):
        if not _is_plain(segment):
            _make_plain(segment, position, name, what, notes)
        segment['iscrowd'] = bool(segment.get('iscrowd'))
        if segment['category_id'] not in categories:
            raise ValueError(
                f'{what}: segment of {name}, id {segment["id"]}, has category_id {segment["category_id"]}, '
                f"expected one of the {len(categories)} ids in 'categories'. Fix: list the category or correct "
                'the segment.'
            )
        if not 0 < segment['id'] <= MAX_ID:
            raise ValueError(
                f'{what}: segment of {name} has id {segment["id"]}, expected 1 to {MAX_ID} (0 is void, ids are '
                'R + 256 G + 65536 B). Fix: renumber the segments, in the JSON and in the PNG.'
            )
    if len({segment['id'] for segment in segments}) < len(segments):
        require_different([segment['id'] for segment in segments], f'segments_info of {name}', what)


def _is_plain(segment: Any) -> bool:
    """Whether a segment is in COCO's exact format: most are, and a file may have millions."""
    return (
        type(segment) is dict
        and type(segment.get('id')) is int
        and type(segment.get('category_id')) is int
        and type(segment.get('area')) is int
        and segment['area'] > 0
        and segment.get('iscrowd', 0) in (0, 1)
    )


def _make_plain(segment: Any, position: int, name: str, what: str, notes: Notes) -> None:
    where = f'{what}: segment {position} of {name}'
    if not isinstance(segment, dict):
        raise ValueError(f'{where} is {segment!r:.80}, expected an object. Fix: correct or remove it.')
    require_keys(segment, ('id', 'category_id'), f'segment of {name}', what)
    for key in ('id', 'category_id'):
        segment[key] = as_number(segment[key], key, where, notes)
    where = f'{where}, id {segment["id"]}'
    segment['iscrowd'] = as_flag(segment.get('iscrowd', 0), 'iscrowd', where, notes)
    area: Any = segment.get('area')
    if type(area) not in (int, float) or not 0 < area < float('inf'):
        notes.add("segments without a usable 'area', whose pixels are counted in the PNG", where)
        area = None
    segment['area'] = area
