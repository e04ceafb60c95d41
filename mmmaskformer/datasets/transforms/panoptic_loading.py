"""Loading the segments of an image from its panoptic PNG, with checks that name file and segment."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmmaskformer.datasets.transforms.common import PANOPTIC_MAP
from mmmaskformer.datasets.transforms.loading import require_image_size
from mmmaskformer.formats.panoptic_png import VOID_ID, read_ids, replace_ids
from mmmaskformer.registry import TRANSFORMS

SHOWN = 5


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(BaseTransform):
    """Load the segments of an image from its panoptic PNG, and check them against the dataset's entry.

    Reads ``seg_map_path``, ``segments_info`` and ``void_ids`` of `PanopticDataset`'s entries; writes
    ``gt_panoptic_map``, (H, W) int16, the index of the segment at each pixel, -1 for void and crowds, appended to
    ``seg_fields``; and ``gt_segment_labels``, (M,) int64, the label of each segment, in the order of
    ``segments_info`` without crowds. Comes after the image was loaded, before or after it was resized: the PNG must
    have the size of the image file (``ori_shape``).

    Differs from MMDetection's LoadPanopticAnnotations: one map instead of a mask for each thing and a label map for
    the stuff; crowds are void as published, there their pixels stay in the label map; no need for panopticapi.

    Args:
        allow_empty: accept images without a segment to learn. False raises; testing wants True.
        allow_hidden: accept segments that are listed but have no pixel, as the published ADE20K files have.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Raises:
        ValueError: when called, if the PNG is empty, not decodable, not RGB or not of the image's size, has ids that
            are not listed, lacks listed ones, or the image has no segment.
        FileNotFoundError: when called, if the PNG is missing.
    """

    def __init__(self, allow_empty: bool = False, allow_hidden: bool = False, backend_args: dict | None = None) -> None:
        self.allow_empty = allow_empty
        self.allow_hidden = allow_hidden
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Add ``gt_panoptic_map`` and ``gt_segment_labels`` to the results dict and return it."""
        path = results.get('seg_map_path')
        if path is None:
            raise ValueError(
                f"{type(self).__name__}: no 'seg_map_path' for image {results.get('img_path')}: the dataset was built "
                "without panoptic PNG files. Fix: set data_prefix['seg'], or remove this transform to predict without "
                'ground truth.'
            )
        segments = results['segments_info']
        learnt = [segment for segment in segments if not segment['iscrowd']]
        if not learnt and not self.allow_empty:
            raise ValueError(
                f'{type(self).__name__}: image {results.get("img_id")} ({path}) has no segment to learn: '
                f'segments_info has {len(segments)} segments that are no void, all crowds; expected at least one. Fix: '
                'leave such images out with filter_cfg=dict(filter_empty_gt=True) in the dataset, or accept them with '
                'allow_empty=True.'
            )
        ids = read_ids(path, self.backend_args)
        require_image_size(ids.shape, results, f'panoptic PNG {path}')
        numbers = {segment['id']: index for index, segment in enumerate(learnt)}
        segment_map, areas = replace_ids(ids, numbers)
        listed = [segment['id'] for segment in segments]
        _require_listed(areas, {VOID_ID, *listed, *results.get('void_ids', ())}, results)
        if not self.allow_hidden:
            _require_pixels(listed, areas, results)
        results[PANOPTIC_MAP] = segment_map
        results['gt_segment_labels'] = np.array([segment['category'] for segment in learnt], np.int64)
        results.setdefault('seg_fields', []).append(PANOPTIC_MAP)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(allow_empty={self.allow_empty}, allow_hidden={self.allow_hidden})'


def _require_listed(areas: Mapping[int, int], listed: set[int], results: Mapping) -> None:
    """Raise if the PNG has ids that the JSON does not list."""
    unknown = [number for number in areas if number not in listed]
    if unknown:
        raise ValueError(
            f'panoptic PNG {results["seg_map_path"]}: found {_some(f"{i} ({areas[i]} px)" for i in unknown)}, ids that '
            f'segments_info of image {results.get("img_id")} does not list, expected {_some(sorted(listed))}. Fix: '
            'list the segments in the JSON, paint them 0 (void), or check that JSON and PNG folder belong together.'
        )


def _require_pixels(listed: Sequence[int], areas: Mapping[int, int], results: Mapping) -> None:
    """Raise if the JSON lists segments that have no pixel in the PNG."""
    hidden = [number for number in listed if number not in areas]
    if hidden:
        raise ValueError(
            f'panoptic PNG {results["seg_map_path"]}: has no pixel of the ids {_some(hidden)}, which segments_info of '
            f'image {results.get("img_id")} lists; it has the ids {_some(areas)}. Fix: check that JSON and PNG folder '
            'belong together; if these segments are covered by others, set allow_hidden=True.'
        )


def _some(items: Iterable) -> str:
    texts = [str(item) for item in items]
    more = f' and {len(texts) - SHOWN} more' if len(texts) > SHOWN else ''
    return ', '.join(texts[:SHOWN]) + more
