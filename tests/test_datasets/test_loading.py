"""Loading of label maps: exact values, bit depths, and one clear error for each kind of bad file."""

import numpy as np
import pytest
from PIL import Image

from mmmaskformer.registry import TRANSFORMS


def load(path, results: dict | None = None, **options) -> dict:
    """Run the transform on one label file."""
    transform = TRANSFORMS.build(dict(type='mmmaskformer.LoadSegAnnotations', **options))
    base = dict(img_path='picture.jpg', seg_map_path=str(path), reduce_zero_label=False, label_map=None, seg_fields=[])
    return transform(base | (results or {}))


def save(path, pixels: np.ndarray):
    """Write an image file and return its path."""
    Image.fromarray(pixels).save(path)
    return path


WIDE = np.array([[0, 1, 255, 256], [846, 847, 65534, 65535]], np.uint16)
NARROW = np.array([[0, 1, 2], [150, 254, 255]], np.uint8)


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.tiff'])
def test_sixteen_bit_labels_are_exact(tmp_path, suffix):
    out = load(save(tmp_path / f'a{suffix}', WIDE))
    assert out['gt_seg_map'].dtype == np.int32 and np.array_equal(out['gt_seg_map'], WIDE)
    assert out['seg_fields'] == ['gt_seg_map']


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.bmp'])
def test_eight_bit_labels_are_exact(tmp_path, suffix):
    out = load(save(tmp_path / f'a{suffix}', NARROW))
    assert out['gt_seg_map'].dtype == np.uint8 and np.array_equal(out['gt_seg_map'], NARROW)


def test_big_endian_tiff(tmp_path):
    """The byte order of a TIFF file does not affect its values."""
    header = b'MM\x00*\x00\x00\x00\x08'
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1),
               (278, 3, 1), (279, 4, 4)]  # fmt: skip
    directory = len(entries).to_bytes(2, 'big')
    for tag, kind, value in entries:
        directory += tag.to_bytes(2, 'big') + kind.to_bytes(2, 'big') + (1).to_bytes(4, 'big')
        directory += value.to_bytes(4, 'big') if kind == 4 else value.to_bytes(2, 'big') + b'\x00\x00'
    content = header + directory + b'\x00' * 4
    assert len(content) == 122
    (tmp_path / 'a.tif').write_bytes(content + b'\x03\x4e\x00\x07')
    assert load(tmp_path / 'a.tif')['gt_seg_map'].tolist() == [[846, 7]]


def test_palette_file_gives_its_indices(tmp_path):
    image = Image.fromarray(NARROW)
    image = image.convert('P')
    image.putdata(NARROW.ravel().tolist())
    image.putpalette([value for index in range(256) for value in (255 - index, index // 2, 7)])
    image.save(tmp_path / 'a.png')
    assert Image.open(tmp_path / 'a.png').mode == 'P'
    assert np.array_equal(load(tmp_path / 'a.png')['gt_seg_map'], NARROW)


def test_one_bit_file(tmp_path):
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert('1').save(tmp_path / 'a.png')
    assert load(tmp_path / 'a.png')['gt_seg_map'].tolist() == [[0, 1], [1, 0]]


def test_zero_label_becomes_ignored(tmp_path):
    narrow = load(save(tmp_path / 'a.png', NARROW), dict(reduce_zero_label=True))['gt_seg_map']
    assert narrow.tolist() == [[255, 0, 1], [149, 253, 255]] and narrow.dtype == np.uint8
    wide = load(save(tmp_path / 'b.png', WIDE), dict(reduce_zero_label=True), ignore_index=65535)['gt_seg_map']
    assert wide.tolist() == [[65535, 0, 254, 255], [845, 846, 65533, 65535]]


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 0, 2: 255, 149: 7}])
def test_eight_bit_results_equal_the_stock_loader(tmp_path, reduce, label_map):
    path = save(tmp_path / 'a.png', NARROW)
    info = dict(seg_map_path=str(path), reduce_zero_label=reduce, label_map=label_map, seg_fields=[])
    expected = TRANSFORMS.build(dict(type='mmseg.LoadAnnotations'))(dict(info))['gt_seg_map']
    assert np.array_equal(load(path, info)['gt_seg_map'], expected)


def test_label_map_swaps_all_at_once_and_widens_if_needed(tmp_path):
    path = save(tmp_path / 'a.png', NARROW)
    swapped = load(path, dict(label_map={0: 1, 1: 2, 2: 0}))['gt_seg_map']
    assert swapped.tolist() == [[1, 2, 0], [150, 254, 255]] and swapped.dtype == np.uint8
    assert load(path, dict(label_map={1: 700}))['gt_seg_map'].tolist() == [[0, 700, 2], [150, 254, 255]]
    assert load(path, dict(label_map={}))['gt_seg_map'].tolist() == NARROW.tolist()


