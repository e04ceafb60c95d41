"""Reading panoptic PNG files in COCO's form, with checks that name file and segment."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked
from mmmaskformer.datasets.transforms.common import (
    FILL,
    FIRST_SEGMENT,
    NO_SEGMENT,
    PANOPTIC_MAP,
    SEGMENT_LABELS,
    LoadedPair,
    image_geometry,
)
from mmmaskformer.datasets.transforms.loading import decode_picture, read_content, require_image_size
from mmmaskformer.registry import TRANSFORMS

VOID_ID = 0
SHOWN = 5
PNG_START, PNG_END = b'\x89PNG', b'IEND\xaeB`\x82'
RGB_OF_8_BITS = b'\x08\x02'
"""Bit depth and colour type in the header of a PNG file."""
READ_COLOURS, COLOURS_TO_RGBA = (
    # Before 4.11 OpenCV gives blue first, for which it swaps the colours of every pixel.
    (cv2.IMREAD_COLOR_RGB, cv2.COLOR_RGB2RGBA)
    if hasattr(cv2, 'IMREAD_COLOR_RGB')
    else (cv2.IMREAD_COLOR, cv2.COLOR_BGR2RGBA)
)


def read_segment_ids(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read a panoptic PNG.

    Args:
        path: of the file.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Returns:
        (H, W) int32 segment ids, R + 256 G + 65536 B; 0 is void.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, cannot be decoded or is not RGB of 8 bits.
    """
    form = dict(what='panoptic PNG', expected='an RGB PNG')
    where = "data_root and data_prefix['seg'] of the dataset"
    content = read_content(path, where=where, backend_args=backend_args, **form)
    depth_and_type = content[24:26] if content.startswith(PNG_START) else None
    if depth_and_type == RGB_OF_8_BITS and content.endswith(PNG_END):
        # OpenCV decodes faster than Pillow, but it takes a truncated file for a whole one.
        pixels = _decode_fast(content)
        if pixels is not None:
            return ids_of_colours(pixels, COLOURS_TO_RGBA)
    pixels, mode = decode_picture(content, path, **form)
    # Of the 16 bits of a channel Pillow gives 8, and the same mode.
    if mode != 'RGB' or depth_and_type not in (None, RGB_OF_8_BITS):
        raise ValueError(
            f'panoptic PNG {path}: found a picture of shape {pixels.shape} (Pillow mode {mode!r}, '
            f'{content[24] if depth_and_type else 8} bits), expected RGB of 8 bits with id = R + 256 G + 65536 B. Fix: '
            "give data_prefix['seg'] the folder of the panoptic PNG files."
        )
    return ids_of_colours(pixels)


