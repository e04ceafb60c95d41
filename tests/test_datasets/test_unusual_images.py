"""Images with other bands, bit depths, shapes and orientations, from file to prediction, in both hosts."""

import cv2
import numpy as np
import pytest
import torch
from helpers import hosts
from helpers.tiff import write_tiff
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmmaskformer.datasets.transforms import loading
from mmmaskformer.datasets.transforms.common import FIRST_SEGMENT
from mmmaskformer.formats.panoptic_png import colours_of_ids
from mmmaskformer.hosts import bands as bands_module
from mmmaskformer.registry import DATASETS, TRANSFORMS

UNCHANGED = dict(type='LoadImageFromFile', color_type='unchanged')
LABELS = np.zeros((40, 60), np.uint8)
LABELS[:20], LABELS[:, :20] = 1, 2


@pytest.fixture(autouse=True)
def under_mmseg():
    """The default scope of the semantic configs."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def semantic_samples(root, image, *, train: bool, suffix: str = '.png', load=UNCHANGED) -> list[dict]:
    """Two samples of one image from the pipelines of our configs, without colour jitter."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(exist_ok=True)
    for name in 'ab':
        cv2.imwrite(str(root / f'images/{name}{suffix}'), image)
        cv2.imwrite(str(root / f'labels/{name}.png'), LABELS[: image.shape[0], : image.shape[1]])
    annotations, pack = dict(type='mmmaskformer.LoadSegAnnotations'), dict(type='PackSegInputs')
    resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=48, max_size=96)
    crop = [dict(type='RandomCrop', crop_size=(48, 48)), dict(type='RandomFlip', prob=0.5)]
    pad = dict(type='mmmaskformer.PadToSize', size=(64, 64), image_value=128 if image.dtype == np.uint8 else 2048)
    pipeline = [load, annotations, resize, *crop, pad, pack] if train else [load, resize, annotations, pack]
    dataset = DATASETS.build(
        dict(
            type='mmmaskformer.MaskFormerSegDataset',
            data_root=str(root),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=dict(classes=tuple('abcde')),
            img_suffix=suffix,
            pipeline=pipeline,
            test_mode=not train,
        )
    )
    return [dataset[index] for index in range(2)]


def segmentor(bands: int):
    """A toy model for images with some bands of 12 bits."""
    model = hosts.make_segmentor(dict(hosts.TINY_RESNET, in_channels=bands), segmentor='mmmaskformer.EncoderDecoder')
    statistics = dict(mean=[2048.0 + band for band in range(bands)], std=[1000.0] * bands)
    model.data_preprocessor = MODELS.build(dict(hosts.PREPROCESSOR, **statistics))
    return model


@pytest.mark.parametrize('bands, dtype, suffix', [(1, np.uint16, '.png'), (3, np.uint16, '.png'), (4, np.uint8, '.png'),
                                                  (4, np.uint16, '.tif'), (4, np.float32, '.tif')])  # fmt: skip
