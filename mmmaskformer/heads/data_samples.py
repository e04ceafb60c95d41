"""Conversion of the hosts' data samples to core types, and of panoptic results back."""

import copy
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.inference.panoptic import QuerySegments
from mmmaskformer.core.structures import IGNORED, NO_SEGMENT, MaskTarget, Targets
from mmmaskformer.core.training.targets import LabelRangeError, instance_targets, semantic_targets
from mmmaskformer.formats.label_maps import load_labels, require_ignore_index

IGNORED_STUFF = 255
"""Label of pixels without a class in the label maps of MMDetection's loaders."""


def targets_from_seg_samples(samples: Sequence, *, num_classes: int, ignore_index: int) -> Targets:
    """Segments of MMSegmentation's samples: one per class present.

    Args:
        samples: B `SegDataSample`, ``gt_sem_seg.data`` (1, H, W) integer, all padded to one size.
        num_classes: K.
        ignore_index: label of ignored pixels.

    Returns:
        The targets of the batch.

    Raises:
        ValueError: if a label is outside the class list, with its origin, the label file or a transform; or if
            ``ignore_index`` is one of the classes.
        KeyError: if a sample has no ground truth.
    """
    require_ignore_index(ignore_index, num_classes)
    for sample in samples:
        if 'gt_sem_seg' not in sample:
            raise KeyError(
                f"{_file_of(sample)}: the data sample has no 'gt_sem_seg'. Fix: put an annotation loader "
                "(type='mmmaskformer.LoadSegAnnotations') in the training pipeline, before PackSegInputs."
            )
    label_maps = torch.cat([sample.gt_sem_seg.data for sample in samples])
    try:
        return semantic_targets(label_maps, num_classes=num_classes, ignore_index=ignore_index)
    except LabelRangeError as error:
        sample = samples[error.image]
        raise ValueError(f'{_file_of(sample)}: {error}{_origin_of_labels(error.found, sample, ignore_index)}') from None


def _origin_of_labels(found: Sequence[int], sample, ignore_index: int) -> str:
    """Describe whether labels outside the class list come from the label file or a transform; '' if unknown."""
    try:
        labels = load_labels(sample.metainfo, ignore_index)
    except (KeyError, OSError, ValueError):  # no path, or a format that only another loader reads
        return ''
    written = sorted(set(found) - set(labels.ravel().tolist()))
    if not written:
        return ''
    return (
        f' The label file itself does not contain {written}: the label_map of the dataset or a transform of the '
        f'pipeline wrote it. Fix: set the fill label of the transforms (seg_pad_val, ignore_index) to {ignore_index}, '
        f'or set ignore_index={written[0]} in the dataset, the head and the metric.'
    )


def targets_from_det_samples(
    samples: Sequence, *, is_thing: Tensor, input_size: tuple[int, int], device: torch.device
) -> Targets:
    """Segments of MMDetection's samples, at the padded input size.

    Padding and crowds are ignored, as are pixels without a segment in a panoptic map or without a class in a label map.
    In samples that have only instances, pixels outside of all instances are background.

    Args:
        samples: B `DetDataSample` with either ``gt_panoptic_seg`` (``segment_map`` (1, H, W) int16 and the tuple
            ``labels``), as from our loader, or ``gt_instances`` (``labels`` and ``masks``) with optional
            ``ignored_instances`` and ``gt_sem_seg.sem_seg`` (1, H, W), as from MMDetection's loaders.
        is_thing: (K,) bool.
        input_size: (H, W) of the padded input.
        device: device of the targets.

    Returns:
        The targets of the batch.

    Raises:
        KeyError: if a sample has no ground truth.
        ValueError: if a label is outside the class list, or masks are larger than the input.
    """
    return Targets.of([_target_from_det_sample(sample, is_thing, input_size, device) for sample in samples])


