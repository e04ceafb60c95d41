"""TIFF files that neither Pillow nor OpenCV can write."""

import struct
from pathlib import Path

import numpy as np


def write_tiff(path: Path, bands: int, photometric: int, *, big: bool = False, orientation: int = 1) -> str:
    """A TIFF file of 6 x 10 pixels with 16 bits, written byte by byte since Pillow writes at most four bands."""
    pixels = np.arange(60 * bands, dtype='<u2')
    tags = {256: 10, 257: 6, 258: 16, 259: 1, 262: photometric, 273: 8 + 8 * big, 274: orientation, 277: bands, 278: 6,
            279: pixels.nbytes}  # fmt: skip
    start = 8 + 8 * big + pixels.nbytes
    count, value = ('<Q', '<Q') if big else ('<H', '<I')
    header = b'II+\x00\x08\x00\x00\x00' + struct.pack('<Q', start) if big else b'II*\x00' + struct.pack('<I', start)
    entries = b''.join(
        struct.pack('<HH', tag, 4) + struct.pack(value, 1) + struct.pack(value, number) for tag, number in tags.items()
    )
    path.write_bytes(header + pixels.tobytes() + struct.pack(count, len(tags)) + entries + struct.pack(value, 0))
    return str(path)
