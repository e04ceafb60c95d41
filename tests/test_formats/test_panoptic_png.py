"""Panoptic PNG files: written and read back, in other tools' variants, and damaged in every byte."""

import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmmaskformer.formats import panoptic_png
from mmmaskformer.formats.label_maps import write_label_map

IDS = np.array([[0, 1, 255, 256], [65535, 65536, 2**24 - 1, 77]])


def test_ids_as_others_write_and_read_them(tmp_path):
    colours = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / 'theirs.png')
    panoptic_png.write_ids(tmp_path / 'ours.png', IDS)
    assert np.array_equal(np.array(Image.open(tmp_path / 'ours.png')), colours)
    for name in ('theirs', 'ours'):
        found = panoptic_png.read_ids(str(tmp_path / f'{name}.png'))
        assert found.dtype == np.int32 and np.array_equal(found, IDS)


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.int64])
def test_round_trip(tmp_path, dtype):
    largest = min(np.iinfo(dtype).max, 2**24 - 1)
    ids = np.random.default_rng(0).integers(0, largest, (31, 47), endpoint=True).astype(dtype)
    panoptic_png.write_ids(tmp_path / 'a.png', ids[::2, ::3])
    assert np.array_equal(panoptic_png.read_ids(tmp_path / 'a.png'), ids[::2, ::3])
    assert np.array_equal(panoptic_png.ids_of_colours(panoptic_png.colours_of_ids(ids)), ids)


@pytest.mark.parametrize('value', [-1, 2**24])
def test_ids_that_do_not_fit(tmp_path, value):
    with pytest.raises(ValueError, match=r'a\.png: panoptic map: found ids from .* expected 0 to 16777215'):
        panoptic_png.write_ids(tmp_path / 'a.png', np.array([[1, value]]))
    assert not (tmp_path / 'a.png').exists()


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (7, 1), (13, 17)])
def test_replaced_ids_are_those_of_a_loop(shape):
    ids = np.random.default_rng(0).choice(np.array([0, 5, 256, 70000, 2**24 - 1], np.int32), shape)
    numbers = {5: 1, 70000: 0, 2**24 - 1: 300}
    replaced, areas = panoptic_png.replace_ids(ids, numbers)
    assert replaced.tolist() == [[numbers.get(number, -1) for number in row] for row in ids.tolist()]
    assert replaced.dtype == np.int16
    flat = ids.ravel().tolist()
    assert areas == {number: flat.count(number) for number in set(flat)}


@pytest.mark.parametrize('is_old_opencv', [False, True])
@pytest.mark.parametrize('name', ['a.png', 'a.bmp'])
def test_ids_use_all_three_channels(name, is_old_opencv, tmp_path, monkeypatch):
    if is_old_opencv:
        monkeypatch.setattr(panoptic_png, 'READ_COLOURS', cv2.IMREAD_COLOR)
        monkeypatch.setattr(panoptic_png, 'COLOURS_TO_RGBA', cv2.COLOR_BGR2RGBA)
    Image.fromarray(np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)).save(tmp_path / name)
    found = panoptic_png.read_ids(str(tmp_path / name))
    assert found.tolist() == [[1 + 2 * 256 + 3 * 65536, 2**24 - 1]]


def test_ids_are_not_rotated_by_a_tag_of_the_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(np.array([[[1, 0, 0], [2, 0, 0]]], np.uint8)).save(tmp_path / 'a.png', exif=exif)
    assert panoptic_png.read_ids(str(tmp_path / 'a.png')).tolist() == [[1, 2]]


def test_ids_of_16_bits_are_refused(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.full((2, 3, 3), 700, np.uint16))
    with pytest.raises(ValueError, match=r"a\.png: found a picture of .*mode 'RGB', 16 bits\), expected RGB of 8 bits"):
        panoptic_png.read_ids(str(path))


@pytest.mark.parametrize('side', [60_000, 2_000_000])
def test_an_absurd_size_is_refused(side, tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, 'big') * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.png: \d+ bytes that cannot be decoded'):
        panoptic_png.read_ids(str(path))


def test_every_flipped_bit_of_the_file_is_an_error_or_harmless(tmp_path):
    ids = np.kron(np.random.default_rng(0).integers(1, 10, (3, 4)), np.ones((4, 4), int))
    path = tmp_path / 'a.png'
    panoptic_png.write_ids(path, ids)
    good = path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(ValueError, match=r'a\.png: (\d+ bytes that cannot be decoded|found a picture)'):
            panoptic_png.decode_ids(bytes(damaged), path)


def test_every_truncation_is_an_error_and_trailing_bytes_are_ignored(tmp_path):
    path = tmp_path / 'a.png'
    panoptic_png.write_ids(path, IDS)
    good = path.read_bytes()
    for length in range(1, len(good)):
        with pytest.raises(ValueError, match='bytes that cannot be decoded'):
            panoptic_png.decode_ids(good[:length], path)
    assert np.array_equal(panoptic_png.decode_ids(good + b'more', path), IDS)


def test_the_message_names_the_damaged_chunk(tmp_path):
    path = tmp_path / 'a.png'
    panoptic_png.write_ids(path, IDS)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: .* \(the checksum of its chunk 'IDAT' at byte \d+ is wrong\)"):
        panoptic_png.read_ids(path)


def test_more_pixels_than_pillow_accepts(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2)
    panoptic_png.write_ids(tmp_path / 'a.png', IDS)
    assert np.array_equal(panoptic_png.read_ids(tmp_path / 'a.png'), IDS)


def test_checksums_cost_little(tmp_path):
    blocks = np.kron(np.random.default_rng(0).integers(0, 2**24, (30, 40)), np.ones((16, 16), int))
    noise = np.random.default_rng(1).random(blocks.shape) < 0.05
    panoptic_png.write_ids(tmp_path / 'a.png', np.where(noise, 5, blocks))
    content = (tmp_path / 'a.png').read_bytes()

    def fastest(function) -> float:
        times = []
        for _ in range(7):
            start = time.process_time()
            function(content)
            times.append(time.process_time() - start)
        return min(times)

    checking = fastest(panoptic_png.find_damage)
    assert checking < 0.5 * fastest(lambda content: panoptic_png.decode_ids(content, 'a.png'))


@pytest.mark.parametrize(
    'ids', [np.full((2, 3), np.nan), np.full((2, 3), 1.5), np.ones((2, 3, 3), int), np.ones((0, 3), int)], ids=str
)
def test_arrays_that_are_not_integer_maps_are_refused(ids, tmp_path):
    with pytest.raises(ValueError, match=r'a.png: found an array of shape .*, expected a map \(H, W\)'):
        panoptic_png.write_ids(tmp_path / 'a.png', ids)
    with pytest.raises(ValueError, match=r'found an array of shape .*, expected a map \(H, W\) of whole numbers'):
        write_label_map(tmp_path / 'a.png', ids)
    assert not list(tmp_path.iterdir())


def test_more_segments_than_int16_holds_are_replaced():
    ids = np.arange(40_000, dtype=np.int32).reshape(200, 200)
    replaced, areas = panoptic_png.replace_ids(ids, {number: number - 1 for number in range(1, 40_000)})
    np.testing.assert_array_equal(replaced, ids - 1)
    assert len(areas) == 40_000 and set(areas.values()) == {1}
