"""Checks a sample of a dataset's files before a run, for faults that would not raise an error."""

import time
from collections.abc import Iterator, Mapping, Sequence
from os import path as osp
from typing import Any, NamedTuple

import numpy as np

from mmmaskformer.datasets.areas import ADVICE as AREA_ADVICE
from mmmaskformer.datasets.areas import AreaCheck, require_listed
from mmmaskformer.datasets.transforms.loading import DEPTH_ADVICE, ORIENTATION_ADVICE, mark_reported
from mmmaskformer.formats.images import ImageHeader, grey_levels, read_header
from mmmaskformer.formats.label_maps import (
    IGNORE_INDEX_8BIT,
    load_labels,
    require_known_labels,
)
from mmmaskformer.formats.messages import some
from mmmaskformer.formats.panoptic_png import read_ids, replace_ids
from mmmaskformer.formats.unreadable import describe_unreadable

MAX_LABEL_FILES, LABEL_SECONDS = 500, 0.8
MAX_IMAGE_FILES, IMAGE_SECONDS = 2000, 0.4
MAX_PANOPTIC_FILES, PANOPTIC_SECONDS = 100, 0.4
MIN_FILES = 4
"""Minimum number of files, regardless of the time they take."""
HIGH_SHARE = 0.5
"""Share of ignored pixels above which a warning is logged."""
NAMED_CLASSES = 20
IGNORED_ADVICE = (
    '. If label {ignore_index} is a class in the files, as in masks of 0 and 255, write its class id there; check also '
    'reduce_zero_label and the order of the class list'
)
KEEPS_8_BITS = {'color', 'grayscale', 'color_ignore_orientation', 'grayscale_ignore_orientation'}
TURNS = {'color', 'grayscale'}
"""Values of the loader's ``color_type`` that apply the EXIF orientation."""


class Finding(NamedTuple):
    """One line for the log.

    Attributes:
        text: the finding.
        is_warning: whether it probably is a fault.
    """

    text: str
    is_warning: bool


def data_sets_of(dataset: Any) -> list:
    """The datasets inside the wrappers of mmengine and both hosts, such as ConcatDataset and RepeatDataset."""
    if hasattr(dataset, 'datasets'):
        return [leaf for part in dataset.datasets for leaf in data_sets_of(part)]
    if hasattr(dataset, 'dataset'):
        return data_sets_of(dataset.dataset)
    return [dataset] if hasattr(dataset, 'get_data_info') else []


def image_paths(dataset: Any) -> list[str]:
    """Paths of all images of a dataset, through wrappers."""
    infos = (leaf.get_data_info(index) for leaf in data_sets_of(dataset) for index in range(len(leaf)))
    return [info['img_path'] for info in infos if 'img_path' in info]


def input_paths(dataset: Any) -> list[str]:
    """Paths of all images and annotation pictures of a dataset, through wrappers."""
    infos = (leaf.get_data_info(index) for leaf in data_sets_of(dataset) for index in range(len(leaf)))
    return [info[key] for info in infos for key in ('img_path', 'seg_map_path') if info.get(key) is not None]


def image_root(dataset: Any) -> str | None:
    """The common parent folder of all images of a dataset, through wrappers; None if there is none."""
    roots = set()
    for leaf in data_sets_of(dataset):
        prefix = getattr(leaf, 'data_prefix', None) or {}
        roots.add(prefix.get('img_path') or prefix.get('img') or '')
    try:
        return osp.commonpath(roots) or None
    except ValueError:  # no images, or both absolute and relative paths
        return None


def inspect_data(dataset: Any) -> list[Finding]:
    """Check a sample of the label maps and images of a dataset, in about a second.

    Args:
        dataset: of a data loader, with or without wrappers.

    Returns:
        Lines for the log.

    Raises:
        ValueError: if a label map or panoptic PNG of one of our datasets cannot be used, an image file is empty, or
            the size of an annotation shows that its orientation differs from that in which the image is read.
        FileNotFoundError: if a label map or panoptic PNG is missing.
    """
    leaves = data_sets_of(dataset)
    return [
        *_label_findings(leaves),
        *_segment_findings(leaves),
        *_area_findings(leaves),
        *_image_findings(leaves),
    ]


