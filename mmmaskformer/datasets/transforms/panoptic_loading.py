"""Loading the segments of an image from its panoptic PNG, with checks whose errors name file and segment."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked
from mmmaskformer.datasets.areas import ADVICE, SHOWN, AreaCheck, require_listed
from mmmaskformer.datasets.settings import LABELS
from mmmaskformer.datasets.transforms.common import (
    FILL,
    FIRST_SEGMENT,
    PANOPTIC_MAP,
    SEGMENT_LABELS,
    LoadedPair,
    image_geometry,
)
from mmmaskformer.datasets.transforms.loading import is_reported, require_image_size
from mmmaskformer.formats.messages import some
from mmmaskformer.formats.panoptic_png import read_ids, replace_ids
from mmmaskformer.registry import TRANSFORMS

REPORTED = (1, 100, 10_000)
"""Counts of images with the same anomaly at which one is logged."""


MOST_SEGMENTS = 2**15 - FIRST_SEGMENT
"""Maximum number of segments per image, limited by int16."""


@TRANSFORMS.register_module()
@checked(
    allow_empty=BOOLEAN,
    allow_hidden=BOOLEAN,
    allow_missing=BOOLEAN,
    backend_args=MAPPING.or_none(),
    things=LABELS.or_none(),
)
class LoadPanopticAnnotations(BaseTransform):
    """Load the segments of an image from its panoptic PNG, and check them against the dataset's entry.

    Reads ``seg_map_path``, ``segments_info`` and ``void_ids`` of `PanopticDataset`'s entries; writes
    ``gt_seg_map``, (H, W) int16, 256 plus the index of the segment at each pixel, 255 for void and crowds, appended to
    ``seg_fields``; ``gt_segment_labels``, (M,) int64, the label of each segment, in the order of
    ``segments_info`` without crowds. It must follow the loading of the image, before or after resizing: the PNG must
    have the size of the image file (``ori_shape``).

    The PNG is authoritative. Segments that are listed but have no pixels are kept as targets with an empty mask, as in
    the published system, and ``area`` is not used. Images with such segments, or with areas that differ from the PNG,
    are counted in each process; the first one is logged, and the 100th and 10 000th with the count. Areas are not
    logged if `inspect_data` has reported them before the run.

    Differs from MMDetection's LoadPanopticAnnotations: it writes one map instead of a mask for each thing and a label
    map for stuff; crowds are void as published, while MMDetection keeps them in the label map; panopticapi is not
    needed.

    Entries of MMDetection's CocoPanopticDataset, which have no 'iscrowd', are supported as well: in these, a crowd is a
    segment of a thing class with ``is_thing`` False.

    Args:
        allow_empty: accept images without a trainable segment; otherwise they are an error. Test pipelines need True.
        allow_hidden: accept segments that are listed but have no pixels; otherwise they are an error.
        things: labels of the thing classes, for entries without 'iscrowd' only. None relies on MMDetection's dataset,
            which writes 0 for stuff and False for a crowd, unless 'isthing' in its file is true or false.
        allow_missing: accept an image without ``seg_map_path``, as in the hosts' inference functions; otherwise it is
            an error. A path that is given must exist in either case. Test pipelines need True.
        backend_args: as in `mmengine.fileio.get`, for files that are not on disk.

    Raises:
        ValueError: when called, if there is no path, or the PNG is empty, damaged, not RGB, does not have the size of
            the image or has ids that are not listed, or the image has no segment.
        FileNotFoundError: when called, if the PNG is missing.
    """

    def __init__(
        self,
        allow_empty: bool = False,
        allow_hidden: bool = True,
        things: Sequence[int] | None = None,
        allow_missing: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        self.allow_empty = allow_empty
        self.allow_hidden = allow_hidden
        self.things = None if things is None else frozenset(things)
        self.allow_missing = allow_missing
        self.backend_args = backend_args
        self._odd_images: Counter[str] = Counter()

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map`` and ``gt_segment_labels`` to the results dict and return it."""
        path = results.get('seg_map_path')
        if path is None and self.allow_missing:
            return results
        if path is None:
            raise ValueError(
                f"{type(self).__name__}: no 'seg_map_path' for image {results.get('img_path')}: the dataset was built "
                "without panoptic PNG files. Fix: set data_prefix['seg'], or set allow_missing=True in this transform "
                'to predict without ground truth.'
            )
        segments = results['segments_info']
        learnt = self._without_crowds(segments, results)
        if len(learnt) > MOST_SEGMENTS:
            raise ValueError(
                f'{type(self).__name__}: segments_info of image {results.get("img_id")} lists {len(learnt)} segments, '
                f'expected at most {MOST_SEGMENTS}. Fix: remove the image or cut it into tiles.'
            )
        ids = read_ids(path, self.backend_args)
        require_image_size(ids.shape, results, f'panoptic PNG {path}')
        numbers = {segment['id']: index for index, segment in enumerate(learnt, FIRST_SEGMENT)}
        segment_map, areas = replace_ids(ids, numbers, FILL)
        require_listed(areas, results)
        self._compare(segments, areas, results)
        if PANOPTIC_MAP in results.get('seg_fields', []):
            raise ValueError(
                f'{type(self).__name__}: the results already hold {PANOPTIC_MAP!r}, expected one loader of '
                'annotations. Fix: remove the other one from the pipeline.'
            )
        results[PANOPTIC_MAP] = segment_map
        results['loaded_pair'] = LoadedPair(segment_map, image_geometry(results, segment_map))
        results[SEGMENT_LABELS] = np.array([segment['category'] for segment in learnt], np.int64)
        results.setdefault('seg_fields', []).append(PANOPTIC_MAP)
        return results

    def _is_crowd(self, segment: Mapping, results: Mapping) -> bool:
        """Whether a segment of the entry is a crowd."""
        if 'iscrowd' in segment:
            return bool(segment['iscrowd'])
        if self.things is not None:
            return segment['category'] in self.things and not segment['is_thing']
        if any(row['is_thing'] is True for row in results['segments_info']):
            raise ValueError(
                f"{type(self).__name__}: the segments of image {results.get('img_id')} have no 'iscrowd', and is_thing "
                'is true or false, which does not separate crowds from stuff. Fix: set things=[labels of the thing '
                "classes] of this transform, or use type='mmmaskformer.CocoPanopticDataset'."
            )
        return segment['is_thing'] is False

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(allow_empty={self.allow_empty}, allow_hidden={self.allow_hidden}, '
            f'allow_missing={self.allow_missing})'
        )

    def _without_crowds(self, segments: Sequence[Mapping], results: Mapping) -> list[Mapping]:
        learnt = [segment for segment in segments if not self._is_crowd(segment, results)]
        if not learnt and not self.allow_empty:
            raise ValueError(
                f'{type(self).__name__}: image {results.get("img_id")} ({results["seg_map_path"]}) has no trainable '
                f'segment: segments_info has {len(segments)} segments that are not void, all crowds; expected at least '
                'one. Fix: drop such images with filter_cfg=dict(filter_empty_gt=True) in the dataset, or accept them '
                'with allow_empty=True.'
            )
        return learnt

    def _compare(self, segments: Sequence[Mapping], areas: Mapping[int, int], results: Mapping) -> None:
        """Log listed segments that the PNG does not have, or has with another area."""
        hidden = [segment['id'] for segment in segments if segment['id'] not in areas]
        if hidden:
            text = (
                f'has no pixel of the ids {some(hidden, SHOWN)}, which segments_info of image {results.get("img_id")} '
                f'lists; it has the ids {some(areas, SHOWN)}'
            )
            check = 'check that JSON and PNG folder belong together'
            if not self.allow_hidden:
                raise ValueError(
                    f'panoptic PNG {results["seg_map_path"]}: {text}. Fix: {check}; if these segments are covered by '
                    'others, set allow_hidden=True.'
                )
            self._report('hidden', f'{text}. Such segments are kept as targets with an empty mask; {check}', results)
        checked = AreaCheck.of(segments, areas)
        if checked.wrong and not is_reported('areas'):
            self._report('areas', f'{checked.describe()}. {ADVICE}', results)

    def _report(self, kind: str, text: str, results: Mapping) -> None:
        self._odd_images[kind] += 1
        if self._odd_images[kind] in REPORTED:
            print_log(
                f'{type(self).__name__}: panoptic PNG {results["seg_map_path"]}: {text}. (Number '
                f'{self._odd_images[kind]} of such images in this process; of the others only a few are logged.)',
                logger='current',
                level=logging.WARNING,
            )