def test_bands_and_bits_train_and_predict(tmp_path, bands, dtype, suffix):
    image = np.random.default_rng(0).integers(0, 4096, (40, 60, bands)).astype(dtype)
    model = segmentor(bands)
    batch = pseudo_collate(semantic_samples(tmp_path, image, train=True, suffix=suffix))
    assert batch['inputs'][0].shape == (bands, 64, 64)
    data = model.data_preprocessor(batch, training=True)
    losses = model.train().loss(data['inputs'], data['data_samples'])
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total) and (model.backbone.layer1[0].conv1.weight.grad != 0).any()

    [sample, _] = semantic_samples(tmp_path, image, train=False, suffix=suffix)
    rounded = image.astype(np.float64).mean(axis=(0, 1))
    assert sample['inputs'].shape == (bands, 48, 72)
    assert np.allclose(sample['inputs'].double().mean(dim=(1, 2)), rounded, rtol=0.02)
    with torch.no_grad():
        [found] = model.eval().test_step(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
    assert found.pred_sem_seg.data.shape == (1, 40, 60)


def test_statistics_of_another_number_of_bands_name_the_image(tmp_path):
    [sample, _] = semantic_samples(tmp_path, np.zeros((40, 60), np.uint8), train=False)
    preprocess = segmentor(3).data_preprocessor
    data = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    with pytest.raises(ValueError, match=r"image .*a\.png has 1 bands, but mean and std .* have 3 values.*'color'"):
        preprocess(data)
    sample['data_samples'].set_metainfo(dict(img_path=None))
    with pytest.raises(ValueError, match=r'image given as an array has 1 bands, .*convert the array'):
        preprocess(data)


@pytest.mark.parametrize('shape', [(2, 60), (40, 1)])
def test_very_thin_images_train_and_predict(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    model = segmentor(3)
    plain = dict(type='LoadImageFromFile')
    batch = pseudo_collate(semantic_samples(tmp_path, image, train=True, load=plain))
    data = model.data_preprocessor(batch, training=True)
    assert torch.isfinite(model.train().loss(data['inputs'], data['data_samples'])['decode.loss_cls'])
    [sample, _] = semantic_samples(tmp_path, image, train=False, load=plain)
    with torch.no_grad():
        [found] = model.eval().test_step(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
    assert found.pred_sem_seg.data.shape == (1, *shape)


def photo(folder, orientation: int) -> np.ndarray:
    """A file of 8 x 12 stored pixels with a white top right corner, and the labels of the white pixels."""
    stored = np.zeros((8, 12, 3), np.uint8)
    stored[:4, 6:] = 255
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(stored).save(folder / 'a.png', exif=tags)
    return (stored[..., 0] > 0).astype(np.uint8)


def turned(labels: np.ndarray, orientation: int) -> np.ndarray:
    """The image as a viewer shows it, by the table of the EXIF standard."""
    tables = {1: labels, 2: labels[:, ::-1], 3: labels[::-1, ::-1], 4: labels[::-1], 5: labels.T,
              6: labels[::-1].T, 7: labels[::-1, ::-1].T, 8: labels[:, ::-1].T}  # fmt: skip
    return np.ascontiguousarray(tables[orientation])


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
@pytest.mark.parametrize('first', ['labels', 'resize'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_annotations_agree_with_the_image_in_every_orientation(tmp_path, kind, first, orientation):
    """Upright annotations with the default loader, stored ones with a loader that ignores the tag."""
    labels = photo(tmp_path, orientation)
    resize = TRANSFORMS.build(dict(type='mmmaskformer.ResizeShortestEdge', short_edge=16, max_size=99))
    for color_type, drawn in (('color', turned(labels, orientation)), ('color_ignore_orientation', labels)):
        results, load = write_annotation(tmp_path, drawn, kind)
        results = TRANSFORMS.build(dict(type='LoadImageFromFile', color_type=color_type))(results)
        results = resize(load(results)) if first == 'labels' else load(resize(results))
        found = results['gt_seg_map']
        expected = results['img'][..., 0] if first == 'labels' else cv2.resize(
            results['img'][..., 0], drawn.shape[::-1], interpolation=cv2.INTER_AREA
        )  # fmt: skip
        inside = (expected < 5) | (expected > 250)
        white = found == (1 if kind == 'semantic' else FIRST_SEGMENT)
        assert np.array_equal(white[inside], expected[inside] > 250)


def write_annotation(folder, labels: np.ndarray, kind: str) -> tuple[dict, object]:
    """The entry of an image with its annotation, and its loader."""
    results = dict(img_path=str(folder / 'a.png'), seg_map_path=str(folder / 'labels.png'))
    if kind == 'semantic':
        cv2.imwrite(results['seg_map_path'], labels)
        return results, TRANSFORMS.build(dict(type='mmmaskformer.LoadSegAnnotations'))
    Image.fromarray(colours_of_ids(labels.astype(np.int64) * 7)).save(results['seg_map_path'])
    results['segments_info'] = [dict(id=7, category=0, iscrowd=0, is_thing=True, area=int(labels.sum()))]
    return results, TRANSFORMS.build(dict(type='mmmaskformer.LoadPanopticAnnotations'))


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
@pytest.mark.parametrize('color_type', ['color', 'color_ignore_orientation'])
def test_annotations_in_another_orientation_are_reported(tmp_path, kind, color_type):
    labels = photo(tmp_path, 6)
    results, load = write_annotation(tmp_path, labels if color_type == 'color' else labels.T.copy(), kind)
    results = TRANSFORMS.build(dict(type='LoadImageFromFile', color_type=color_type))(results)
    with pytest.raises(
        ValueError, match=r'labels\.png: found .* EXIF orientation 6.*exiftool.*color_ignore_orientation'
    ):
        load(results)


def test_bands_stored_one_after_the_other_are_named(tmp_path):
    results, load = write_annotation(tmp_path, LABELS, 'semantic')
    results.update(img=np.zeros((5, 40, 60), np.uint16), ori_shape=(5, 40))
    with pytest.raises(ValueError, match='read as 5 bands of 40 x 60: store the bands of a TIFF file pixel by pixel'):
        load(results)


def test_nothing_is_reported_twice_by_the_workers(monkeypatch):
    monkeypatch.setattr(loading, '_reported', set())
    loading.mark_reported('bits')
    monkeypatch.setattr(loading, 'read_header', lambda path: pytest.fail('looked at again'))
    loading.warn_of_lost_bits(np.zeros((2, 2, 3), np.uint8), __file__ + '.png')


@pytest.mark.parametrize('bands', [1, 3, 4, 6])
def test_panoptic_images_of_any_bands_are_normalised(bands):
    """Like MMDetection's data preprocessor with three bands; also compared with manual values."""
    images = [torch.from_numpy(np.random.default_rng(seed).random((bands, 20, 30))) * 4096 for seed in range(2)]
    settings = dict(mean=[2000.0 + band for band in range(bands)], std=[900.0 - band for band in range(bands)],
                    bgr_to_rgb=True, pad_size_divisor=32)  # fmt: skip
    samples = [hosts.make_panoptic_sample((20, 30), seed=seed)[1] for seed in range(2)]
    build = {
        name: dict(settings, type=name) for name in ('mmmaskformer.DetDataPreprocessor', 'mmdet.DetDataPreprocessor')
    }
    ours = MODELS.build(build['mmmaskformer.DetDataPreprocessor'])(dict(inputs=images, data_samples=samples))
    found = ours['inputs']
    assert found.shape == (2, bands, 32, 32) and ours['data_samples'][0].batch_input_shape == (32, 32)
    if bands == 3:
        host = MODELS.build(build['mmdet.DetDataPreprocessor'])(dict(inputs=images, data_samples=samples))
        assert torch.equal(found, host['inputs'])
    order = [2, 1, 0] if bands == 3 else list(range(bands))
    mean, std = (np.array(settings[key]).reshape(-1, 1, 1) for key in ('mean', 'std'))
    expected = (images[0].numpy()[order] - mean) / std
    assert np.allclose(found[0, :, :20, :30].numpy(), expected, atol=1e-4) and not found[:, :, 20:].any()


@pytest.mark.parametrize('kind', ['SegDataPreProcessor', 'DetDataPreprocessor'])
def test_values_of_another_range_than_mean_and_std_are_reported_once(monkeypatch, kind):
    messages = []
    monkeypatch.setattr(bands_module, 'print_log', lambda text, **_: messages.append(text))
    monkeypatch.setattr(bands_module, '_reported', set())
    settings = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
    preprocess = MODELS.build(dict(settings, type=f'mmmaskformer.{kind}'))
    make_sample = hosts.make_sample if kind.startswith('Seg') else hosts.make_panoptic_sample

    def messages_of(image: np.ndarray, path: str | None = None) -> list[str]:
        sample = make_sample((20, 30))[1]
        sample.set_metainfo(dict(img_path=path))
        preprocess(dict(inputs=[torch.from_numpy(image.transpose(2, 0, 1).copy())], data_samples=[sample]))
        return [messages.pop() for _ in range(len(messages))]

    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for fine in (image, image // 255, image.astype(np.float32), image.astype(np.int64), 0.0 * image):
        assert messages_of(fine) == []
    [text] = messages_of(image.astype(np.uint16) * 257)
    assert (
        text.startswith('image given as an array: found torch.uint16 values from 0 to 65535, but') and '123.6' in text
    )
    assert messages_of(image / 255) == []
    bands_module._reported.clear()
    [text] = messages_of((image / 255).astype(np.float32), 'a.tif')
    assert text.startswith('image a.tif: found torch.float32 values from 0 to 1, but')


def test_panoptic_statistics_that_do_not_fit():
    build = dict(type='mmmaskformer.DetDataPreprocessor', mean=[1.0] * 4)
    with pytest.raises(ValueError, match='one value for each band in both'):
        MODELS.build(dict(build, std=[1.0] * 3))
    sample = hosts.make_panoptic_sample((20, 30), img_path='a.tif')[1]
    with pytest.raises(ValueError, match='image a.tif has 1 bands, but mean and std .* have 4 values'):
        MODELS.build(dict(build, std=[1.0] * 4))(dict(inputs=[torch.zeros(1, 20, 30)], data_samples=[sample]))


@pytest.mark.parametrize('color_type', ['color', 'unchanged'])
def test_bands_that_opencv_drops_are_reported_once(tmp_path, monkeypatch, color_type):
    said = []
    monkeypatch.setattr(loading, '_reported', set())
    monkeypatch.setattr(loading, 'print_log', lambda text, **_: said.append(text))
    path = write_tiff(tmp_path / 'a.tif', 4, 1)
    results = TRANSFORMS.build(dict(type='LoadImageFromFile', color_type=color_type))(dict(img_path=path))
    resize = TRANSFORMS.build(dict(type='mmmaskformer.ResizeShortestEdge', short_edge=6, max_size=99))
    for _ in range(2):
        resize(dict(results))
    assert len(said) == 1 and 'a.tif: the loader kept one of its 4 bands. Fix: load' in said[0]
    assert "imdecode_backend='tifffile'" in said[0]
    resize(dict(results, img=np.zeros((6, 10, 4), np.uint16), img_path=path))
    assert len(said) == 1
