"""Image files: headers, lossless decoding, atomic writes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.tiff import write_tiff
from PIL import Image

from mmmaskformer.formats import images
from mmmaskformer.formats.images import (
    decode_picture,
    grey_levels,
    read_content,
    read_header,
    require_map,
    write_content,
)
from mmmaskformer.formats.photos import read_photo

FORM = dict(what='label file', expected='a PNG')
PHOTO = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)


def save(path, pixels=PHOTO, orientation: int | None = None, **options) -> str:
    """Write an image with Pillow and return its path."""
    if orientation is not None:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = orientation
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def test_photo_round_trip(tmp_path):
    write_content(tmp_path / 'new/folder/a.png', Path(save(tmp_path / 'b.png')).read_bytes())
    assert np.array_equal(read_photo(str(tmp_path / 'new/folder/a.png')), PHOTO)
    assert [file.name for file in (tmp_path / 'new/folder').iterdir()] == ['a.png']


@pytest.mark.parametrize('wrong', [[[1, 2]], torch.ones(2, 3, dtype=torch.int64), None, 3])
def test_only_arrays_are_maps(wrong):
    with pytest.raises(ValueError, match=rf'found a {type(wrong).__name__}, expected a numpy array \(H, W\) of whole'):
        require_map(wrong)


def test_content_is_complete_or_unchanged(tmp_path, monkeypatch):
    write_content(tmp_path / 'a', b'old')

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(images.os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_content(tmp_path / 'a', b'new')
    assert (tmp_path / 'a').read_bytes() == b'old'


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(tmp_path, suffix, orientation):
    """OpenCV, with which the hosts read images, rotates them as the header says, and so do our figures."""
    path = save(tmp_path / f'a.{suffix}', orientation=orientation)
    header = read_header(path)
    assert (header.orientation, header.stored_size) == (orientation, (6, 10))
    assert header.upright_size == cv2.imread(path).shape[:2] == read_photo(path).shape[:2]
    assert np.abs(read_photo(path)[..., ::-1].astype(int) - cv2.imread(path)).max() <= (0 if suffix == 'png' else 40)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_photo_has_the_size_of_the_figure(tmp_path, orientation):
    path = save(tmp_path / 'a.png', orientation=orientation)
    upright = read_photo(path)
    assert np.array_equal(read_photo(path, size=upright.shape[:2]), upright)
    assert np.array_equal(read_photo(path, size=(6, 10)), PHOTO if orientation == 6 else upright)


def test_tiff_is_rotated_by_every_reader(tmp_path):
    path = save(tmp_path / 'a.tif', orientation=6)
    header = read_header(path)
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert header.orientation == 1 and header.upright_size == decoded.shape[:2] == (10, 6)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('dtype, bits', [(np.uint8, 8), (np.uint16, 16)])
@pytest.mark.parametrize('bands', [1, 3, 4])
def test_bits_and_bands(tmp_path, suffix, dtype, bits, bands):
    path = str(tmp_path / f'a.{suffix}')
    cv2.imwrite(path, np.ones((6, 10, bands), dtype))
    header = read_header(path)
    assert (header.bits, header.bands, header.upright_size) == (bits, bands, (6, 10))


def test_float_bits(tmp_path):
    assert read_header(save(tmp_path / 'a.tif', np.zeros((6, 10), np.float32))).bits == 32


def test_header_of_other_files(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'text')
    assert read_header(str(tmp_path / 'a.png')) is None
    assert read_header(str(tmp_path / 'none.png')) is None


def test_header_is_read_without_decoding(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png')
    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', lambda self: pytest.fail('decoded'))
    assert read_header(path).bits == 8


@pytest.mark.parametrize('name, kind, options', [
    ('a.jpg', 'JPEG', {}),
    ('a.png', 'JPEG', dict(format='JPEG')),
    ('a.png', 'WEBP', dict(format='WEBP')),
    ('a.jp2', 'JPEG2000', {}),
    ('a.tif', 'TIFF with jpeg compression', dict(compression='jpeg')),
])  # fmt: skip
def test_formats_that_change_pixels_are_refused(tmp_path, name, kind, options):
    path = save(tmp_path / name, **options)
    with pytest.raises(ValueError, match=rf'{name}: found a {kind} file by its content, expected a PNG.*export'):
        decode_picture(Path(path).read_bytes(), path, **FORM)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('name', ['a.png', 'a.bmp', 'a.tif'])
def test_pillow_limit_is_ignored(tmp_path, name, monkeypatch):
    path = save(tmp_path / name)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    pixels, mode = decode_picture(Path(path).read_bytes(), path, **FORM)
    assert np.array_equal(pixels, PHOTO) and mode == 'RGB' and Image.MAX_IMAGE_PIXELS == 10
    assert read_header(path).stored_size == (6, 10) and np.array_equal(read_photo(path), PHOTO)


def test_sizes_beyond_opencv_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png')
    monkeypatch.setattr(images, 'MAX_PIXELS', 59)
    with pytest.raises(ValueError, match=r'cannot be decoded \(6 x 10 pixels, more than 59\)'):
        decode_picture(Path(path).read_bytes(), path, **FORM)


def test_content_of_missing_and_empty_files(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'label file .*a\.png: empty \(0 bytes\), expected a PNG'):
        read_content(str(tmp_path / 'a.png'), where='the folder', **FORM)
    with pytest.raises(FileNotFoundError, match='not found. .* Fix: check the folder'):
        read_content(str(tmp_path / 'b.png'), where='the folder', **FORM)


def test_photo_of_16_bits_is_stretched(tmp_path):
    pixels = np.zeros((6, 10, 3), np.uint16)
    pixels[0, 0], pixels[0, 1] = (4095, 0, 0), (2048, 0, 0)
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, pixels)
    photo = read_photo(path)
    assert photo[0, :3].tolist() == [[0, 0, 255], [0, 0, 128], [0, 0, 0]]
    assert grey_levels(path) == (3, 3) and grey_levels(str(tmp_path / 'none.png')) is None
    cv2.imwrite(path, np.arange(600, dtype=np.uint16).reshape(20, 30))
    assert grey_levels(path) == (600, 3)


def test_photo_of_float(tmp_path):
    path = save(tmp_path / 'a.tif', np.array([[0.0, 0.5], [1.0, np.nan]], np.float32))
    assert read_photo(path)[..., 0].tolist() == [[0, 128], [255, 0]]


def test_photo_of_16_bits_is_rotated(tmp_path):
    shallow = Image.open(save(tmp_path / 'a.png', orientation=6))
    deep = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 256)
    deep.save(tmp_path / 'b.png', exif=shallow.getexif())
    assert read_header(str(tmp_path / 'b.png')).orientation == 6
    found = read_photo(str(tmp_path / 'b.png'))[..., 0]
    expected = np.rot90(PHOTO[..., 0], -1).astype(float)
    expected = (expected - expected.min()) * 255 / (expected.max() - expected.min())
    assert np.array_equal(found, expected.round())


def test_photo_that_cannot_be_decoded(tmp_path):
    (tmp_path / 'a.tif').write_bytes(b'nothing')
    with pytest.raises(ValueError, match=r'a\.tif: .* OpenCV cannot decode'):
        read_photo(str(tmp_path / 'a.tif'))


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('bands, photometric, is_colour', [(1, 1, True), (3, 2, True), (4, 1, False), (6, 1, False)])
def test_header_of_tiff_files_of_any_bands(tmp_path, bands, photometric, is_colour, big):
    found = read_header(write_tiff(tmp_path / 'a.tif', bands, photometric, big=big))
    assert found == ((6, 10), (6, 10), 1, 16, bands, is_colour, 1)


def test_header_of_a_damaged_tiff_file(tmp_path):
    path = tmp_path / 'a.tif'
    path.write_bytes(b'II*\x00\xff\xff\xff\x00')
    assert read_header(str(path)) is None


def test_opencv_keeps_one_of_four_bands_that_are_not_colours(tmp_path):
    """The reason for `ImageHeader.is_colour`."""
    path = write_tiff(tmp_path / 'a.tif', 4, 1)
    for flag in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED):
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), flag)
        assert decoded is None or len(np.unique(decoded.reshape(60, -1), axis=1)[0]) == 1


def test_half_a_jpeg_is_refused(tmp_path):
    path = tmp_path / 'half.jpg'
    Image.fromarray(PHOTO).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r'image .*half.jpg: \d+ bytes that cannot be decoded \(.*truncated'):
        read_photo(str(path))
    # as mmcv reads it, which then names the file
    assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is None
