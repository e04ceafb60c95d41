"""The data transforms, compared with the official code, the stock transforms and hand-computed cases."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from torch.nn import functional as F

from mmmaskformer.apis.audit import published, published_settings
from mmmaskformer.registry import TRANSFORMS

PREFIX = 'mmmaskformer.'


@pytest.fixture(autouse=True)
def under_mmseg():
    """The default scope of the configs, for one test."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def official() -> dict:
    """Results of the official data pipeline; resized labels come from its semantic mapper."""
    path = Path(__file__).parents[1] / 'data' / 'pipeline.pt'
    return torch.load(path, weights_only=True)


def build(name: str, **options):
    return TRANSFORMS.build(dict(type=PREFIX + name, **options))


def results_with(height: int, width: int, dtype: type = np.uint8) -> dict:
    """A noise image with a label map and one more map, as after loading."""
    rng = np.random.default_rng(0)
    return {
        'img': rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'img_path': 'picture.jpg',
        'gt_seg_map': rng.integers(0, 200, (height, width)).astype(dtype),
        'gt_edge_map': rng.integers(0, 2, (height, width)).astype(np.uint8),
        'seg_fields': ['gt_seg_map', 'gt_edge_map'],
    }


# --- ResizeShortestEdge ---


def test_sizes_are_the_official_ones(official):
    from mmmaskformer.datasets.transforms.geometry import shortest_edge_size

    assert len(official['shortest_edge']) > 50
    for height, width, short, longest, new_height, new_width in official['shortest_edge']:
        assert shortest_edge_size(height, width, short, longest) == (new_height, new_width)


@pytest.mark.parametrize('short, longest', [(800, 1333), (512, 2048), (2048, 2048)])
def test_sizes_are_the_official_ones_for_every_image_up_to_640(short, longest):
    """detectron2's get_output_shape for all sizes at once: the same operations in double precision."""
    from mmmaskformer.datasets.transforms.geometry import shortest_edge_size

    height, width = np.meshgrid(np.arange(1.0, 641), np.arange(1.0, 641), indexing='ij')
    scale = short / np.minimum(height, width)
    wide = height < width
    new_height, new_width = np.where(wide, short, scale * height), np.where(wide, scale * width, short)
    shrink = np.minimum(longest / np.maximum(new_height, new_width), 1.0)
    official = [np.maximum((side * shrink + 0.5).astype(int), 1) for side in (new_height, new_width)]
    known = {800: (666, 1333), 512: (512, 1024), 2048: (1024, 2048)}  # for 176 x 352
    assert (official[0][175, 351], official[1][175, 351]) == known[short]
    ours = [[shortest_edge_size(h, w, short, longest) for w in range(1, 641)] for h in range(1, 641)]
    np.testing.assert_array_equal(np.array(ours), np.stack(official, -1))


@pytest.mark.parametrize('short', [45, 100, 30])
def test_resize_equals_official_pipeline(official, short):
    (expected,) = [value for key, value in official['resized'].items() if key.startswith(f'{short}x')]
    results = {'img': official['image'].numpy(), 'gt_seg_map': official['labels'].numpy().astype(np.int32)}
    results['seg_fields'] = ['gt_seg_map']
    out = build('ResizeShortestEdge', short_edge=short, max_size=2048)(results)
    assert np.array_equal(out['img'], expected['image'].numpy())
    assert np.array_equal(out['gt_seg_map'], expected['labels_semantic_mapper'].numpy())
    assert out['gt_seg_map'].dtype == np.int32


