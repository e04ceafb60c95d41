"""Reading COCO panoptic JSON files, with one clear error for each defect. No PNG is opened here."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmengine import fileio

SHOWN = 3
MAX_ID = 2**24 - 1
SEGMENT_KEYS = ('id', 'category_id', 'area')


class PanopticFile(NamedTuple):
    """Content of a COCO panoptic JSON file.

    Attributes:
        images: dicts with 'id', 'file_name', 'height', 'width', in the order of the file.
        annotations: image id to dict with 'file_name' of the PNG and 'segments_info'; one for each image, or empty if
            the annotations were not wanted.
        categories: category id to dict with 'name' and 'isthing'.
    """

    images: list[dict]
    annotations: dict[int | str, dict]
    categories: dict[int, dict]


def read_panoptic_json(path: str, backend_args: dict | None = None, *, with_annotations: bool = True) -> PanopticFile:
    """Read and check a COCO panoptic JSON file.

    Args:
        path: of the JSON file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.
        with_annotations: False reads the images and categories only, as a test set without ground truth has.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, not of the panoptic form, an id occurs twice, images and annotations do not
            pair up, or a segment has a category that is not listed.
    """
    content = _parse(path, backend_args)
    wanted = ['images', 'categories'] + ['annotations'] * with_annotations
    for key in wanted:
        if not isinstance(content, Mapping) or not isinstance(content.get(key), list):
            found = f'the keys {sorted(content)}' if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(
                f'panoptic file {path}: found {found}, expected an object with the lists {wanted}. Fix: give ann_file '
                'the COCO panoptic JSON.'
            )
    categories = _check_categories(content['categories'], path)
    images = content['images']
    _require_keys(images, ('id', 'file_name', 'height', 'width'), 'image', path)
    _require_different([image['id'] for image in images], 'images', path)
    if not with_annotations:
        return PanopticFile(images, {}, categories)
    annotations = _pair(content['annotations'], images, path)
    for annotation in annotations.values():
        _check_segments(annotation, categories, path)
    return PanopticFile(images, annotations, categories)


def _parse(path: str, backend_args: dict | None) -> dict:
    try:
        text = fileio.get_text(path, backend_args=backend_args)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'panoptic file {path}: not found. Expected: a COCO panoptic JSON. Fix: correct data_root or ann_file; '
            'relative paths start at the working directory.'
        ) from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f'panoptic file {path}: not valid JSON ({error}). Fix: copy or write the file again.'
        ) from error


def _require_keys(rows: Sequence[Mapping], keys: Sequence[str], what: str, path: str) -> None:
    for row in rows:
        for key in keys:
            if key not in row:
                raise ValueError(
                    f'panoptic file {path}: {what} {dict(row)!r:.120} has no {key!r}, expected {list(keys)}. '
                    'Fix: add it.'
                )


def _require_different(ids: Sequence, what: str, path: str) -> None:
    twice = [number for number, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(
            f'panoptic file {path}: ids {twice[:SHOWN]} occur more than once in {what!r}, expected different ones. '
            'Fix: give each its own id.'
        )


def _check_categories(rows: Sequence[Mapping], path: str) -> dict[int, dict]:
    if rows and all('isthing' not in row for row in rows):
        raise ValueError(
            f"panoptic file {path}: its 'categories' have no 'isthing', as in instance or detection files; expected 1 "
            '(thing) or 0 (stuff) in each. Fix: give ann_file the COCO panoptic JSON (panoptic_*.json), or add it.'
        )
    _require_keys(rows, ('id', 'name', 'isthing'), 'category', path)
    _require_different([row['id'] for row in rows], 'categories', path)
    return {row['id']: row for row in rows}


def _pair(annotations: Sequence[Mapping], images: Sequence[Mapping], path: str) -> dict:
    """Annotations by image id, exactly one for each image."""
    if any('segments_info' not in annotation for annotation in annotations):
        first = next(row for row in annotations if 'segments_info' not in row)
        raise ValueError(
            f'panoptic file {path}: the annotation of image {first.get("image_id")} has the keys {sorted(first)}, but '
            "no 'segments_info'; this is not a COCO panoptic JSON (instance files have one annotation for each "
            'object). Fix: give ann_file the panoptic JSON.'
        )
    _require_keys(annotations, ('image_id', 'file_name'), 'annotation', path)
    _require_different([row['image_id'] for row in annotations], 'annotations', path)
    by_image = {row['image_id']: row for row in annotations}
    known = {image['id'] for image in images}
    for missing, problem in (
        ([image['id'] for image in images if image['id'] not in by_image], 'images have no annotation'),
        ([number for number in by_image if number not in known], 'annotations belong to no image'),
    ):
        if missing:
            raise ValueError(
                f'panoptic file {path}: {len(missing)} {problem}, image ids {missing[:SHOWN]}; expected one annotation '
                "for each image. Fix: complete the file; an image without segments has 'segments_info': []."
            )
    return by_image


def _check_segments(annotation: Mapping, categories: Mapping[int, dict], path: str) -> None:
    segments = annotation['segments_info']
    where = f'segment of {annotation["file_name"]}'
    for segment in segments:
        if any(key not in segment for key in SEGMENT_KEYS):
            _require_keys(segments, SEGMENT_KEYS, where, path)
        if segment['category_id'] not in categories:
            raise ValueError(
                f'panoptic file {path}: {where}, id {segment["id"]}, has category_id {segment["category_id"]}, '
                f"expected one of the {len(categories)} ids in 'categories'. Fix: list the category or correct "
                'the segment.'
            )
        if not 0 < segment['id'] <= MAX_ID:
            raise ValueError(
                f'panoptic file {path}: {where} has id {segment["id"]}, expected 1 to {MAX_ID} (0 is void, ids are '
                'R + 256 G + 65536 B). Fix: number the segments anew, in the JSON and in the PNG.'
            )
    if len({segment['id'] for segment in segments}) < len(segments):
        _require_different([segment['id'] for segment in segments], f'segments_info of {annotation["file_name"]}', path)


def labels_of_categories(categories: Mapping[int, Mapping], metainfo: Mapping, path: str) -> dict[int, int]:
    """Find the classes of a class list among the categories of a file.

    With 'category_ids' in ``metainfo`` class i is the category of that id, whose name may be spelt differently;
    otherwise classes are found by name.

    Args:
        categories: category id to dict with 'name' and 'isthing'.
        metainfo: 'classes', 'isthing' and optionally 'category_ids'.
        path: of the file, for messages.

    Returns:
        Category id to label. Categories that are no class are left out.

    Raises:
        ValueError: if a class is missing, its name belongs to another id, or ``isthing`` differs.
    """
    names = {row['name'].strip(): number for number, row in categories.items()}
    labels: dict[int, int] = {}
    ids = metainfo.get('category_ids') or [names.get(name.strip()) for name in metainfo['classes']]
    for label, (name, number, isthing) in enumerate(zip(metainfo['classes'], ids, metainfo['isthing'], strict=True)):
        if number not in categories or names.get(name.strip(), number) != number:
            raise ValueError(_describe_missing_class(name, number, names, metainfo, path))
        found = categories[number]['isthing']
        if bool(found) is not isthing:
            raise ValueError(
                f"panoptic file {path}: category {number} ({categories[number]['name']!r}) has 'isthing': {found!r}, "
                f"the class list has isthing={isthing} for class {label} ({name!r}). Fix: correct metainfo['isthing'] "
                'or the file; the two must tell the same things from stuff.'
            )
        labels[number] = label
    return labels


def _describe_missing_class(
    name: str, number: int | None, names: Mapping[str, int], metainfo: Mapping, path: str
) -> str:
    shown = ', '.join(f'{known!r} ({known_id})' for known, known_id in list(names.items())[:8])
    more = f' and {len(names) - 8} more' if len(names) > 8 else ''
    if 'category_ids' in metainfo:
        elsewhere = f', where {name!r} has id {names[name.strip()]}' if name.strip() in names else ''
        wanted = f'class {name!r} with category id {number}{elsewhere}'
        fix = "metainfo['category_ids'], or leave them out to find classes by name"
    else:
        wanted, fix = f'class {name!r}', "metainfo['classes']"
    return (
        f"panoptic file {path}: its 'categories' do not fit the class list: expected {wanted}, found {shown}{more} "
        f'(name and id). Fix: correct {fix}, or take the data set class that belongs to the file.'
    )
