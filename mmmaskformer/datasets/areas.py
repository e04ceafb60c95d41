"""Segments and areas of a panoptic JSON file that differ from the PNG files."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmmaskformer.formats.messages import some
from mmmaskformer.formats.panoptic_png import VOID_ID

ADVICE = (
    'The PNG counts, except in a PanopticMetric with listed_areas=True. This is known for ADE20K panoptic; in other '
    'data, if most files are affected, check that JSON and PNG folder belong together'
)
SHOWN = 5


class AreaCheck(NamedTuple):
    """The listed areas of an image, compared with its pixels.

    Attributes:
        listed: number of listed areas of segments that have pixels.
        wrong: for each segment id whose area is wrong, the listed area and the number of pixels.
    """

    listed: int
    wrong: Mapping[int, tuple[float, int]]

    @classmethod
    def of(cls, segments: Sequence[Mapping[str, Any]], pixels: Mapping[int, int]) -> 'AreaCheck':
        """Compare the areas of an image.

        Args:
            segments: segments of a dataset entry, with 'id' and 'area' (a number or None).
            pixels: number of pixels of each id in the PNG.
        """
        given = {row['id']: row['area'] for row in segments if row.get('area') is not None and row['id'] in pixels}
        # some tools round a fraction, others truncate it
        wrong = {number: (area, pixels[number]) for number, area in given.items() if abs(area - pixels[number]) >= 1}
        return cls(len(given), wrong)

    def describe(self) -> str:
        """The numbers, for a message."""
        rows = [f'{number}: {listed} (the PNG has {found} px)' for number, (listed, found) in self.wrong.items()]
        shown = some(rows, SHOWN)
        return f'{len(rows)} of {self.listed} areas that segments_info lists are wrong, those of the ids {shown}'


def require_listed(areas: Mapping[int, int], info: Mapping[str, Any]) -> None:
    """Check that a panoptic PNG has no id that the JSON file does not list.

    Args:
        areas: number of pixels of each id in the PNG.
        info: entry of the dataset, with 'segments_info' and 'seg_map_path'.

    Raises:
        ValueError: naming the file and such ids.
    """
    listed = {VOID_ID, *(row['id'] for row in info['segments_info']), *info.get('void_ids', ())}
    unknown = [number for number in areas if number not in listed]
    if unknown:
        named = [f'{number} ({areas[number]} px)' for number in unknown]
        raise ValueError(
            f'panoptic PNG {info["seg_map_path"]}: found {some(named, SHOWN)}, ids that '
            f'segments_info of image {info.get("img_id")} does not list, expected {some(sorted(listed), SHOWN)}. Fix: '
            f'{_advice(areas, listed)}list the segments in the JSON, paint them 0 (void), or check that JSON and PNG '
            'folder belong together.'
        )


def _advice(areas: Mapping[int, int], listed: set[int]) -> str:
    """The fix for PNG files in the two-channel format, if the ids suggest it; else ''."""
    found = set(areas) - {VOID_ID}
    if found & listed or max(found) >= 1 << 16:
        return ''
    return (
        'blue is 0 everywhere and no id is listed, as in the two-channel format (red: category, green: number of the '
        "segment); such files are converted by panopticapi's converters/2channels2panoptic_coco_format.py. Otherwise "
    )