def _target_from_det_sample(sample, is_thing: Tensor, size: tuple[int, int], device: torch.device) -> MaskTarget:
    if 'gt_panoptic_seg' in sample:
        panoptic = sample.gt_panoptic_seg
        labels = _checked_labels(torch.tensor(panoptic.labels, dtype=torch.long), sample, len(is_thing))
        _require_image_size(panoptic.segment_map.shape[-2:], sample, size)
        segment_map = _padded(panoptic.segment_map[0], size, IGNORED, sample).to(device)
        segment_map = segment_map.masked_fill(segment_map == NO_SEGMENT, IGNORED)
        return MaskTarget(labels.to(device), segment_map=segment_map)
    if 'gt_instances' not in sample or 'masks' not in sample.gt_instances:
        raise KeyError(
            f"{_file_of(sample)}: the data sample has neither 'gt_panoptic_seg' nor 'gt_instances' with masks. Fix: in "
            "the training pipeline use type='mmmaskformer.LoadPanopticAnnotations' and "
            "'mmmaskformer.PackPanopticInputs', or MMDetection's LoadAnnotations(with_mask=True) and PackDetInputs."
        )
    instances = sample.gt_instances
    labels = _checked_labels(instances.labels, sample, len(is_thing)).to(device)
    _require_image_size((instances.masks.height, instances.masks.width), sample, size)
    masks = _padded(instances.masks.to_tensor(torch.bool, device), size, False, sample)
    if 'gt_sem_seg' in sample:
        label_map = _padded(sample.gt_sem_seg.sem_seg[0].to(device), size, IGNORED_STUFF, sample)
    else:
        label_map = None
    ignored = _unlabelled(sample, (instances.masks.height, instances.masks.width), size, device)
    if label_map is not None:
        ignored |= label_map == IGNORED_STUFF
    return instance_targets(labels, masks, label_map=label_map, is_thing=is_thing.to(device), ignored=ignored)


def _unlabelled(sample, found: tuple[int, int], size: tuple[int, int], device: torch.device) -> Tensor:
    """Pixels (H, W) bool of the padding and of crowds, which MMDetection packs as ``ignored_instances``.

    Args:
        sample: `DetDataSample`.
        found: (height, width) of its masks, with or without padding, which the data preprocessor may have added.
        size: (H, W) of the padded input.
        device: device of the result.
    """
    height, width = sample.metainfo.get('img_shape', found)[:2]
    labelled = torch.zeros(min(height, found[0]), min(width, found[1]), dtype=torch.bool, device=device)
    ignored = _padded(labelled, size, True, sample)
    crowds = sample.get('ignored_instances')
    if crowds is not None and 'masks' in crowds and len(crowds.masks):
        ignored |= _padded(crowds.masks.to_tensor(torch.bool, device), size, False, sample).any(0)
    return ignored


def _checked_labels(labels: Tensor, sample, num_classes: int) -> Tensor:
    wrong = sorted({label for label in labels.tolist() if not 0 <= label < num_classes})
    if wrong:
        raise ValueError(
            f'{_file_of(sample)}: labels {wrong} of segments are outside the class list; expected 0 to '
            f'{num_classes - 1}. Fix: set num_classes to the number of classes of the dataset.'
        )
    return labels


def _require_image_size(found: Sequence[int], sample, input_size: tuple[int, int]) -> None:
    """Raise a `ValueError` if the ground truth has neither the size of the image nor that of the padded input."""
    expected = sample.metainfo.get('img_shape')
    if expected is not None and tuple(found) not in (tuple(expected[:2]), tuple(input_size)):
        raise ValueError(
            f'{_file_of(sample)}: the ground truth is {tuple(found)} (height, width), but the image is '
            f'{tuple(expected[:2])}. Fix: use only transforms that transform image and annotations together.'
        )


def _padded(maps: Tensor, size: tuple[int, int], value: int | bool, sample) -> Tensor:
    """Pad on the right and at the bottom."""
    height, width = maps.shape[-2:]
    if height > size[0] or width > size[1]:
        raise ValueError(
            f'{_file_of(sample)}: the ground truth is {(height, width)}, larger than the padded input {tuple(size)}. '
            'Fix: use only transforms that transform image and annotations together.'
        )
    return F.pad(maps, (0, size[1] - width, 0, size[0] - height), value=value)


class SegmentList(Sequence):
    """The segments of a panoptic result as dicts with ``id`` (in the map), ``label`` and ``score``.

    They are copied from the device when they are first accessed; a copy or a pickle of it is a plain list.

    Args:
        segments: segments of one image.
        codes: (n,), from `mmmaskformer.formats.mmdet_codes.panoptic_codes`.
    """

    def __init__(self, segments: QuerySegments, codes: Tensor):
        self._columns = (codes, segments.labels, segments.scores.detach(), segments.starts)

    @cached_property
    def _rows(self) -> list[dict]:
        rows = zip(*(column.tolist() for column in self._columns), strict=True)
        del self._columns
        return [dict(id=code, label=label, score=score) for code, label, score, starts in rows if starts]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position):
        return self._rows[position]

    def __eq__(self, other) -> bool:
        return self._rows == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return repr(self._rows)

    def __reduce__(self):
        return list, (self._rows,)

    def __deepcopy__(self, memo: dict) -> Sequence:
        """Return itself until the list is accessed, since mmengine copies all meta data, which must not synchronise."""
        return copy.deepcopy(self._rows, memo) if '_rows' in vars(self) else self


def _file_of(sample) -> str:
    meta = sample.metainfo
    return str(meta.get('seg_map_path') or meta.get('img_path') or 'data sample without a path')