@pytest.mark.parametrize('old, new', [((61, 83), (45, 61)), ((60, 90), (120, 180)), ((96, 128), (96, 128))])
def test_labels_are_those_at_the_published_places(old, new):
    from mmmaskformer.datasets.transforms.geometry import resize_labels

    labels = np.arange(old[0] * old[1], dtype=np.int32).reshape(old)
    rows = [row * old[0] // new[0] for row in range(new[0])]
    columns = [column * old[1] // new[1] for column in range(new[1])]
    assert np.array_equal(resize_labels(labels, new), labels[np.ix_(rows, columns)])


@pytest.mark.parametrize('old, new', [((25, 70), (115, 115)), ((25, 70), (23, 46)), ((91, 130), (77, 55))])
def test_labels_follow_torch_where_rounding_decides(old, new):
    from mmmaskformer.datasets.transforms.geometry import resize_labels

    labels = np.arange(old[0] * old[1], dtype=np.uint16).reshape(old)
    # as in detectron2: height and width first, then two axes of length 1, then permuted
    strided = torch.from_numpy(labels.astype(np.float64)).view(*old, 1, 1).permute(2, 3, 0, 1)
    assert np.array_equal(resize_labels(labels, new), F.interpolate(strided, size=new, mode='nearest')[0, 0].numpy())


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.int64])
def test_resize_moves_every_map_and_keeps_dtypes(dtype):
    results = results_with(40, 60, dtype)
    before = copy.deepcopy(results)
    out = build('ResizeShortestEdge', short_edge=20, max_size=100)(results)
    assert out['img'].shape == (20, 30, 3) and out['img_shape'] == (20, 30) and out['ori_shape'] == (40, 60)
    assert out['gt_seg_map'].dtype == dtype and out['gt_edge_map'].dtype == np.uint8
    assert np.array_equal(out['gt_seg_map'], before['gt_seg_map'][::2, ::2])
    assert np.array_equal(out['gt_edge_map'], before['gt_edge_map'][::2, ::2])


def test_resize_records_what_the_stock_resize_records():
    stock = TRANSFORMS.build(dict(type='mmseg.Resize', scale=(70, 33), keep_ratio=True, backend='pillow'))
    ours = build('ResizeShortestEdge', short_edge=33, max_size=70)
    expected, found = stock(results_with(40, 90)), ours(results_with(40, 90))
    assert np.array_equal(expected['img'], found['img'])
    for key in ('scale', 'scale_factor', 'img_shape', 'keep_ratio'):
        assert found[key] == expected[key]


def test_resize_draws_every_edge_about_equally_often():
    resize = build('ResizeShortestEdge', short_edge=[8, 9, 10, 11], max_size=100)
    np.random.seed(0)
    edges = [resize(results_with(10, 10))['img_shape'][0] for _ in range(400)]
    values, counts = np.unique(edges, return_counts=True)
    assert values.tolist() == [8, 9, 10, 11] and counts.min() > 70


def test_published_short_edges(official):
    """The settings of the audit, which compares them with the configs."""
    models = published()['models']
    for config, edges in official['min_size_train'].items():
        (name, *_) = [name for name, model in models.items() if model['config'] == config]
        steps = published_settings(name)['augmentation']
        assert any(f'resize {" ".join(map(str, edges))}, long side' in step for step in steps)


@pytest.mark.parametrize('options', [dict(short_edge=[], max_size=9), dict(short_edge=[8, 0], max_size=9),
                                     dict(short_edge=8.5, max_size=9), dict(short_edge=8, max_size=-1)])  # fmt: skip
def test_resize_refuses_wrong_sizes(options):
    with pytest.raises(
        ValueError, match=r'ResizeShortestEdge\.(short_edge|max_size): found .*, expected a whole number'
    ):
        build('ResizeShortestEdge', **options)


def test_resize_refuses_other_types():
    results = results_with(10, 10)
    results['img'] = results['img'].astype(np.complex64)
    with pytest.raises(
        ValueError, match=r'picture.jpg is complex64 of shape \(10, 10, 3\), expected integers or float'
    ):
        build('ResizeShortestEdge', short_edge=8, max_size=9)(results)


@pytest.mark.parametrize('name, options', [('ResizeShortestEdge', dict(short_edge=8, max_size=9)),
                                           ('PadToSize', dict(size=(20, 20)))])  # fmt: skip
def test_boxes_are_refused(name, options):
    results = results_with(10, 10)
    results['gt_bboxes'] = np.zeros((1, 4))
    with pytest.raises(ValueError, match=rf"{name} moves images and label maps only.*'gt_bboxes'"):
        build(name, **options)(results)


# --- the stock crop is the published one ---


