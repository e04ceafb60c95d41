"""Image, ground truth and one prediction of a data sample of either host, in the form for drawing.

Samples are read by attribute, so no host is imported here.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine import fileio
from PIL import Image
from pycocotools.mask import decode, frPyObjects, merge

from mmmaskformer.formats.label_maps import load_labels
from mmmaskformer.formats.mmdet_codes import decode_panoptic
from mmmaskformer.formats.panoptic_png import read_ids, replace_ids
from mmmaskformer.formats.photos import read_photo
from mmmaskformer.formats.whole_files import require_writable, whole_file
from mmmaskformer.heads.results import INSTANCES, PANOPTIC, SEMANTIC, result_kinds
from mmmaskformer.visualization.draw import distinct_colours
from mmmaskformer.visualization.segments import (
    VOID_NAME,
    Overlay,
    keep_classes,
    merge_classes,
    segments_of_labels,
    segments_of_masks,
)
from mmmaskformer.visualization.sheet import Example, contact_sheet

# Label that the hosts ignore unless a dataset has another `ignore_index`.
DEFAULT_IGNORE_LABEL = 255
# Instances with a lower score are not drawn, as in MMDetection's own pictures.
MIN_SCORE = 0.3
OVERVIEW = 'overview'
OVERVIEW_ROWS = 4


class ClassList(NamedTuple):
    """The classes of a dataset.

    Attributes:
        names: K.
        palette: (K, 3) colours in [0, 255], RGB.
        is_thing: (K,) bool; True for all if the dataset does not define things.
        ignore_label: ignored label of semantic ground truth.
    """

    names: Sequence[str]
    palette: Sequence[Sequence[int]]
    is_thing: Sequence[bool]
    ignore_label: int


def class_list_of(dataset: Any) -> ClassList:
    """The classes of one of the hosts' datasets.

    Args:
        dataset: with ``metainfo`` (colours are chosen if it has none) and, optionally, ``ignore_index``.

    Raises:
        ValueError: if its metainfo has no names, or another number of colours.
    """
    metainfo = dataset.metainfo
    names = metainfo.get('classes')
    if not names:
        raise ValueError(
            f'the metainfo of {type(dataset).__name__} has classes {names!r}, expected a name for every class. '
            'Fix: set metainfo=dict(classes=..., palette=...) of the dataset'
        )
    palette = metainfo.get('palette')
    # None, an empty list, or a word such as 'random', which the hosts' own visualizers understand
    if palette is None or isinstance(palette, str) or not len(palette):
        palette = distinct_colours(len(names))
    if len(palette) != len(names):
        raise ValueError(
            f'the metainfo of {type(dataset).__name__} has {len(palette)} colours for {len(names)} classes. Fix: give '
            'palette one [R, G, B] for each class, or omit it'
        )
    things = metainfo.get('thing_classes', names)
    ignore_label = getattr(dataset, 'ignore_index', DEFAULT_IGNORE_LABEL)
    return ClassList(names, palette, [name in things for name in names], ignore_label)


def drawable_fields() -> dict[str, str]:
    """The predictions that can be drawn, and the form of each; by default the first one in a sample is drawn."""
    return {kind.field: kind.form for kind in result_kinds().values() if kind.form is not None}


def require_field(field: str | None) -> None:
    """Check the name of a prediction.

    Raises:
        ValueError: if it is neither None nor one of `drawable_fields`.
    """
    fields = drawable_fields()
    if field is not None and field not in fields:
        raise ValueError(f'field: found {field!r}, expected None or one of {list(fields)}')


def read_example(
    sample: Any, classes: ClassList, field: str | None = None, info: Mapping | None = None
) -> tuple[str, Example]:
    """Image, ground truth and prediction of a data sample, all of the size of the image file.

    The ground truth is taken from the panoptic file of the dataset, else from the sample, else from a label file; for
    instances also from MMDetection's samples or entries. It is converted to the form of the prediction: merged by
    class, or things only.

    Args:
        sample: a data sample with predictions, from a model's ``test_step``.
        classes: classes of its dataset.
        field: prediction to draw, one of `drawable_fields`; None takes the first available one.
        info: entry of the dataset; None uses the sample's metainfo.

    Returns:
        The name of the image file without its suffix; the example, without ground truth if there is none.

    Raises:
        ValueError: if the sample lacks the prediction, or prediction or ground truth differs from the image in size.
    """
    fields = drawable_fields()
    found = [key for key in fields if key in sample]
    if not found or (field is not None and field not in found):
        raise ValueError(
            f'model: found a prediction with {sorted(sample.keys())}, expected {field or "one of " + str(list(fields))}'
            '. Fix: for other outputs of a panoptic model, add them to model.test_cfg'
        )
    field = field or found[0]
    form = fields[field]
    prediction = _prediction(sample.get(field), form, len(classes.names))
    image = read_photo(sample.img_path, size=prediction.ids.shape)
    _check_size(field, prediction, image, sample.img_path)
    info = sample.metainfo if info is None else info
    truth = _true_instances(sample, info) if form == INSTANCES else None
    if truth is None:
        truth = _ground_truth(sample, info, classes)
    if truth is not None:
        _check_size('ground truth', truth, image, sample.img_path)
        truth = _as_form(truth, form, classes)
    return Path(sample.img_path).stem, Example(image, truth, prediction)


def _prediction(packed: Any, form: str, num_classes: int) -> Overlay:
    if form == INSTANCES:
        found = packed.cpu()
        sure = found.scores >= MIN_SCORE
        return segments_of_masks(*(values[sure].numpy() for values in (found.masks, found.labels, found.scores)))
    encoded = _map_of(packed)
    if form == PANOPTIC:
        listed = [segment['id'] for segment in packed.segments] if 'segments' in packed else None
        segments = decode_panoptic(encoded, num_classes, listed)
        reason = packed.get('why_empty')
        # The legend of an empty picture explains why it is empty.
        return Overlay(segments.ids, segments.labels, void=f'{VOID_NAME}: {reason}' if reason else VOID_NAME)
    # K means no class; a semantic model never predicts it.
    return segments_of_labels(encoded, num_classes, VOID_NAME)


def _map_of(field: Any) -> np.ndarray:
    """The map in a field of either host's samples, (H, W)."""
    values = field.sem_seg if 'sem_seg' in field else field.data
    return values.squeeze(0).cpu().numpy()


