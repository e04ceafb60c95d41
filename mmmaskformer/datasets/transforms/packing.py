"""Panoptic samples in the form of MMDetection's models; a location for `TRANSFORMS` where MMDetection is installed."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData, PixelData

from mmmaskformer.core.checks import BOOLEAN, TEXT, checked, list_of
from mmmaskformer.core.structures import NO_SEGMENT
from mmmaskformer.datasets.transforms.common import (
    FILL,
    FIRST_SEGMENT,
    PANOPTIC_MAP,
    SEGMENT_LABELS,
    is_panoptic,
    require_together,
)
from mmmaskformer.registry import TRANSFORMS

# After our registry, which makes mmdet importable with mmcv-lite.
from mmdet.structures import DetDataSample  # isort: skip

META_KEYS = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'seg_map_path',
    'segments_info',
    'void_ids',
    'semantic_label_path',
    'reduce_zero_label',
    'label_map',
)


def unpack_segments(
    segment_map: np.ndarray, labels: np.ndarray, *, keep_vanished: bool, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Convert the transformed map to segment indices.

    Args:
        segment_map: (H, W) integer, see `PANOPTIC_MAP`.
        labels: (M,) int64.
        keep_vanished: keep segments without pixels; otherwise they are dropped and the others are renumbered in order.
        name: name of the image, for the message.

    Returns:
        (H, W) int16 index, -1 for no segment, and the labels of the remaining segments.

    Raises:
        ValueError: if the map is 8-bit or has values other than those of its segments, `FILL` and 0.
    """
    counts = np.zeros(0, np.int64)
    if segment_map.dtype.itemsize > 1 and segment_map.min() >= 0:
        counts = np.bincount(segment_map.ravel(), minlength=FIRST_SEGMENT + len(labels))
    wrong = np.flatnonzero(counts[1:FILL]) + 1
    if wrong.size or len(counts) != FIRST_SEGMENT + len(labels):
        raise ValueError(
            f'PackPanopticInputs: the segment map of image {name} is {segment_map.dtype} with values from '
            f'{segment_map.min()} to {segment_map.max()}, expected int16 with {FILL} for no segment and '
            f'{FIRST_SEGMENT} to {FIRST_SEGMENT + len(labels) - 1} for its {len(labels)} segments. Fix: remove the '
            'transform from the pipeline that writes other values to gt_seg_map.'
        )
    seen = counts[FIRST_SEGMENT:] > 0
    seen |= keep_vanished
    table = np.full(len(counts), NO_SEGMENT, np.int16)
    table[FIRST_SEGMENT:] = np.where(seen, np.cumsum(seen) - 1, NO_SEGMENT)
    return table[segment_map], labels[seen]


@TRANSFORMS.register_module()
@checked(
    keep_vanished=BOOLEAN,
    meta_keys=list_of(TEXT),
)
class PackPanopticInputs(BaseTransform):
    """Convert the results dict to the inputs of MMDetection's models: ``inputs`` and ``data_samples``.

    ``inputs`` is the image as (3, H, W) tensor with unchanged dtype. ``data_samples`` is a `DetDataSample` with the
    meta information in ``meta_keys`` and, if the segments were loaded, ``gt_panoptic_seg``: `PixelData` with
    ``segment_map``, (1, H, W) int16, -1 where there is no segment, and in its metainfo ``labels``, a tuple of M ints.
    It also has an empty ``gt_instances``, which MMDetection's tools read from every sample; the instances are in
    ``gt_panoptic_seg``.

    Args:
        keep_vanished: keep segments that lost all their pixels in a crop, as the published system does: they are
            matched, trained with an empty mask and counted in the normaliser. False drops them, as MMDetection does.
        meta_keys: entries of the results to pass on; absent ones are skipped, as is the path None of an array.

    Raises:
        ValueError: when called, if a transform moved the image but not the segments, or wrote values that are not
            segments to the segment map.
    """

    def __init__(self, keep_vanished: bool = False, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.keep_vanished = keep_vanished
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the results dict; returns ``dict(inputs=..., data_samples=...)``."""
        image = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        given = {key: results[key] for key in self.meta_keys if key in results}
        if given.get('img_path', '') is None:  # an array; MMDetection's inferencer would treat None as a path
            del given['img_path']
        sample = DetDataSample(metainfo=given)
        if is_panoptic(results):
            require_together(results, type(self).__name__)
            segment_map, labels = unpack_segments(
                results[PANOPTIC_MAP],
                results[SEGMENT_LABELS],
                keep_vanished=self.keep_vanished,
                name=str(results.get('img_path')),
            )
            segment_map = torch.from_numpy(segment_map[None])
            sample.gt_panoptic_seg = PixelData(metainfo={'labels': tuple(labels.tolist())}, segment_map=segment_map)
            sample.gt_instances = InstanceData()
        return {'inputs': image, 'data_samples': sample}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keep_vanished={self.keep_vanished}, meta_keys={self.meta_keys})'