def test_stock_crop_reaches_every_position_and_takes_small_images_whole():
    np.random.seed(0)
    crop = TRANSFORMS.build(dict(type='mmseg.RandomCrop', crop_size=(3, 20)))
    seen = set()
    for _ in range(200):
        results = results_with(6, 8)
        results['gt_seg_map'] = np.arange(48).reshape(6, 8)
        out = crop(results)
        assert out['img'].shape == (3, 8, 3) and out['gt_edge_map'].shape == (3, 8)
        seen.add(int(out['gt_seg_map'][0, 0]) // 8)
    assert seen == {0, 1, 2, 3}


# --- PadToSize ---


def test_pad_values_position_and_shapes():
    results = results_with(5, 7, np.int32) | {'seg_fields': ['gt_seg_map']}
    before = copy.deepcopy(results)
    out = build('PadToSize', size=(8, 9), image_value=128, ignore_index=65535)(results)
    assert out['img'].shape == (8, 9, 3) and out['img'].dtype == np.uint8
    assert out['img_shape'] == (8, 9) and out['pad_shape'] == (8, 9, 3)
    assert np.array_equal(out['img'][:5, :7], before['img'])
    assert (out['img'][5:] == 128).all() and (out['img'][:, 7:] == 128).all()
    assert np.array_equal(out['gt_seg_map'][:5, :7], before['gt_seg_map']) and out['gt_seg_map'].dtype == np.int32
    assert (out['gt_seg_map'][5:] == 65535).all() and (out['gt_seg_map'][:, 7:] == 65535).all()


def test_pad_gives_the_stock_values_for_a_smaller_image():
    stock = TRANSFORMS.build(dict(type='mmcv.Pad', size=(9, 8), pad_val=dict(img=128, seg=255)))
    expected, found = stock(results_with(5, 7)), build('PadToSize', size=(8, 9))(results_with(5, 7))
    for key in ('img', 'gt_seg_map'):
        assert np.array_equal(expected[key], found[key])
    assert found['img_shape'] == expected['img_shape'] and found['pad_shape'] == expected['pad_shape']


def test_pad_takes_the_ignore_index_of_the_dataset():
    results = results_with(5, 7) | {'ignore_index': 254}
    assert (build('PadToSize', size=(8, 9))(results)['gt_seg_map'][5:] == 254).all()


def test_pad_refuses_larger_images():
    with pytest.raises(ValueError, match=r'picture.jpg has 9 x 4 pixels .* more than size=\(8, 9\).*RandomCrop'):
        build('PadToSize', size=(8, 9))(results_with(9, 4))


def test_pad_refuses_a_label_map_too_narrow_for_the_ignored_label():
    with pytest.raises(
        ValueError, match='gt_seg_map is a label map of uint8, which cannot hold ignore_index=65535.*Load'
    ):
        build('PadToSize', size=(8, 9), ignore_index=65535)(results_with(5, 7))


@pytest.mark.parametrize('size', [512, (0, 5), (5, 5, 5), (4.5, 4)])
def test_pad_refuses_wrong_sizes(size):
    with pytest.raises(ValueError, match=r'PadToSize.size: found .*, expected \(height, width\), two whole numbers'):
        build('PadToSize', size=size)


# --- ColorJitterSSD ---


def no_change() -> dict:
    return dict(brightness=None, contrast=None, saturation=None, hue=None, contrast_first=True)


@pytest.mark.parametrize('case', ['brightness_+20.5', 'brightness_-31.7', 'contrast_0.6', 'contrast_1.45',
                                  'saturation_0.55', 'saturation_1.4', 'hue_+13', 'hue_-18'])  # fmt: skip
def test_one_colour_operation_equals_official(official, case):
    from mmmaskformer.datasets.transforms.color import ColorChange, change_color

    assert set(official['color']) >= {case} and len(official['color']) == 8
    kind, strength = case.split('_')
    value = int(strength) if kind == 'hue' else float(strength)
    bgr = official['image'].numpy()[..., ::-1].copy()
    kept = bgr.copy()
    changed = change_color(bgr, ColorChange(**no_change() | {kind: value}))
    assert np.array_equal(changed[..., ::-1], official['color'][case].numpy())
    assert np.array_equal(bgr, kept)


def test_colour_operations_come_in_two_orders(official):
    from mmmaskformer.datasets.transforms.color import ColorChange, change_color

    image = official['image'].numpy()[..., ::-1].copy()

    def single(picture: np.ndarray, **change) -> np.ndarray:
        return change_color(picture, ColorChange(**no_change() | change))

    every = dict(brightness=12.3, contrast=1.3, saturation=0.7, hue=-9)
    first = single(single(single(single(image, brightness=12.3), contrast=1.3), saturation=0.7), hue=-9)
    last = single(single(single(single(image, brightness=12.3), saturation=0.7), hue=-9), contrast=1.3)
    assert np.array_equal(single(image, **every, contrast_first=True), first)
    assert np.array_equal(single(image, **every, contrast_first=False), last)
    assert not np.array_equal(first, last)


def test_colour_draws_cover_the_published_ranges():
    np.random.seed(0)
    jitter = build('ColorJitterSSD')
    draws = [jitter._draw() for _ in range(4000)]
    limits = dict(brightness=(-32, 32), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-18, 18))
    for name, (low, high) in limits.items():
        used = np.array([value for draw in draws if (value := getattr(draw, name)) is not None], dtype=float)
        assert abs(len(used) / len(draws) - 0.5) < 0.03
        assert used.min() >= low and used.max() <= high
        assert used.min() < low + 0.02 * (high - low) and used.max() > high - 0.02 * (high - low)
    assert {draw.hue for draw in draws} == {None, *range(-18, 19)}
    assert abs(np.mean([draw.contrast_first for draw in draws]) - 0.5) < 0.03


