"""The number of pixels that COCO's run lengths describe.

If they do not fill a mask, pycocotools leaves uninitialised memory in the rest.
"""

from collections.abc import Sequence

import numpy as np

BITS, MORE, SIGN, FIRST = 5, 0b100000, 0b010000, 48
"""Parts of a character: bits of the number, continuation flag, sign in the last one; and the code of 0."""


def pixels_of_runs(counts: Sequence | str) -> int | None:
    """Sum of the run lengths of a mask.

    Args:
        counts: numbers, or their string encoding by pycocotools.

    Returns:
        Number of pixels; None if they are not valid run lengths.
    """
    runs = _decoded(counts) if isinstance(counts, str) else counts
    if runs is None or not all(isinstance(run, int) and run >= 0 for run in runs):
        return None
    return sum(runs)


def _decoded(text: str) -> list[int] | None:
    """Decode the numbers in a string; from the fourth on it stores differences to the last but one.

    Source: pycocotools, rleFrString.
    """
    if not text.isascii():
        return None
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - FIRST
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & MORE:
        return None
    ends = np.flatnonzero(codes & MORE == 0)
    starts = np.append(0, ends[:-1] + 1)
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:
        return None
    numbers = np.add.reduceat((codes & (2**BITS - 1)) << (BITS * place), starts)
    numbers -= np.where(codes[ends] & SIGN, 1 << (BITS * (place[ends] + 1)), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers.tolist()