def _decode_fast(content: bytes) -> np.ndarray | None:
    """Pixels (H, W, 3) uint8 of a PNG in the order of `COLOURS_TO_RGBA`; None if OpenCV cannot decode it."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), READ_COLOURS | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # such as more pixels than it accepts
        return None


def ids_of_colours(pixels: np.ndarray, conversion: int = cv2.COLOR_RGB2RGBA) -> np.ndarray:
    """Segment ids of the colours of a panoptic PNG.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        conversion: OpenCV's code for another order of the channels than RGB.

    Returns:
        (H, W) int32, R + 256 G + 65536 B.
    """
    # Three bytes and a fourth one are a little-endian number.
    ids = cv2.cvtColor(pixels, conversion).view('<i4')[..., 0]
    ids &= 0xFFFFFF
    return ids


def replace_ids(
    ids: np.ndarray, numbers: Mapping[int, int], missing: int = NO_SEGMENT
) -> tuple[np.ndarray, dict[int, int]]:
    """Replace every segment id by a number.

    Works on runs of equal pixels, of which a segmentation has few: no sort and no loop over pixels.

    Args:
        ids: (H, W) int32 segment ids.
        numbers: id to number in the range of int16.
        missing: the number of ids that ``numbers`` lacks.

    Returns:
        (H, W) int16 numbers; and the number of pixels of each id that occurs.
    """
    pixels = ids.ravel()
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    lengths = np.diff(starts, append=pixels.size)
    found, id_of_run = np.unique(pixels[starts], return_inverse=True)
    areas = np.bincount(id_of_run, weights=lengths).astype(np.int64)
    number_of_id = np.array([numbers.get(number, missing) for number in found.tolist()], np.int16)
    replaced = np.repeat(number_of_id[id_of_run], lengths).reshape(ids.shape)
    return replaced, dict(zip(found.tolist(), areas.tolist(), strict=True))


@TRANSFORMS.register_module()
@checked(
    allow_empty=BOOLEAN,
    allow_hidden=BOOLEAN,
    allow_missing=BOOLEAN,
    backend_args=MAPPING.or_none(),
)
class LoadPanopticAnnotations(BaseTransform):
    """Load the segments of an image from its panoptic PNG, and check them against the dataset's entry.

    Reads ``seg_map_path``, ``segments_info`` and ``void_ids`` of `PanopticDataset`'s entries; writes
    ``gt_seg_map``, (H, W) int16, 256 plus the index of the segment at each pixel, 255 for void and crowds, appended to
    ``seg_fields``; ``gt_segment_labels``, (M,) int64, the label of each segment, in the order of
    ``segments_info`` without crowds. Comes after the image was loaded, before or after it was resized: the PNG must
    have the size of the image file (``ori_shape``).

    Differs from MMDetection's LoadPanopticAnnotations: one map instead of a mask for each thing and a label map for
    the stuff; crowds are void as published, there their pixels stay in the label map; no need for panopticapi.

    Entries of MMDetection's CocoPanopticDataset, which have no 'iscrowd', are read too: there a crowd is a segment of a
    thing class with ``is_thing`` False.

    Args:
        allow_empty: accept images without a segment to learn. False raises; testing wants True.
        allow_hidden: accept segments that are listed but have no pixel, as the published ADE20K files have.
        things: labels of the thing classes, for entries without 'iscrowd' only. None: MMDetection's dataset writes 0
            for stuff and False for a crowd, unless its file has 'isthing' as true and false.
        allow_missing: pass an image for which no PNG is named, as the hosts' inference functions hand it in. False
            raises. A file that is named must exist in either case. Test pipelines want True.
        backend_args: of `mmengine.fileio.get`, for files that are not on disk.

    Raises:
        ValueError: when called, if no PNG is named, or it is empty, not decodable, not RGB or not of the image's size,
            has ids that are not listed, lacks listed ones, or the image has no segment.
        FileNotFoundError: when called, if the PNG is missing.
    """

    def __init__(
        self,
        allow_empty: bool = False,
        allow_hidden: bool = False,
        things: Sequence[int] | None = None,
        allow_missing: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        self.allow_empty = allow_empty
        self.allow_hidden = allow_hidden
        self.things = None if things is None else frozenset(things)
        self.allow_missing = allow_missing
        self.backend_args = backend_args

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
        learnt = [segment for segment in segments if not self._is_crowd(segment, results)]
        if not learnt and not self.allow_empty:
            raise ValueError(
                f'{type(self).__name__}: image {results.get("img_id")} ({path}) has no segment to learn: '
                f'segments_info has {len(segments)} segments that are no void, all crowds; expected at least one. Fix: '
                'leave such images out with filter_cfg=dict(filter_empty_gt=True) in the dataset, or accept them with '
                'allow_empty=True.'
            )
        ids = read_segment_ids(path, self.backend_args)
        require_image_size(ids.shape, results, f'panoptic PNG {path}')
        numbers = {segment['id']: index for index, segment in enumerate(learnt, FIRST_SEGMENT)}
        segment_map, areas = replace_ids(ids, numbers, FILL)
        listed = [segment['id'] for segment in segments]
        _require_listed(areas, {VOID_ID, *listed, *results.get('void_ids', ())}, results)
        if not self.allow_hidden:
            _require_pixels(listed, areas, results)
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
                'is true or false, which does not tell crowds from stuff. Fix: set things=[labels of the thing '
                "classes] of this transform, or use type='mmmaskformer.CocoPanopticDataset'."
            )
        return segment['is_thing'] is False

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(allow_empty={self.allow_empty}, allow_hidden={self.allow_hidden}, '
            f'allow_missing={self.allow_missing})'
        )


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
