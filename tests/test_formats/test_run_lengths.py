"""COCO's run lengths add up to the pixels of their mask, in both of COCO's encodings."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmmaskformer.formats.run_lengths import pixels_of_runs


@pytest.mark.parametrize('seed', range(20))
def test_texts_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    pixels = (rng.random(rng.integers(1, 60, 2)) < rng.random()).astype(np.uint8)
    pixels = np.kron(pixels, np.ones(rng.integers(1, 12, 2), np.uint8))
    pixels[:] = pixels if seed % 5 else seed % 2  # also masks of one run
    text = coco_mask.encode(np.asfortranarray(pixels))['counts'].decode()
    assert pixels_of_runs(text) == pixels.size
    assert pixels_of_runs(text[:-1]) != pixels.size


def test_lists():
    assert pixels_of_runs([3, 4, 5]) == 12
    assert pixels_of_runs([3, -4, 5]) is None and pixels_of_runs(['3']) is None


@pytest.mark.parametrize('text', ['abc', 'P', 'é', '~', ' '])
def test_no_run_lengths(text):
    assert pixels_of_runs(text) is None
