"""Where the ONNX demo draws the names of segments."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FILE = Path(__file__).parents[2] / 'tools/onnx_demo.py'
HEIGHT, WIDTH = 60, 120


@pytest.fixture(scope='module')
def demo():
    spec = importlib.util.spec_from_file_location('onnx_demo', FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(demo, segment: np.ndarray) -> np.ndarray:
    """Pixels that change when the name of a segment is drawn, (height, width) bool."""
    picture = Image.new('RGB', segment.shape[::-1], (90, 90, 90))
    demo.write_names(picture, segment.astype(int), np.array([-1, 0]), ['sky'])
    return (np.asarray(picture) != 90).any(2)


def rows(first: int, last: int) -> np.ndarray:
    segment = np.zeros((HEIGHT, WIDTH), bool)
    segment[first:last] = True
    return segment


@pytest.mark.parametrize(('first', 'last'), [(0, HEIGHT), (0, 30), (0, 2), (HEIGHT - 2, HEIGHT), (25, 40)])
def test_names_are_written_completely_and_in_the_middle(demo, first, last):
    whole = written(demo, np.ones((300, 300), bool))
    name = written(demo, rows(first, last))
    assert name.sum() == whole.sum() > 0
    middle = np.flatnonzero(name.any(1)).mean()
    nearest = name.any(1).sum() / 2
    assert abs(middle - np.clip((first + last) / 2, nearest, HEIGHT - nearest)) <= 2


def test_narrow_segments_get_no_name(demo):
    segment = rows(0, HEIGHT)
    segment[:, 5:] = False
    assert not written(demo, segment).any()


def test_input_images_are_not_replaced(demo, tmp_path):
    for name in ('a.jpg', 'b.png'):
        Image.new('RGB', (4, 4)).save(tmp_path / name)
    assert demo.pictures(tmp_path / 'a.jpg', tmp_path / 'seen.jpg') == [(tmp_path / 'a.jpg', tmp_path / 'seen.jpg')]
    for source, out in ((tmp_path / 'a.jpg', tmp_path / '.' / 'a.jpg'), (tmp_path, tmp_path)):
        with pytest.raises(ValueError, match='is an input image, which would be replaced. Fix: choose another name'):
            demo.pictures(source, out)