def _ground_truth(sample: Any, info: Mapping, classes: ClassList) -> Overlay | None:
    path = info.get('seg_map_path')
    readable = path is not None and fileio.exists(path)
    if readable and info.get('segments_info') is not None:
        return _read_panoptic(path, info['segments_info'])
    if 'gt_panoptic_seg' in sample:
        panoptic = sample.gt_panoptic_seg
        return _segments_of_map(panoptic.segment_map[0].cpu().numpy(), panoptic.labels)
    if 'gt_sem_seg' in sample:
        return segments_of_labels(_map_of(sample.gt_sem_seg), classes.ignore_label)
    return segments_of_labels(load_labels(info, classes.ignore_label), classes.ignore_label) if readable else None


def _true_instances(sample: Any, info: Mapping) -> Overlay | None:
    """Ground truth in MMDetection's form: masks of the sample, or outlines of the dataset's entry, without crowds."""
    if 'gt_instances' in sample and 'masks' in sample.gt_instances:
        masks = sample.gt_instances.masks.to_ndarray().astype(bool)
        labels = sample.gt_instances.labels.cpu().numpy()
    else:
        rows = [row for row in info.get('instances') or () if 'mask' in row and not row.get('ignore_flag')]
        if not rows:
            return None
        masks = np.stack([_mask_of(row['mask'], info['height'], info['width']) for row in rows])
        labels = np.array([row['bbox_label'] for row in rows])
    # Small ones are drawn on top, so that large ones cannot hide them.
    return segments_of_masks(masks, labels, -masks.sum(axis=(1, 2)))


