"""Findings from a sample of a dataset's files, also through the hosts' wrappers."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.tiff import write_tiff
from mmengine.registry import DefaultScope
from PIL import Image

from mmmaskformer.datasets import inspection
from mmmaskformer.datasets.inspection import image_paths, image_root, inspect_data
from mmmaskformer.datasets.transforms import loading
from mmmaskformer.formats.panoptic_png import write_ids
from mmmaskformer.registry import DATASETS

BLOCK = np.zeros((8, 10), np.uint8)
BLOCK[2:6, 2:6] = 1


@pytest.fixture(autouse=True)
def under_mmseg(monkeypatch):
    """The default scope of the configs, and a process that has not reported anything yet."""
    monkeypatch.setattr(loading, '_reported', set())
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def write(root, labels, name='a', suffix='.jpg', image=None, **options) -> None:
    """One image with its label map."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(exist_ok=True, parents=True)
    image = np.zeros((*labels.shape, 3), np.uint8) if image is None else image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        Image.fromarray(image).save(root / f'images/{name}{suffix}', **options)
    else:
        cv2.imwrite(str(root / f'images/{name}{suffix}'), image)
    Image.fromarray(labels).save(root / f'labels/{name}.png')


def config_of(root, classes=('ground', 'object'), loader=None, **options) -> dict:
    return dict(
        type='mmmaskformer.MaskFormerSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=classes),
        pipeline=[dict(type='LoadImageFromFile', **(loader or {})), dict(type='mmmaskformer.LoadSegAnnotations')],
        **options,
    )


def build(root, *args, **options):
    return DATASETS.build(config_of(root, *args, **options))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_masks_of_0_and_255(tmp_path):
    write(tmp_path, BLOCK * 255)
    [found] = inspect_data(build(tmp_path))
    assert found.is_warning and found.text.startswith(
        "all 1 label maps: 1 of 2 classes have no pixel: 1 'object'; 20.0%"
    )
    assert 'masks of 0 and 255' in found.text


def test_valid_data_give_no_report(tmp_path):
    write(tmp_path, BLOCK)
    [found] = inspect_data(build(tmp_path))
    assert not found.is_warning
    assert found.text == 'all 1 label maps: all 2 classes occur, 0.0% of the pixels are ignored (label 255)'


def test_much_ignored_is_a_warning(tmp_path):
    labels = np.full((8, 10), 255, np.uint8)
    labels[0, :2] = 0, 1
    write(tmp_path, labels)
    [found] = inspect_data(build(tmp_path))
    assert found.is_warning and 'all 2 classes occur, 97.5% of the pixels are ignored' in found.text
    assert 'masks of 0 and 255' in found.text


def test_masks_of_0_and_255_with_one_class(tmp_path):
    """Any prediction is then correct: 0 is the only class, the object is ignored."""
    write(tmp_path, BLOCK * 255)
    [found] = inspect_data(build(tmp_path, classes=('object',)))
    assert found.is_warning and 'all 1 classes occur, 20.0%' in found.text and 'masks of 0 and 255' in found.text


def test_labels_are_counted_after_reduce_zero_label(tmp_path):
    write(tmp_path, BLOCK)
    [found] = inspect_data(build(tmp_path, reduce_zero_label=True))
    assert "1 of 2 classes have no pixel: 1 'object'; 80.0%" in found.text


def test_many_absent_classes_are_counted(tmp_path):
    write(tmp_path, BLOCK)
    [found] = inspect_data(build(tmp_path, classes=[f'c{index}' for index in range(40)]))
    assert "38 of 40 classes have no pixel: 2 'c2', 3 'c3'" in found.text and "21 'c21' and 18 more; 0.0%" in found.text


def test_sample_is_bounded_by_number_and_time(tmp_path, monkeypatch):
    for index in range(12):
        write(tmp_path, BLOCK, name=str(index))
    dataset = build(tmp_path)
    monkeypatch.setattr(inspection, 'MAX_LABEL_FILES', 7)
    assert inspect_data(dataset)[0].text.startswith('7 of 12 label maps')
    monkeypatch.setattr(inspection, 'LABEL_SECONDS', 0.0)
    assert inspect_data(dataset)[0].text.startswith('4 of 12 label maps')


def test_wrappers(tmp_path):
    """A class that is missing in one part but present in another is not reported."""
    write(tmp_path / 'one', BLOCK * 0)
    write(tmp_path / 'two', BLOCK, name='b')
    first, second = (config_of(tmp_path / name) for name in ('one', 'two'))
    assert "1 'object'" in inspect_data(DATASETS.build(first))[0].text
    both = dict(type='ConcatDataset', datasets=[first, dict(type='RepeatDataset', dataset=second, times=3)])
    both = DATASETS.build(dict(type='MultiImageMixDataset', dataset=both, pipeline=[]))
    assert type(both).__module__.startswith('mmseg')
    assert inspect_data(both)[0].text.startswith('all 2 label maps: all 2 classes occur')
    assert image_paths(both) == [str(tmp_path / 'one/images/a.jpg'), str(tmp_path / 'two/images/b.jpg')]
    assert image_root(both) == str(tmp_path) and image_root(DATASETS.build(first)) == str(tmp_path / 'one/images')
    assert image_root(SimpleNamespace()) is None