def _sample(leaves: list, max_files: int, seconds: float) -> Iterator[tuple[Any, Mapping]]:
    """Yield dataset and entry of images drawn without replacement, the same in every run, until the time is over."""
    lengths = [len(leaf) for leaf in leaves]
    order = np.random.default_rng(0).permutation(sum(lengths))[:max_files]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    end = time.monotonic() + seconds
    for count, number in enumerate(order.tolist()):
        if count >= MIN_FILES and time.monotonic() > end:
            return
        index = int(np.searchsorted(starts, number, side='right')) - 1
        yield leaves[index], leaves[index].get_data_info(number - int(starts[index]))


def _label_findings(leaves: list) -> list[Finding]:
    """Find the classes in the label maps and the share of ignored pixels."""
    leaves = [leaf for leaf in leaves if hasattr(leaf, 'reduce_zero_label')]
    classes = leaves[0].metainfo.get('classes') if leaves else None
    if not classes:
        return []
    counts = np.zeros(len(classes) + 1, np.int64)
    files = 0
    for leaf, info in _sample(leaves, MAX_LABEL_FILES, LABEL_SECONDS):
        found = _count_labels(leaf, info, len(classes))
        if found is not None:
            counts += found
            files += 1
    if not files:
        return []
    total = sum(map(len, leaves))
    checked = f'all {total} label maps' if files == total else f'{files} of {total} label maps'
    ignore_index = getattr(leaves[0], 'ignore_index', IGNORE_INDEX_8BIT)
    return [_describe_counts(counts, classes, checked, ignore_index)]


def _count_labels(leaf: Any, info: Mapping, num_classes: int) -> np.ndarray | None:
    """Pixels of each class, then of all other values; None without a readable label map."""
    if info.get('seg_map_path') is None:
        return None
    ignore_index = getattr(leaf, 'ignore_index', IGNORE_INDEX_8BIT)
    ours = 'num_classes' in info
    try:
        labels = load_labels(info, ignore_index, getattr(leaf, 'backend_args', None))
    except (OSError, ValueError):
        if ours:
            raise
        return None  # from a dataset of a host, whose own loader may be able to read it
    if ours:
        require_known_labels(labels, num_classes, ignore_index, info['seg_map_path'])
    inside = np.where(labels < num_classes, labels, num_classes)
    return np.bincount(inside.ravel(), minlength=num_classes + 1)


def _describe_counts(counts: np.ndarray, classes: tuple, checked: str, ignore_index: int) -> Finding:
    share = counts[-1] / counts.sum()
    ignored = f'{share:.1%} of the pixels are ignored (label {ignore_index})'
    named = _describe_absent(counts[:-1], classes)
    if not named:
        # With one class, every pixel that is not ignored is correct, so the metrics are always perfect.
        is_warning = bool(share > (HIGH_SHARE if len(classes) > 1 else 0))
        text = f'{checked}: all {len(classes)} classes occur, {ignored}'
        return Finding(text + IGNORED_ADVICE.format(ignore_index=ignore_index) * is_warning, is_warning)
    text = f'{checked}: {named}; {ignored}'
    if share > 0:
        text += IGNORED_ADVICE.format(ignore_index=ignore_index)
    return Finding(text, True)


def _describe_absent(counts: np.ndarray, classes: Sequence[str], what: str = 'pixel') -> str:
    """Describe the classes with a count of 0; empty if there are none."""
    absent = [f"{label} '{classes[label]}'" for label in np.flatnonzero(counts == 0)]
    named = f'{len(absent)} of {len(classes)} classes have no {what}: {some(absent, NAMED_CLASSES)}'
    return named if absent else ''


