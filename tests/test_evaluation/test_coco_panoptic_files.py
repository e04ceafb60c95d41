"""Panoptic PNG files and result files: written, read back, damaged, interrupted."""

import json

import numpy as np
import pytest

from mmmaskformer.core.segments import Segments
from mmmaskformer.evaluation.coco_panoptic_files import PanopticResultWriter
from mmmaskformer.formats.panoptic_png import read_ids

IDS = np.array([[0, 1, 255, 256], [65535, 65536, 2**24 - 1, 77]])


def write(prefix, names):
    writer = PanopticResultWriter(prefix)
    writer.finish(
        [writer.add(number, f'images/{name}.jpg', Segments(IDS * 0 + 1, [0]), [3]) for number, name in enumerate(names)]
    )


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def test_a_new_result_replaces_an_older_one_as_a_whole(tmp_path):
    write(tmp_path / 'result', ['a', 'b'])
    write(tmp_path / 'result', ['c'])
    assert listing(tmp_path) == ['result.panoptic', 'result.panoptic.json', 'result.panoptic/c.png']
    entry = {'image_id': 0, 'file_name': 'c.png', 'segments_info': [{'id': 1, 'category_id': 3}]}
    assert json.loads((tmp_path / 'result.panoptic.json').read_text()) == {'annotations': [entry]}


def test_an_interrupted_test_leaves_no_result_and_no_pictures_in_the_next(tmp_path):
    PanopticResultWriter(tmp_path / 'result').add(1, 'old.jpg', Segments(IDS, [0]), [3])
    assert len(listing(tmp_path)) == 2 and listing(tmp_path)[0] == 'result.panoptic.partial'
    write(tmp_path / 'result', ['a'])
    assert listing(tmp_path) == ['result.panoptic', 'result.panoptic.json', 'result.panoptic/a.png']


def test_images_of_one_name_in_several_folders_keep_their_folders(tmp_path):
    writer = PanopticResultWriter(tmp_path / 'result')
    paths = ['data/val/berlin/1.jpg', 'data/val/bonn/1.jpg', 'data/val/bonn/1.tif', 'data/val/2.jpg']
    writer.finish(
        [writer.add(number, path, Segments(IDS * 0 + number, [0]), [3]) for number, path in enumerate(paths, 1)]
    )
    entries = json.loads((tmp_path / 'result.panoptic.json').read_text())['annotations']
    names = ['berlin/1.png', 'bonn/1.jpg.png', 'bonn/1.tif.png', '2.png']
    assert [entry['file_name'] for entry in entries] == names
    for number, name in enumerate(names, 1):
        assert (read_ids(tmp_path / 'result.panoptic' / name) == number).all()
    assert len(listing(tmp_path)) == 2 + 2 + len(names)


def test_two_images_of_one_id_or_path_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'2 images are listed more than once, such as images/a\.jpg'):
        write(tmp_path / 'result', ['a', 'a'])
    writer = PanopticResultWriter(tmp_path / 'result')
    with pytest.raises(ValueError, match='1 image ids belong to several images, such as 7, expected unique ids'):
        writer.finish([writer.add(7, f'{name}.jpg', Segments(IDS, [0]), [3]) for name in 'ab'])
    assert not (tmp_path / 'result.panoptic.json').exists()