@pytest.mark.parametrize('labels, message', [
    (BLOCK * 7, r'a\.png: found labels 7 \(16 px\), expected 0 to 1'),
    (np.stack([BLOCK] * 3, -1), r'a\.png: found a picture of shape'),
])  # fmt: skip
def test_label_maps_that_cannot_be_used_end_the_run(tmp_path, labels, message):
    write(tmp_path, BLOCK)
    Image.fromarray(labels).save(tmp_path / 'labels/a.png')
    with pytest.raises(ValueError, match=message):
        inspect_data(build(tmp_path))


def test_datasets_of_the_host(tmp_path):
    write(tmp_path, BLOCK * 255)
    settings = dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=dict(classes=('a', 'b')))
    prefix = dict(img_path='images', seg_map_path='labels')
    host = DATASETS.build(dict(settings, data_prefix=prefix, pipeline=[dict(type='LoadImageFromFile')]))
    assert "1 'b'; 20.0% of the pixels" in inspect_data(host)[0].text
    Image.fromarray(np.stack([BLOCK] * 3, -1)).save(tmp_path / 'labels/a.png')
    assert inspect_data(host) == []


@pytest.mark.parametrize('orientation', [2, 3, 4])
def test_orientation_that_does_not_change_the_size(tmp_path, orientation):
    write(tmp_path, BLOCK, exif=exif(orientation))
    _, found = inspect_data(build(tmp_path))
    assert found.is_warning and f'a.jpg (orientation {orientation})' in found.text
    assert 'of 1 checked images (1 in total), 1 have an EXIF orientation' in found.text
    assert len(inspect_data(build(tmp_path, loader=dict(color_type='color_ignore_orientation')))) == 1
    # chosen for other reasons, such as 16 bits
    _, found = inspect_data(build(tmp_path, loader=dict(color_type='unchanged')))
    assert f'a.jpg (orientation {orientation})' in found.text


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_orientation_that_changes_the_size(tmp_path, orientation):
    image = np.zeros((8, 10, 3), np.uint8)
    write(tmp_path, BLOCK, image=image, exif=exif(orientation))
    stored = dict(color_type='color_ignore_orientation')
    message = rf'a\.jpg is read with 10 x 8 .* annotation has 8 x 10.*EXIF orientation {orientation}, .*exiftool'
    with pytest.raises(ValueError, match=message):
        inspect_data(build(tmp_path))
    assert len(inspect_data(build(tmp_path, loader=stored))) == 1
    write(tmp_path, np.ascontiguousarray(BLOCK.T), image=image, exif=exif(orientation))
    assert len(inspect_data(build(tmp_path))) == 1
    with pytest.raises(ValueError, match=r'a\.jpg is read with 8 x 10 .* annotation has 10 x 8'):
        inspect_data(build(tmp_path, loader=stored))


@pytest.mark.parametrize('key', ['instances', 'segments_info'])
def test_orientation_of_coco_files(tmp_path, key):
    """Polygons and panoptic PNG files: the JSON gives the size of the annotated image."""
    write(tmp_path, BLOCK, exif=exif(6))
    info = {'img_path': str(tmp_path / 'images/a.jpg'), 'height': 8, 'width': 10, key: []}

    class Coco:
        metainfo = dict(classes=('a',))
        pipeline = build(tmp_path).pipeline

        def __len__(self):
            return 1

        def get_data_info(self, index):
            return info

    with pytest.raises(ValueError, match=r'a\.jpg is read with 10 x 8 .* annotation has 8 x 10'):
        inspect_data(Coco())
    info.update(height=10, width=8)
    assert inspect_data(Coco()) == []


def test_images_of_more_bits_and_bands(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (8, 10, 3)).astype(np.uint16)
    write(tmp_path, BLOCK, 'a', '.png', deep)
    write(tmp_path, BLOCK, 'b', '.png', np.zeros((8, 10, 4), np.uint8))
    _, bits, bands = inspect_data(build(tmp_path, img_suffix='.png'))
    levels = f'{np.unique(deep).size} grey levels become {np.unique(deep >> 8).size}'
    assert bits.is_warning and '1 have more than 8 bits per band' in bits.text and levels in bits.text
    assert bands.is_warning and '1 have bands that the loader drops' in bands.text and 'b.png' in bands.text
    assert len(inspect_data(build(tmp_path, img_suffix='.png', loader=dict(color_type='unchanged')))) == 1


