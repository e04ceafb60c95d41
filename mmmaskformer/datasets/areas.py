"""Areas of segments that a panoptic JSON file lists and its PNG files contradict: the pixels count."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ADVICE = (
    'The PNG counts, except in a PanopticMetric with listed_areas=True. This is known for ADE20K panoptic; in other '
    'data, if most files are affected, check that JSON and PNG folder belong together'
)
SHOWN = 5


class AreaCheck(NamedTuple):
    """The listed areas of an image beside its pixels.

    Attributes:
        listed: how many areas are listed, of segments that have pixels.
        wrong: id of a segment to its listed area and its pixels, where they differ.
    """

    listed: int
    wrong: Mapping[int, tuple[float, int]]

    @classmethod
    def of(cls, segments: Sequence[Mapping[str, Any]], pixels: Mapping[int, int]) -> 'AreaCheck':
        """Compare the areas of an image.

        Args:
            segments: of the entry of a data set, with 'id' and 'area', a number or None.
            pixels: how many each id has in the PNG.
        """
        given = {row['id']: row['area'] for row in segments if row.get('area') is not None and row['id'] in pixels}
        # a fraction is rounded by some tools, cut off by others
        wrong = {number: (area, pixels[number]) for number, area in given.items() if abs(area - pixels[number]) >= 1}
        return cls(len(given), wrong)

    def describe(self) -> str:
        """The numbers, for a message."""
        rows = [f'{number}: {listed} (the PNG has {found} px)' for number, (listed, found) in self.wrong.items()]
        more = f' and {len(rows) - SHOWN} more' if len(rows) > SHOWN else ''
        shown = ', '.join(rows[:SHOWN])
        return f'{len(rows)} of {self.listed} areas that segments_info lists are wrong, those of the ids {shown}{more}'
