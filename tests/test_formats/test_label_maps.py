"""Label maps as files: round trip, refusals, and valid values of the ignored label."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmaskformer.formats.label_maps import (
    decode_label_map,
    encode_label_map,
    read_label_map,
    replace_labels,
    require_ignore_index,
    result_name,
    shift_labels,
    write_label_map,
)

NARROW = np.array([[0, 1, 2], [150, 254, 255]])
WIDE = np.array([[0, 1, 255], [256, 846, 65535]])


@pytest.mark.parametrize('labels, wide, dtype', [(NARROW, False, np.uint8), (WIDE, True, np.int32)])
def test_round_trip(tmp_path, labels, wide, dtype):
    write_label_map(tmp_path / 'some/folder/a.png', labels, wide=wide)
    found = read_label_map(str(tmp_path / 'some/folder/a.png'))
    assert found.dtype == dtype and np.array_equal(found, labels)
    assert np.array_equal(cv2.imread(str(tmp_path / 'some/folder/a.png'), cv2.IMREAD_UNCHANGED), labels)


@pytest.mark.parametrize('labels, wide', [(WIDE, False), (WIDE + 1, True), (NARROW - 1, False)])
def test_labels_that_do_not_fit_are_not_written(labels, wide):
    with pytest.raises(ValueError, match=r'found labels from -?\d+ to \d+, expected 0 to (255|65535)'):
        encode_label_map(labels, wide)


def test_a_map_over_pillows_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2)
    assert np.array_equal(decode_label_map(encode_label_map(NARROW, False), 'a.png'), NARROW)


def test_a_map_that_viewers_show_rotated_is_refused(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 3
    Image.fromarray(NARROW.astype(np.uint8)).save(tmp_path / 'a.png', exif=tag)
    with pytest.raises(ValueError, match=r'a\.png: found the EXIF orientation 3, expected none'):
        read_label_map(str(tmp_path / 'a.png'))
    tag[0x0112] = 1
    Image.fromarray(NARROW.astype(np.uint8)).save(tmp_path / 'a.png', exif=tag)
    assert np.array_equal(read_label_map(str(tmp_path / 'a.png')), NARROW)


def png(labels: np.ndarray, bits: int) -> bytes:
    """A grey PNG file with 2, 4 or 8 bits per pixel, which Pillow cannot write."""
    per_byte = 8 // bits
    padded = np.pad(labels, ((0, 0), (0, -labels.shape[1] % per_byte))).reshape(len(labels), -1, per_byte)
    rows = (padded << np.arange(8 - bits, -1, -bits)).sum(axis=2).astype(np.uint8)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    header = struct.pack('>IIBBBBB', labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    pixels = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', pixels) + chunk(b'IEND', b'')


@pytest.mark.parametrize('bits, first', [(2, 85), (4, 17)])
def test_grey_levels_that_readers_stretch_are_refused(bits, first):
    labels = np.array([[0, 1, 2**bits - 1]])
    message = rf'a\.png: found grey levels of {bits} bits, .* id 1 would become {first}, .* Fix: save the ids again'
    with pytest.raises(ValueError, match=message):
        decode_label_map(png(labels, bits), 'a.png')
    assert np.array_equal(decode_label_map(png(labels, 8), 'a.png'), labels)


def test_palettes_of_few_bits_give_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 3]], np.uint8), 'P')
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / 'a.png', bits=2)
    assert read_label_map(str(tmp_path / 'a.png')).tolist() == [[0, 1, 3]]


def test_several_pages_are_refused_but_not_overviews(tmp_path):
    page = Image.fromarray(NARROW.astype(np.uint8))
    page.save(tmp_path / 'a.tif', save_all=True, append_images=[page])
    with pytest.raises(ValueError, match=r'a\.tif: .*2 pages of 2 x 3 pixels, of which only one would be read'):
        read_label_map(str(tmp_path / 'a.tif'))
    page.save(tmp_path / 'b.tif', save_all=True, append_images=[page.resize((2, 1))])
    assert np.array_equal(read_label_map(str(tmp_path / 'b.tif')), NARROW)


def test_floats_are_refused(tmp_path):
    Image.fromarray(NARROW.astype(np.float32)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=r"a\.tif: .*mode 'F'.* Fix: write whole numbers, not floats"):
        read_label_map(str(tmp_path / 'a.tif'))


@pytest.mark.parametrize('value', [-1, -100, 65536])
def test_ignored_label_that_no_file_can_hold(value):
    with pytest.raises(ValueError, match=rf'ignore_index={value}: expected a label .* set ignore_index=255 in the'):
        require_ignore_index(value)


@pytest.mark.parametrize('value, num_classes, advice', [
    (0, 3, 'set reduce_zero_label=True'),
    (2, 3, 'set ignore_index=255'),
    (0, 847, 'set reduce_zero_label=True'),
    (255, 847, 'set ignore_index=65535'),
])  # fmt: skip
def test_ignored_label_that_is_a_class(value, num_classes, advice):
    with pytest.raises(ValueError, match=f'ignore_index={value} is also one of the {num_classes} .*Fix: {advice}'):
        require_ignore_index(value, num_classes)


@pytest.mark.parametrize('value, num_classes', [(255, 255), (3, 3), (65535, 847), (255, None)])
def test_ignored_label_outside_the_classes_is_accepted(value, num_classes):
    require_ignore_index(value, num_classes)


@pytest.mark.parametrize('image, root, name', [
    ('data/val/berlin/a.jpg', 'data/val', 'berlin/a.png'),
    ('data/val/a.b.jpg', 'data/val', 'a.b.png'),
    ('data/val/berlin/a.jpg', None, 'a.png'),
    ('elsewhere/a.jpg', 'data/val', 'a.png'),
])  # fmt: skip
def test_result_name(image, root, name):
    assert result_name(image, root) == name


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_shifted_labels_hold_any_ignored_label(dtype):
    labels = np.array([[0, 1, 100]], dtype)
    for ignore_index in (127, 255, 65535):
        assert shift_labels(labels, ignore_index).tolist() == [[ignore_index, 0, 99]]
    assert labels.tolist() == [[0, 1, 100]]


def test_replaced_labels_are_not_replaced_again_and_always_labels():
    labels = np.array([[0, 1, 2]], np.uint8)
    assert replace_labels(labels, {0: 1, 1: 300}).tolist() == [[1, 300, 2]]
    for wrong in ({0: -1, 3: 4}, {-1: 5}, {0: 2**31}, {65536: 0}, {'0': 1}, {0: 1.5}, {0: None}):
        message = r'label_map: found {\S+ \S+}, expected whole numbers from 0 to 65535. Fix: .* 255'
        with pytest.raises(ValueError, match=message):
            replace_labels(labels, wrong)