def test_images_that_opencv_cannot_read_with_8_bits_end_the_run(tmp_path):
    write(tmp_path, BLOCK)
    image = next((tmp_path / 'images').iterdir())
    image.unlink()
    Image.fromarray(np.random.default_rng(0).random(BLOCK.shape, np.float32)).save(tmp_path / 'images' / 'a.tif')
    options = dict(img_suffix='.tif')
    with pytest.raises(ValueError, match=r"a\.tif: 1 bands of 32 bits, .* Fix: load with .*color_type='unchanged'"):
        inspect_data(build(tmp_path, **options))
    [found] = inspect_data(build(tmp_path, loader=dict(color_type='unchanged'), **options))
    assert not found.is_warning


@pytest.mark.parametrize('orientation, is_open', [(1, False), (3, True), (6, False)])
def test_orientation_of_tiff_files(tmp_path, orientation, is_open):
    """OpenCV always applies it; a rotation by 90 degrees changes the size."""
    write(tmp_path, np.zeros((10, 6) if orientation == 6 else (6, 10), np.uint8))
    (tmp_path / 'images/a.jpg').unlink()
    write_tiff(tmp_path / 'images/a.tif', 1, 1, orientation=orientation)
    found = inspect_data(build(tmp_path, loader=dict(color_type='unchanged'), img_suffix='.tif'))
    assert any(f'(orientation {orientation})' in each.text for each in found) == is_open


def panoptic(root, area: float | None, count: int = 3, **options):
    """Panoptic images with two segments of 40 pixels; every second image lists one of them with another area."""
    for folder in ('images', 'panoptic'):
        (root / folder).mkdir(exist_ok=True, parents=True)
    ids = np.repeat([7, 9], 40).reshape(8, 10)
    images, annotations = [], []
    for number in range(count):
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(root / f'images/{number}.png')
        write_ids(root / f'panoptic/{number}.png', ids)
        images.append(dict(id=number + 1, file_name=f'{number}.png', height=8, width=10))
        rows = [dict(id=id, category_id=1, area=40 if id == 7 or number % 2 else area, iscrowd=0) for id in (7, 9)]
        annotations.append(dict(image_id=number + 1, file_name=f'{number}.png', segments_info=rows))
    categories = [dict(id=1, name='object', isthing=1)]
    (root / 'a.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(
            dict(
                type='mmmaskformer.PanopticDataset',
                data_root=str(root),
                ann_file='a.json',
                data_prefix=dict(img='images', seg='panoptic'),
                metainfo=dict(classes=('object',), isthing=(True,)),
                pipeline=[dict(type='mmmaskformer.LoadPanopticAnnotations')],
                **options,
            )
        )


@pytest.mark.parametrize('test_mode', [False, True])
def test_areas_that_the_png_contradicts_are_reported_once(tmp_path, monkeypatch, test_mode):
    for area in (40, 40.6, None):
        assert inspect_data(panoptic(tmp_path / str(area), area)) == []
    dataset = panoptic(tmp_path, 55, test_mode=test_mode)
    (found,) = inspect_data(dataset)
    assert found.is_warning and found.text.startswith(
        'of 3 checked panoptic PNG files (3 in total), 2 contradict areas'
    )
    assert '1 of 2 areas that segments_info lists are wrong, those of the ids 9: 55 (the PNG has 40 px)' in found.text
    messages = []
    monkeypatch.setattr(
        'mmmaskformer.datasets.transforms.panoptic_loading.print_log', lambda *a, **_: messages.append(a)
    )
    assert dataset.get_data_info(0)['segments_info'][1]['area'] == 55
    dataset.pipeline(dataset.get_data_info(0) | dict(ori_shape=(8, 10)))
    assert not messages


def test_a_panoptic_png_that_cannot_be_used_ends_the_run(tmp_path):
    dataset = panoptic(tmp_path, 40)
    (tmp_path / 'panoptic/1.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='panoptic PNG .*1.png: 10 bytes that cannot be decoded'):
        inspect_data(dataset)


def test_ids_of_a_panoptic_png_that_its_json_does_not_list_end_the_run(tmp_path):
    dataset = panoptic(tmp_path, 40)
    write_ids(tmp_path / 'panoptic/2.png', np.repeat([7, 8], 40).reshape(8, 10))
    with pytest.raises(ValueError, match=r'2.png: found 8 \(40 px\), ids that segments_info of image 3 does not list'):
        inspect_data(dataset)


def test_an_image_whose_listed_segments_are_missing_ends_the_run(tmp_path):
    dataset = panoptic(tmp_path, 40)
    content = json.loads((tmp_path / 'a.json').read_text())
    content['annotations'][2]['segments_info'] = []
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset.full_init()
    dataset._fully_initialized = False
    dataset.full_init()
    with pytest.raises(ValueError, match=r'2.png: found 7 \(40 px\), 9 \(40 px\), ids that segments_info of image 3'):
        inspect_data(dataset)