def _segment_findings(leaves: list) -> list[Finding]:
    """Find classes without a segment or instance in the JSON files."""
    leaves = [leaf for leaf in leaves if not hasattr(leaf, 'reduce_zero_label')]
    classes = leaves[0].metainfo.get('classes') if leaves and hasattr(leaves[0], 'metainfo') else None
    if not classes:
        return []
    counts, files = np.zeros(len(classes), np.int64), 0
    for _, info in _sample(leaves, MAX_IMAGE_FILES, IMAGE_SECONDS):
        rows = info.get('segments_info', info.get('instances'))
        files += rows is not None
        labels = [row.get('category', row.get('bbox_label', -1)) for row in rows or ()]
        np.add.at(counts, [label for label in labels if 0 <= label < len(classes)], 1)
    # Files without annotations, such as those for a test server, have no segments at all.
    named = _describe_absent(counts, classes, 'segment') if counts.any() else ''
    total = sum(map(len, leaves))
    checked = f'all {total} images' if files == total else f'{files} of {total} images'
    return [Finding(f'{checked}: {named}. Check the class list and the categories', True)] if named else []


def _area_findings(leaves: list) -> list[Finding]:
    """Areas of segments that panoptic PNG files contradict."""
    ours = [leaf for leaf in leaves if type(leaf).__module__.startswith('mmmaskformer.')]
    files, found = 0, {}
    for leaf, info in _sample(ours, MAX_PANOPTIC_FILES, PANOPTIC_SECONDS):
        if info.get('segments_info') is not None and info.get('seg_map_path') is not None:
            _, pixels = replace_ids(read_ids(info['seg_map_path'], getattr(leaf, 'backend_args', None)), {})
            require_listed(pixels, info)
            files += 1
            areas = AreaCheck.of(info['segments_info'], pixels)
            if areas.wrong:
                found[info['seg_map_path']] = areas
    if not found:
        return []
    mark_reported('areas')
    path = next(iter(found))
    text = (
        f'of {files} checked panoptic PNG files ({sum(map(len, ours))} in total), {len(found)} contradict areas of '
        f'their segments, the first {path}: {found[path].describe()}. {AREA_ADVICE}'
    )
    return [Finding(text, True)]


def _image_findings(leaves: list) -> list[Finding]:
    """Find images that lose bits or bands on loading, or whose orientation may differ from their annotations."""
    turned, deep, banded, files = [], [], [], 0
    for leaf, info in _sample(leaves, MAX_IMAGE_FILES, IMAGE_SECONDS):
        path, backend_args = info.get('img_path'), getattr(leaf, 'backend_args', None)
        header = None if path is None else read_header(path, backend_args)
        loader = _loader_of(leaf)
        if header is None and path is not None and osp.isfile(path) and not osp.getsize(path):
            raise ValueError(describe_unreadable(path))
        if header is None or loader is None:
            continue
        files += 1
        _require_listed_size(header, info)
        if _orientation_is_open(header, info, loader, backend_args):
            turned.append(f'{path} (orientation {max(header.orientation, header.tiff_orientation)})')
        if loader.color_type in KEEPS_8_BITS and header.bits > 8:
            deep.append(path)
        if loader.color_type in KEEPS_8_BITS and (header.bands > 3 or not header.is_colour):
            banded.append(path)
    checked = f'of {files} checked images ({sum(map(len, leaves))} in total)'
    found = []
    if turned:
        advice = ORIENTATION_ADVICE.format(orientation='of the tag')
        found.append(
            f'{checked}, {len(turned)} have an EXIF orientation that rotates or flips them without a change of size: '
            f"{some(turned)}. They are read upright, or as stored with color_type='unchanged', and their size does not "
            f'show which of the two their annotations are: {advice}'
        )
    for path in (*deep[:1], *banded[:1]):
        _require_readable(path, leaves)
    if deep:
        mark_reported('bits')
        before, after = grey_levels(deep[0]) or ('all', 'fewer')
        found.append(
            f'{checked}, {len(deep)} have more than 8 bits per band, but the loader keeps only the upper 8: '
            f'{some(deep)}; in the first, {before} grey levels become {after}. {DEPTH_ADVICE}'
        )
    if banded:
        found.append(
            f'{checked}, {len(banded)} have bands that the loader drops: {some(banded)}. Unless these are opacity, '
            "load with color_type='unchanged' (TIFF files also with imdecode_backend='tifffile'), set mean and std "
            "of the data preprocessor to one value for each band, and set the backbone's in_channels"
        )
    return [Finding(text, True) for text in found]