def test_jitter_follows_the_seed_and_touches_only_the_image():
    jitter, outputs = build('ColorJitterSSD'), []
    for _ in range(2):
        np.random.seed(3)
        results = results_with(12, 14)
        labels = results['gt_seg_map'].copy()
        outputs.append(jitter(results)['img'])
        assert np.array_equal(results['gt_seg_map'], labels)
    assert np.array_equal(*outputs) and outputs[0].dtype == np.uint8


def test_random_values_can_be_shared_between_images():
    from mmcv.transforms.utils import cache_random_params

    transforms = [build('ColorJitterSSD'), build('ResizeShortestEdge', short_edge=list(range(10, 90)), max_size=200)]
    with cache_random_params(transforms):
        one, two = results_with(12, 14), results_with(12, 14)
        for transform in transforms:
            one, two = transform(one), transform(two)
    assert np.array_equal(one['img'], two['img'])


def test_jitter_refuses_images_that_are_not_uint8():
    results = results_with(10, 10)
    results['img'] = results['img'][..., 0]
    with pytest.raises(ValueError, match=r'picture.jpg is uint8 of shape \(10, 10\), expected uint8 \(H, W, 3\), BGR'):
        build('ColorJitterSSD')(results)


# --- together with the stock transforms ---


def test_test_time_views_of_a_resized_image(tmp_path):
    """After two consecutive resizes, the original size is still that of the file, and the maps have that size."""
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    Image.fromarray(rng.integers(0, 9, (40, 60), dtype=np.uint8)).save(tmp_path / 'b.png')
    resize, labels = dict(type=PREFIX + 'ResizeShortestEdge', max_size=90), dict(type=PREFIX + 'LoadSegAnnotations')
    views = TRANSFORMS.build(dict(type='mmcv.TestTimeAug', transforms=[
        [dict(resize, short_edge=20), dict(resize, short_edge=70)],
        [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
        [labels], [dict(type='mmseg.PackSegInputs')]]))  # fmt: skip
    results = dict(img_path=str(tmp_path / 'a.png'), seg_map_path=str(tmp_path / 'b.png'), seg_fields=[])
    results = TRANSFORMS.build(dict(type='mmcv.LoadImageFromFile'))(results)
    results = TRANSFORMS.build(dict(resize, short_edge=30))(results)
    out = views(results)
    assert [tuple(image.shape) for image in out['inputs']] == [(3, 20, 30)] * 2 + [(3, 60, 90)] * 2
    for sample, flipped in zip(out['data_samples'], [False, True, False, True], strict=True):
        assert sample.ori_shape == (40, 60) and sample.flip == flipped
        assert sample.gt_sem_seg.data.shape == (1, 40, 60)
    assert torch.equal(out['inputs'][0].flip(-1), out['inputs'][1])


# --- images with other bands, bit depths and shapes ---


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize('bands', [None, 1, 3, 4, 7])
@pytest.mark.parametrize('size', [(15, 23), (90, 138)])
def test_resize_of_deep_images_equals_torch(dtype, bands, size):
    """The same averaging filter; torch uses float64, in which 12 bits are exact."""
    from mmmaskformer.datasets.transforms.geometry import resize_image

    image = np.random.default_rng(0).integers(0, 4096, (30, 46) if bands is None else (30, 46, bands)).astype(dtype)
    planes = torch.from_numpy(image.reshape(30, 46, -1).astype(np.float64)).permute(2, 0, 1)[None]
    expected = F.interpolate(planes, size=size, mode='bilinear', antialias=True)[0].permute(1, 2, 0).numpy()
    found = resize_image(image, size)
    assert found.dtype == np.float32 and found.shape == (*size, bands or 1)
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize('bands', [1, 2, 4, 6])
def test_resize_of_8_bits_treats_every_band_alike(bands):
    """A fourth band is not opacity."""
    from mmmaskformer.datasets.transforms.geometry import resize_image

    image = np.random.default_rng(0).integers(0, 256, (30, 46, bands), dtype=np.uint8)
    found = resize_image(image, (15, 23))
    assert found.dtype == np.uint8 and found.shape == (15, 23, bands)
    for band in range(bands):
        assert np.array_equal(found[..., band], resize_image(np.stack([image[..., band]] * 3, -1), (15, 23))[..., 0])


@pytest.mark.parametrize('shape', [(3, 3000), (3000, 3)])
def test_very_thin_images_keep_a_row(shape):
    results = results_with(*shape)
    out = build('ResizeShortestEdge', short_edge=512, max_size=256)(results)
    expected = (1, 256) if shape[0] == 3 else (256, 1)
    assert out['img'].shape[:2] == out['gt_seg_map'].shape == out['img_shape'] == expected


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_resize_refuses_nan_and_infinity(value):
    results = results_with(10, 10)
    results['img'] = results['img'].astype(np.float32)
    results['img'][2, 3, 1] = value
    with pytest.raises(ValueError, match=r'image .*picture\.jpg has 1 values that are NaN or infinite'):
        build('ResizeShortestEdge', short_edge=8, max_size=9)(results)


def test_padding_of_each_band():
    results = results_with(5, 7)
    results['img'] = np.zeros((5, 7, 4), np.float32)
    out = build('PadToSize', size=(8, 9), image_value=[1.5, 2000, 3, 4])(results)
    assert out['img'].dtype == np.float32 and out['img'][7, 8].tolist() == [1.5, 2000, 3, 4]
    with pytest.raises(ValueError, match=r'image_value has 3 values, but image .* has shape \(8, 9, 4\)'):
        build('PadToSize', size=(9, 9), image_value=[1, 2, 3])(out)
    with pytest.raises(ValueError, match=r'image_value=2048, but image picture.jpg is uint8, 0 to 255'):
        build('PadToSize', size=(8, 9), image_value=2048)(results_with(5, 7))


@pytest.mark.parametrize('ignore_index', [-1, -100, 70000])
def test_padding_with_a_label_that_no_file_can_hold(ignore_index):
    with pytest.raises(ValueError, match=f'ignore_index={ignore_index}: expected a label that a file'):
        build('PadToSize', size=(8, 9), ignore_index=ignore_index)


def test_jitter_of_deep_images_names_the_fix():
    results = results_with(5, 7)
    results['img'] = results['img'].astype(np.float32)
    with pytest.raises(ValueError, match=r'is float32 of shape .* remove the jitter'):
        build('ColorJitterSSD')(results)


def test_bits_dropped_by_the_loader_are_reported_once(tmp_path, monkeypatch):
    from mmmaskformer.datasets.transforms import loading

    said = []
    monkeypatch.setattr(loading, '_reported', set())
    monkeypatch.setattr(loading, 'print_log', lambda text, **_: said.append(text))
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), deep)
    cv2.imwrite(str(tmp_path / 'b.png'), deep.astype(np.uint8))
    resize = build('ResizeShortestEdge', short_edge=10, max_size=90)
    for name in ('b.png', 'a.png', 'a.png'):
        results = TRANSFORMS.build(dict(type='LoadImageFromFile'))(dict(img_path=str(tmp_path / name)))
        resize(resize(results))
    assert len(said) == 1
    assert f'a.png: of 16 bits per band the loader kept the upper 8, {np.unique(deep).size} grey levels' in said[0]
    assert f'became {np.unique(deep >> 8).size}. ' in said[0] and "color_type='unchanged'" in said[0]