def _mask_of(outline: Sequence | Mapping, height: int, width: int) -> np.ndarray:
    """The (height, width) bool mask of COCO's polygons or run lengths."""
    packed = isinstance(outline, Mapping) and isinstance(outline['counts'], str | bytes)
    parts = outline if packed else frPyObjects(outline, height, width)
    return decode(merge(parts) if isinstance(parts, list) else parts).astype(bool)


def _read_panoptic(path: str, segments_info: Sequence[Mapping]) -> Overlay:
    """Segments of a COCO panoptic PNG; crowds are void, as in training and in the metric."""
    rows = [row for row in segments_info if not row.get('iscrowd')]
    numbers = {row['id']: index for index, row in enumerate(rows)}
    segment_map, _ = replace_ids(read_ids(path), numbers)
    return _segments_of_map(segment_map, [row['category'] for row in rows])


def _segments_of_map(segment_map: np.ndarray, labels: Sequence[int]) -> Overlay:
    """Segments of a map of indices, (H, W) int16 with -1 for void."""
    return Overlay(segment_map.astype(np.int64) + 1, np.array(labels, np.int64))


def _as_form(truth: Overlay, form: str, classes: ClassList) -> Overlay:
    """The part of the ground truth that a prediction of this form is compared with."""
    if form == SEMANTIC:
        return merge_classes(truth)
    return keep_classes(truth, classes.is_thing) if form == INSTANCES else truth


def _check_size(key: str, segments: Overlay, image: np.ndarray, path: str) -> None:
    if segments.ids.shape != image.shape[:2]:
        raise ValueError(
            f'{key}: found size {segments.ids.shape}, expected that of {path}, {image.shape[:2]}. '
            'Fix: in the test pipeline, load annotations after resizing'
        )


def spread_indices(length: int, num: int) -> list[int]:
    """At most ``num`` different indices into ``length`` items, evenly spread from the first to the last.

    Raises:
        ValueError: if there are no items.
    """
    if length < 1:
        raise ValueError('dataset: found no image, expected at least one. Fix: check its data_root')
    return np.unique(np.linspace(0, length - 1, min(num, length)).round().astype(int)).tolist()


def write_pictures(examples: Iterable[tuple[str, Example]], classes: ClassList, out_dir: str | Path) -> list[Path]:
    """Write a picture of each example, and overview.png with up to `OVERVIEW_ROWS` of them.

    Args:
        examples: name of the file without its suffix, and what to draw; at least one.
        classes: classes of the dataset.
        out_dir: folder for the pictures; it is created.

    Returns:
        The files written, overview.png last.

    Raises:
        OSError: if the folder or a file cannot be written.
    """
    out_dir = Path(out_dir)
    require_writable(out_dir, 'out_dir', folder=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    kept, files = [], []
    for number, (name, example) in enumerate(examples):
        file = _free_file(out_dir, name, number, files)
        _save(contact_sheet([example], classes.names, classes.palette), file)
        kept.append(example)
        files.append(file)
    rows = [kept[number] for number in spread_indices(len(kept), OVERVIEW_ROWS)]
    files.append(out_dir / f'{OVERVIEW}.png')
    _save(contact_sheet(rows, classes.names, classes.palette), files[-1])
    return files


def _free_file(folder: Path, name: str, number: int, taken: Sequence[Path]) -> Path:
    """The file for a picture; a number is added if another picture or the overview has the same name."""
    names = itertools.chain([name], (f'{name}_{later}' for later in itertools.count(number)))
    files = (folder / f'{each}.png' for each in names if each != OVERVIEW)
    return next(file for file in files if file not in taken)


def _save(picture: Image.Image, file: Path) -> None:
    """Write a PNG atomically."""
    with whole_file(file) as part:
        picture.save(part, format='PNG')