def _require_readable(path: str, leaves: list) -> None:
    """Raise if OpenCV cannot read an image because of its bits or bands; the host's message gives no reason."""
    uses_opencv = all(getattr(_loader_of(leaf), 'imdecode_backend', 'cv2') == 'cv2' for leaf in leaves)
    header = read_header(path)
    is_common = header.bands <= 4 and header.bits <= 16
    if is_common or not uses_opencv or not osp.isfile(path) or grey_levels(path) is not None:
        return
    raise ValueError(
        f'image {path}: {header.bands} bands of {header.bits} bits, which OpenCV cannot convert to 8 bits, as '
        "LoadImageFromFile does by default. Fix: load with LoadImageFromFile(color_type='unchanged'), TIFF files of "
        "more than three bands also with imdecode_backend='tifffile' (pip install tifffile imagecodecs); remove the "
        'colour jitter; set mean and std of the data preprocessor and image_value of PadToSize to their range.'
    )


def _loader_of(leaf: Any) -> Any | None:
    """The transform of a dataset's pipeline that loads the image and has a ``color_type``; None if there is none."""
    transforms = getattr(getattr(leaf, 'pipeline', None), 'transforms', [])
    return next((each for each in transforms if isinstance(getattr(each, 'color_type', None), str)), None)


def _require_listed_size(header: ImageHeader, info: Mapping) -> None:
    """Raise if outlines of instances are for an image of another size, apart from its orientation."""
    listed = (info.get('height'), info.get('width'))
    if info.get('instances') and listed not in (header.stored_size, header.upright_size):
        raise ValueError(
            f'image {info["img_path"]}: {header.stored_size[0]} x {header.stored_size[1]} pixels (height x width), but '
            f'its annotation is for {listed[0]} x {listed[1]}. Fix: use the images that were annotated, or correct '
            "'height', 'width' and the outlines."
        )


def _orientation_is_open(header: ImageHeader, info: Mapping, loader: Any, backend_args: dict | None) -> bool:
    """Whether an image is rotated or flipped on loading and its annotation may not be.

    Raises:
        ValueError: if the size of the annotation shows that its orientation differs from the loaded image.
    """
    annotated = any(info.get(key) is not None for key in ('seg_map_path', 'segments_info', 'instances'))
    if annotated and header.tiff_orientation != 1:
        return header.tiff_orientation < 5 or header.upright_size[0] == header.upright_size[1]
    if header.orientation == 1 or not annotated:
        return False
    turns = loader.color_type in TURNS and getattr(loader, 'imdecode_backend', 'cv2') in ('cv2', 'pillow')
    read, other = header.upright_size, header.stored_size
    if not turns:
        read, other = other, read
    if read == other:
        return turns or loader.color_type == 'unchanged'
    size = (info['height'], info['width']) if 'height' in info and 'width' in info else None
    if size is None and info.get('seg_map_path') is not None:
        label_header = read_header(info['seg_map_path'], backend_args)
        size = None if label_header is None else label_header.stored_size
    if size == other:
        raise ValueError(
            f'image {info["img_path"]} is read with {read[0]} x {read[1]} pixels (height x width), but its annotation '
            f'has {size[0]} x {size[1]}. Fix: {ORIENTATION_ADVICE.format(orientation=header.orientation)}.'
        )
    return False
