"""The converters are compared with the published preparation scripts, on their stored inputs and outputs."""

import hashlib
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.official import DATA
from helpers.published import as_opencv_reads, write_map, write_photo
from PIL import Image

from mmmaskformer.datasets.converters import ade20k, ade20k_full, coco_stuff
from mmmaskformer.datasets.converters.recipe import Item
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.formats.label_maps import decode_label_map, shift_labels
from mmmaskformer.formats.panoptic_png import decode_ids


@pytest.fixture(scope='module')
def reference():
    return torch.load(DATA / 'conversion.pt', weights_only=True)


def test_ade20k_labels(reference):
    stored = reference['ade20k_150']
    labels = shift_labels(stored['input'].numpy(), 255)
    assert (labels == stored['output'].numpy()).all()


def test_ade20k_full(reference, tmp_path):
    for name, stored in reference['ade20k_full'].items():
        ids = stored['small_class_ids'].numpy().repeat(stored['scale'], 0).repeat(stored['scale'], 1)
        image, labels = tmp_path / name, tmp_path / name.replace('.jpg', '_seg.png')
        write_photo(image, ids.shape)
        write_map(labels, np.stack([ids // 256 * 10, ids % 256, 0 * ids], axis=-1))
        converted = ade20k_full.convert(Item('training', name, (image, labels), ('a.jpg', 'a.png')))
        picture, label_map = converted.contents
        output = decode_label_map(label_map, name).astype('<u2')
        assert (
            list(output.shape) == stored['output_size'] and Image.open(io.BytesIO(picture)).size == output.shape[::-1]
        )
        assert hashlib.sha256(output.tobytes()).hexdigest() == stored['output_sha256']
        assert sum(converted.counts.values()) == np.count_nonzero(output != 65535)


def test_ade20k_panoptic(reference, tmp_path):
    stored = reference['ade20k_panoptic']
    metainfo = load_panoptic_metainfo('ade20k_panoptic')
    assert list(metainfo['isthing']) == [bool(flag) for flag in stored['category_isthing']]
    paths = tuple(tmp_path / name for name in ('b.jpg', 'b.png', 'instances.png'))
    write_photo(paths[0], stored['semantic'].shape)
    write_map(paths[1], stored['semantic'].numpy())
    write_map(paths[2], stored['instance'].numpy())
    outcome = ade20k.merge_semantic_and_instances(Item('training', 'b', paths, ('x.png',)))
    assert outcome.entry['image'] == stored['image'] and outcome.entry['file_name'] == 'b.png'

    # there, second and later instances have random colours as ids; everything else is equal
    ours, theirs = outcome.entry['segments'], stored['annotation']['segments_info']
    assert [row | {'id': 0} for row in ours] == [row | {'id': 0} for row in theirs]
    red, green, blue = stored['panoptic_rgb'].numpy().astype(np.int64).transpose(2, 0, 1)
    their_ids, our_ids = red + 256 * green + 65536 * blue, decode_ids(outcome.contents[0], 'b.png')
    assert ((our_ids == 0) == (their_ids == 0)).all()
    seen: set[int] = set()
    for mine, other in zip(ours, theirs, strict=True):
        assert ((our_ids == mine['id']) == (their_ids == other['id'])).all()
        if mine['category_id'] not in seen:
            assert mine['id'] == other['id']
        seen.add(mine['category_id'])
    assert len({row['id'] for row in ours}) == len(ours) > len(seen)


def test_instance_colours_do_not_depend_on_other_images():
    def ids_of(name, labels):
        colours = ade20k.InstanceColours(name)
        return [colours.next_id(label) for label in labels]

    things = [12] * 50 + [20] * 50
    assert ids_of('a', things) == ids_of('a', things) != ids_of('b', things)
    assert len(set(ids_of('a', things))) == 100
    stuff = {ade20k.id_of_colour(colour) for colour, flag in zip(
        ade20k.PALETTE, ade20k.METAINFO['isthing'], strict=True) if not flag}  # fmt: skip
    assert not stuff & set(ids_of('a', things)) and 0 not in ids_of('a', things)


class FirstRelease:
    """Replaces h5py, which the tests do not install: a file with the matrix S, stored by columns."""

    def __init__(self, matrix):
        self.content = {'S': matrix}

    def File(self, path, mode):  # noqa: N802
        return self

    def __enter__(self):
        return self.content

    def __exit__(self, *error):
        return False


def test_coco_stuff_release_1_0(reference, tmp_path, monkeypatch):
    stored = reference['coco_stuff_10k']
    image, mat = tmp_path / 'a.jpg', tmp_path / 'a.mat'
    write_photo(image, stored['S'].shape)
    mat.write_bytes(b'MATLAB 7.3 MAT-file, Platform: GLNXA64')
    item = Item('train', 'a', (image, mat), ('a.jpg', 'a.png'))
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(
        ImportError, match=r'a\.mat: this is release 1\.0 .* needs the package h5py\. Fix: pip install h5py'
    ):
        coco_stuff.convert(item)
    library = FirstRelease(stored['S'].numpy().T)
    monkeypatch.setitem(sys.modules, 'h5py', SimpleNamespace(File=library.File))
    outcome = coco_stuff.convert(item)
    assert outcome.contents[0] == image
    label_map = decode_label_map(outcome.contents[1], 'a.png')
    assert (shift_labels(label_map, 255) == stored['output'].numpy()).all()
    library.content['S'][0, 0] = 173
    with pytest.raises(ValueError, match=r'a\.mat: found the ids 173 \(1 px\), expected 1 \(unlabelled\) to 172'):
        coco_stuff.convert(item)


def test_files_of_16_bits_are_those_that_opencv_reads(tmp_path):
    values = np.arange(0, 847, 3).reshape(1, -1).repeat(4, 0)
    path = tmp_path / 'a.png'
    path.write_bytes(ade20k_full.encode_label_map(values, wide=True))
    assert as_opencv_reads(path).dtype == np.uint16 and (as_opencv_reads(path) == values).all()
