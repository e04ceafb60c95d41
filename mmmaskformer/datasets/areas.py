"""Segment areas of a panoptic JSON file that differ from the PNG files."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
            segments: segments of a data set entry, with 'id' and 'area' (a number or None).
            pixels: number of pixels of each id in the PNG.
        """
        given = {row['id']: row['area'] for row in segments if row.get('area') is not None and row['id'] in pixels}
        # some tools round a fraction, others truncate it
        wrong = {number: (area, pixels[number]) for number, area in given.items() if abs(area - pixels[number]) >= 1}
        return cls(len(given), wrong)

    def describe(self) -> str:
        """The numbers, for a message."""
        rows = [f'{number}: {listed} (the PNG has {found} px)' for number, (listed, found) in self.wrong.items()]
        more = f' and {len(rows) - SHOWN} more' if len(rows) > SHOWN else ''
        shown = ', '.join(rows[:SHOWN])
        return f'{len(rows)} of {self.listed} areas that segments_info lists are wrong, those of the ids {shown}{more}'
