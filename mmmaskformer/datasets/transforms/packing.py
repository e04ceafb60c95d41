"""Panoptic samples in the form of MMDetection's models; a location for `TRANSFORMS` where MMDetection is installed."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData, PixelData

from mmmaskformer.datasets.transforms.common import NO_SEGMENT, PANOPTIC_MAP
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
)


def drop_vanished(segment_map: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out segments without a pixel and number the others anew, in their order.

    Args:
        segment_map: (H, W) int16 index in [0, M), -1 for none.
        labels: (M,) int64.

    Returns:
        (H, W) int16 with the new indices, and the labels of the segments that stay.
    """
    shifted = segment_map.ravel() + 1
    seen = np.bincount(shifted, minlength=len(labels) + 1)[1:] > 0
    numbers = np.where(seen, np.cumsum(seen) - 1, NO_SEGMENT)
    table = np.concatenate(([NO_SEGMENT], numbers)).astype(np.int16)
    return table[shifted].reshape(segment_map.shape), labels[seen]


@TRANSFORMS.register_module()
class PackPanopticInputs(BaseTransform):
    """Turn the results dict into what MMDetection's models take: ``inputs`` and ``data_samples``.

    ``inputs`` is the image as (3, H, W) tensor, dtype kept. ``data_samples`` is a `DetDataSample` with the meta
    information in ``meta_keys`` and, if the segments were loaded, ``gt_panoptic_seg``: `PixelData` with
    ``segment_map``, (1, H, W) int16, -1 where there is no segment, and in its metainfo ``labels``, a tuple of M ints.
    ``gt_instances`` is there too, as in all samples of MMDetection, whose tools read it without asking; it is empty, as
    the instances are in ``gt_panoptic_seg``.

    Args:
        keep_vanished: keep segments that lost all their pixels in a crop, as the published system does: they are
            matched, trained with an empty mask and counted in the normalizer. False drops them, as MMDetection does.
        meta_keys: entries of the results to hand on; those that are absent are passed over.
    """

    def __init__(self, keep_vanished: bool = False, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.keep_vanished = keep_vanished
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack the results dict; returns ``dict(inputs=..., data_samples=...)``."""
        image = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        sample = DetDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if PANOPTIC_MAP in results:
            segment_map, labels = results[PANOPTIC_MAP], results['gt_segment_labels']
            if not self.keep_vanished:
                segment_map, labels = drop_vanished(segment_map, labels)
            segment_map = torch.from_numpy(np.ascontiguousarray(segment_map[None]))
            sample.gt_panoptic_seg = PixelData(metainfo={'labels': tuple(labels.tolist())}, segment_map=segment_map)
            sample.gt_instances = InstanceData()
        return {'inputs': image, 'data_samples': sample}

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keep_vanished={self.keep_vanished}, meta_keys={self.meta_keys})'