def test_wide_ignore_label_widens_the_map(tmp_path):
    path = save(tmp_path / 'a.png', NARROW)
    out = load(path, dict(reduce_zero_label=True, ignore_index=65535))['gt_seg_map']
    assert out.dtype == np.int32 and out.tolist() == [[65535, 0, 1], [149, 253, 254]]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'label file .*no\.png: not found.*seg_map_suffix'):
        load(tmp_path / 'no.png')


def test_no_label_path():
    with pytest.raises(ValueError, match="no 'seg_map_path' for image picture.jpg.*set allow_missing=True"):
        TRANSFORMS.build(dict(type='mmmaskformer.LoadSegAnnotations'))(dict(img_path='picture.jpg'))


def test_no_label_path_is_passed_if_allowed_but_a_missing_file_is_not(tmp_path):
    transform = TRANSFORMS.build(dict(type='mmmaskformer.LoadSegAnnotations', allow_missing=True))
    assert transform(dict(img_path='picture.jpg')) == dict(img_path='picture.jpg')
    with pytest.raises(FileNotFoundError, match=r'label file .*no\.png: not found'):
        load(tmp_path / 'no.png', allow_missing=True)


def test_empty_file(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'a\.png: empty \(0 bytes\), expected a one-channel PNG'):
        load(tmp_path / 'a.png')


@pytest.mark.parametrize('cut', [True, False])
def test_undecodable_file(tmp_path, cut):
    noise = np.random.default_rng(0).integers(0, 255, (50, 50), dtype=np.uint8)
    path = save(tmp_path / 'a.png', noise)
    path.write_bytes(path.read_bytes()[:300] if cut else b'this is text')
    with pytest.raises(ValueError, match=r'a\.png: \d+ bytes that cannot be decoded .*expected a one-channel PNG'):
        load(path)


def test_colour_file(tmp_path):
    path = save(tmp_path / 'a.png', np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(4, 5, 3\) \(Pillow mode 'RGB'\).*palette colours.*class ids first"):
        load(path)


def test_values_that_are_not_labels(tmp_path):
    path = save(tmp_path / 'a.tif', np.array([[3, 70000]], np.int32))
    with pytest.raises(ValueError, match=r'a\.tif: found values from 3 to 70000, expected class ids from 0 to 65535'):
        load(path)


def test_size_of_the_image_file_counts(tmp_path):
    path = save(tmp_path / 'a.png', NARROW)
    assert load(path, dict(ori_shape=(2, 3), img_shape=(20, 30)))['gt_seg_map'].shape == (2, 3)
    with pytest.raises(ValueError, match=r'a\.png: found 2 x 3 pixels .* expected 3 x 2 as in image picture.jpg'):
        load(path, dict(ori_shape=(3, 2), img_shape=(2, 3)))


@pytest.mark.parametrize('info, options', [({}, dict(num_classes=150)), (dict(num_classes=150), {})])
def test_unknown_classes(tmp_path, info, options):
    path = save(tmp_path / 'a.png', np.array([[0, 149, 255, 150, 200, 200]] * 2, np.uint8))
    with pytest.raises(ValueError, match=r'a\.png: found labels 150 \(2 px\), 200 \(4 px\), expected 0 to 149 \(150'):
        load(path, info, **options)


def test_known_classes_pass_after_the_shift(tmp_path):
    path = save(tmp_path / 'a.png', np.array([[0, 1, 150, 255]], np.uint8))
    out = load(path, dict(reduce_zero_label=True), num_classes=150)['gt_seg_map']
    assert out.tolist() == [[255, 0, 149, 255]]


def test_unknown_classes_of_wide_maps_hint_at_the_ignored_label(tmp_path):
    path = save(tmp_path / 'a.png', np.arange(100, 112, dtype=np.uint16)[None])
    with pytest.raises(ValueError, match=r'107 \(1 px\) and 4 more, expected 0 to 99'):
        load(path, num_classes=100)
    path = save(tmp_path / 'b.png', np.array([[5, 65535]], np.uint16))
    with pytest.raises(ValueError, match='set ignore_index=65535'):
        load(path, num_classes=100)
    assert load(path, num_classes=847, ignore_index=65535)['gt_seg_map'].tolist() == [[5, 65535]]


def test_ignored_label_must_not_be_a_class(tmp_path):
    with pytest.raises(ValueError, match='ignore_index=255 is also one of the 847 classes.*65535'):
        load(tmp_path / 'a.png', num_classes=847, ignore_index=255)
    with pytest.raises(ValueError, match='ignore_index=255 is also one of the 847 classes.*65535'):
        load(save(tmp_path / 'a.png', NARROW), dict(num_classes=847))


def test_pipeline_and_dataset_must_agree(tmp_path):
    path = save(tmp_path / 'a.png', NARROW)
    with pytest.raises(ValueError, match='num_classes=9 in the pipeline, but the dataset has num_classes=11'):
        load(path, dict(num_classes=11), num_classes=9)
    with pytest.raises(ValueError, match='ignore_index=254 in the pipeline, but the dataset has ignore_index=255'):
        load(path, dict(ignore_index=255), ignore_index=254)
