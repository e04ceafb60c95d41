"""The panoptic transforms, compared with MMDetection's, the official code, Pillow and brute force."""

import copy
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.panoptic import CROWD, segment_indices, stored_segments, striped_ids
from mmengine.registry import DefaultScope
from PIL import Image

from mmmaskformer.core.structures import IGNORED
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.datasets.transforms import loading
from mmmaskformer.formats.panoptic_png import write_ids
from mmmaskformer.registry import DATASETS, TRANSFORMS

LOAD_IMAGE = dict(type='mmcv.LoadImageFromFile')


@pytest.fixture(autouse=True)
def under_mmdet():
    """The default scope of the configs, for one test."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Six synthetic scenes without a pipeline."""
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(root, 6, 1, seed=1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(
            dict(
                type='mmmaskformer.ScenesPanopticDataset',
                data_root=str(root),
                ann_file='panoptic_train.json',
                data_prefix=dict(img='images/train', seg='panoptic_train'),
            )
        )


def build(name: str, **options):
    return TRANSFORMS.build(dict(type=name if '.' in name else f'mmmaskformer.{name}', **options))


def entry(path: Path, ids: np.ndarray, **changes) -> dict:
    """Write a PNG with the ids, and return a dataset entry with a segment of label i for each id 300 * (i + 1)."""
    write_ids(path, ids)
    segments = [
        dict(id=int(number), category=int(number) // 300 - 1, is_thing=True, iscrowd=bool(number == CROWD), area=1)
        for number in np.unique(ids)
        if number
    ]
    return dict(img_id=5, img_path='a.jpg', seg_map_path=str(path), segments_info=segments, void_ids=[]) | changes


def moved_results(height: int, width: int, count: int = 4, seed: int = 0) -> dict:
    """An image, a segment map and a label map with the same contents: blue is the segment index, 255 for no segment."""
    coarse = np.random.default_rng(seed).integers(-1, count, (height // 6 + 1, width // 6 + 1))
    segments = coarse.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.int16)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = segments.astype(np.uint8)
    return {
        'img': image,
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'img_id': 3,
        'img_path': 'picture.jpg',
        'gt_seg_map': stored_segments(segments),
        'gt_segment_labels': np.arange(count)[::-1].copy(),
        'seg_fields': ['gt_seg_map'],
    }


def assert_moved_together(results: dict) -> None:
    """The map agrees with the image where the image is not padding (128)."""
    blue, segments = results['img'][..., 0], segment_indices(results)
    shown = np.where(blue == 128, -1, blue.astype(np.int8))
    assert np.array_equal(shown, segments)


# --- LoadPanopticAnnotations ---


def test_loaded_segments_equal_those_of_the_host(scenes):
    ours, theirs = build('LoadPanopticAnnotations'), build('mmdet.LoadPanopticAnnotations')
    isthing = np.array(scenes.metainfo['isthing'])
    voids = 0
    for index in range(len(scenes)):
        info = scenes.get_data_info(index)
        info['ori_shape'] = (info['height'], info['width'])
        things = [segment for segment in info['segments_info'] if segment['is_thing']]
        boxes = [dict(bbox=[0, 0, 1, 1], bbox_label=segment['category'], ignore_flag=0) for segment in things]
        expected = theirs(copy.deepcopy(info) | {'instances': boxes})
        found = ours(info)
        segments, labels = segment_indices(found), found['gt_segment_labels']
        assert found['seg_fields'] == ['gt_seg_map'] and labels.dtype == np.int64
        thing_indices = np.flatnonzero(isthing[labels])
        assert len(thing_indices) >= 2
        assert np.array_equal(expected['gt_masks'].masks, segments == thing_indices[:, None, None])
        assert labels[thing_indices].tolist() == expected['gt_bboxes_labels'].tolist()
        assert np.array_equal(np.append(labels, 255)[segments], expected['gt_seg_map'])
        voids += np.count_nonzero(segments == -1)
    assert voids > 100


def test_void_crowds_and_left_out_categories_belong_to_no_segment(tmp_path):
    ids = striped_ids(8, 12, 4)
    results = build('LoadPanopticAnnotations')(entry(tmp_path / 'a.png', ids))
    expected = np.repeat(np.repeat(np.arange(4), 3)[None], 8, 0)
    expected[-2:] = -1
    assert np.array_equal(segment_indices(results), expected)
    assert results['gt_segment_labels'].tolist() == [0, 1, 2, 3]
    part = entry(tmp_path / 'a.png', ids)
    del part['segments_info'][1]
    results = build('LoadPanopticAnnotations')(part | dict(void_ids=[600]))
    assert segment_indices(results)[0].tolist() == [0] * 3 + [-1] * 3 + [1] * 3 + [2] * 3
    assert results['gt_segment_labels'].tolist() == [0, 2, 3]


def test_a_truncated_file_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / 'a.png'
    info = entry(path, striped_ids(64, 64, 3))
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r'a\.png: \d+ bytes that cannot be decoded'):
        build('LoadPanopticAnnotations')(info)


def test_images_without_segments(tmp_path):
    for ids in (np.zeros((4, 5), np.int32), np.full((4, 5), CROWD)):
        info = entry(tmp_path / 'a.png', ids)
        with pytest.raises(
            ValueError, match=r'image 5 \(.*a\.png\) has no trainable segment.*filter_empty_gt=True.*allow_empty=True'
        ):
            build('LoadPanopticAnnotations')(copy.deepcopy(info))
        results = build('LoadPanopticAnnotations', allow_empty=True)(info)
        assert (segment_indices(results) == -1).all() and results['gt_segment_labels'].shape == (0,)
        packed = build('PackPanopticInputs')(results | {'img': np.zeros((4, 5, 3), np.uint8)})['data_samples']
        assert packed.gt_panoptic_seg.labels == ()


def test_an_image_without_a_png(tmp_path):
    with pytest.raises(ValueError, match=r"no 'seg_map_path' for image a\.jpg.*set allow_missing=True"):
        build('LoadPanopticAnnotations')(dict(img_path='a.jpg'))
    load = build('LoadPanopticAnnotations', allow_missing=True)
    assert load(dict(img_path='a.jpg')) == dict(img_path='a.jpg')
    with pytest.raises(FileNotFoundError, match=r'panoptic PNG .*no\.png: not found'):
        load(entry(tmp_path / 'a.png', striped_ids(8, 12, 3)) | dict(seg_map_path=str(tmp_path / 'no.png')))


def test_id_that_is_not_listed(tmp_path):
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 3))
    del info['segments_info'][1]
    with pytest.raises(
        ValueError,
        match=r'a\.png: found 600 \(24 px\), ids that segments_info of image 5 does not list, expected 0, 300, 900, '
        '70000. Fix: list',
    ):
        build('LoadPanopticAnnotations')(info)


def test_listed_segment_without_pixels(tmp_path):
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 3))
    hidden = dict(id=7, category=5, is_thing=True, iscrowd=False, area=3)
    info['segments_info'].insert(1, hidden)
    with pytest.raises(
        ValueError,
        match=r'a\.png: has no pixel of the ids 7, which segments_info of image 5 lists; it has the ids 0, 300',
    ):
        build('LoadPanopticAnnotations', allow_hidden=False)(copy.deepcopy(info))
    results = build('LoadPanopticAnnotations')(info)
    assert results['gt_segment_labels'].tolist() == [0, 5, 1, 2]
    assert segment_indices(results)[0].tolist() == [0] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize('area, is_wrong', [(None, False), (23.5, False), (24, False), (25, True), (0.5, True)])
def test_differences_from_the_png_are_counted_and_logged_at_intervals(tmp_path, monkeypatch, area, is_wrong):
    monkeypatch.setattr(loading, '_reported', set())  # regardless of what earlier tests have reported
    hidden = dict(id=7, category=5, is_thing=True, iscrowd=False, area=3)
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 3))
    for segment in info['segments_info']:
        segment['area'] = None
    info['segments_info'][1]['area'] = area
    load = build('LoadPanopticAnnotations')
    with mock.patch('mmmaskformer.datasets.transforms.panoptic_loading.print_log') as log:
        for _ in range(101):
            load(copy.deepcopy(info))
            load(copy.deepcopy(info | dict(segments_info=[*info['segments_info'], hidden])))
    texts = [call.args[0] for call in log.call_args_list]
    wrong = [
        text
        for text in texts
        if f'1 of 1 areas that segments_info lists are wrong, those of the ids 600: {area} (the' in text
    ]
    ghosts = [text for text in texts if 'has no pixel of the ids 7,' in text and 'empty mask' in text]
    assert len(ghosts) == 2 and len(wrong) == 2 * is_wrong and len(texts) == 2 + 2 * is_wrong
    assert '(Number 1 of such images' in ghosts[0] and '(Number 100 of such images' in ghosts[1]
    assert all('a.png: ' in text for text in texts)


def test_two_channel_format_is_named(tmp_path):
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 3))
    colours = np.zeros((8, 12, 3), np.uint8)
    colours[..., 0], colours[4:, :, 1] = 17, 3
    Image.fromarray(colours).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'found 17 \(48 px\), 785 \(48 px\), ids that .* the two-channel format'):
        build('LoadPanopticAnnotations')(info)


def test_png_of_another_size_than_the_image(tmp_path):
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 3), ori_shape=(12, 8))
    with pytest.raises(
        ValueError, match=r'panoptic PNG .*a\.png: found 8 x 12 pixels .* expected 12 x 8 as in image a\.jpg'
    ):
        build('LoadPanopticAnnotations')(info)


def test_png_missing_empty_broken_or_not_rgb(tmp_path):
    path = tmp_path / 'a.png'
    info, load = entry(path, striped_ids(8, 12, 3)), build('LoadPanopticAnnotations')
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r"a\.png: found a picture of shape \(8, 12\) \(Pillow mode 'L', 8 bits\), expected RGB"
    ):
        load(copy.deepcopy(info))
    Image.fromarray(np.zeros((8, 12, 4), np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r"a\.png: found a picture of shape \(8, 12, 4\) \(Pillow mode 'RGBA', 8 bits\)"
    ):
        load(copy.deepcopy(info))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r'panoptic PNG .*a\.png: 40 bytes that cannot be decoded .* an RGB PNG'):
        load(copy.deepcopy(info))
    path.write_bytes(b'')
    with pytest.raises(ValueError, match=r'panoptic PNG .*a\.png: empty \(0 bytes\), expected an RGB PNG'):
        load(copy.deepcopy(info))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"panoptic PNG .*a\.png: not found.*data_prefix\['seg'\]"):
        load(copy.deepcopy(info))
    with pytest.raises(ValueError, match="no 'seg_map_path' for image a.jpg: .* Fix: set data_prefix"):
        load(dict(img_path='a.jpg'))


# --- moving the map with the image ---


@pytest.mark.parametrize('size', ['45x61', '100x136', '30x41'])
def test_resize_equals_official_panoptic_mapper(size):
    data = Path(__file__).parents[1] / 'data'
    source = torch.load(data / 'pipeline.pt', weights_only=True)
    expected = torch.load(data / 'pipeline_panoptic.pt', weights_only=True)['labels_panoptic_mapper'][size].numpy()
    results = {'img': source['image'].numpy(), 'gt_seg_map': source['labels'].numpy().astype(np.int16)}
    # other maps take another path, through torch
    results |= {'gt_label_map': source['labels'].numpy(), 'seg_fields': ['gt_seg_map', 'gt_label_map']}
    results['gt_segment_labels'] = np.arange(4)
    out = build('ResizeShortestEdge', short_edge=int(size.split('x')[0]), max_size=2048)(results)
    assert np.array_equal(out['gt_seg_map'], expected) and out['gt_seg_map'].dtype == np.int16
    assert np.array_equal(out['gt_label_map'], source['resized'][size]['labels_semantic_mapper'].numpy())


@pytest.mark.parametrize(
    'old, new', [((61, 83), (45, 61)), ((33, 20), (99, 61)), ((5, 7), (5, 7)), ((640, 3), (13, 1))]
)
def test_resize_takes_the_pixel_under_the_centre(old, new):
    from mmmaskformer.datasets.transforms.geometry import resize_segments

    segments = np.arange(old[0] * old[1], dtype=np.int16).reshape(old) - 1
    rows = ((2 * np.arange(new[0]) + 1) * old[0]) // (2 * new[0])
    columns = ((2 * np.arange(new[1]) + 1) * old[1]) // (2 * new[1])
    assert np.array_equal(resize_segments(segments, new), segments[np.ix_(rows, columns)])


def test_resize_without_a_limit():
    out = build('ResizeShortestEdge', short_edge=20, max_size=None)(moved_results(10, 100))
    assert out['img'].shape == (20, 200, 3) and out['scale'] == (200, 20) and out['scale_factor'] == (2, 2)
    limited = build('ResizeShortestEdge', short_edge=20, max_size=150)(moved_results(10, 100))
    assert limited['img'].shape == (15, 150, 3)


@pytest.mark.parametrize('host', ['mmseg', 'mmmaskformer'])
def test_flips_and_crops_move_the_map(host):
    flip = build('mmseg.RandomFlip', prob=1.0)
    crop = (
        build('mmseg.RandomCrop', crop_size=(20, 30))
        if host == 'mmseg'
        else build('RandomCropRange', min_size=9, max_size=30)
    )
    before = moved_results(43, 57)
    flipped = flip(copy.deepcopy(before))
    assert np.array_equal(flipped['gt_seg_map'], before['gt_seg_map'][:, ::-1]) and flipped['flip']
    np.random.seed(0)
    for seed in range(10):
        results = crop(flip(moved_results(43, 57, seed=seed)))
        assert_moved_together(results)
        assert results['img_shape'] == results['img'].shape[:2]


def test_pad_adds_no_segment():
    results = moved_results(5, 7)
    before = results['gt_seg_map'].copy()
    results |= {'gt_label_map': np.zeros((5, 7), np.uint8), 'seg_fields': ['gt_seg_map', 'gt_label_map']}
    out = build('PadToSize', size=(8, 9))(results)
    assert_moved_together(out)
    assert out['gt_seg_map'].shape == (8, 9) and np.array_equal(out['gt_seg_map'][:5, :7], before)
    assert (out['gt_label_map'][5:] == 255).all()


# --- RandomCropRange ---


def test_crop_sizes_and_places_cover_their_ranges():
    np.random.seed(0)
    crop = build('RandomCropRange', min_size=4, max_size=6)
    seen = set()
    for _ in range(3000):
        results = moved_results(8, 5)
        results['gt_seg_map'] = np.arange(40, dtype=np.int16).reshape(8, 5)
        segments = crop(results)['gt_seg_map']
        top, left = divmod(int(segments[0, 0]), 5)
        assert np.array_equal(
            segments, np.arange(40).reshape(8, 5)[top:, left:][: segments.shape[0], : segments.shape[1]]
        )
        seen.add((*segments.shape, top, left))
    # the side of 5 is shorter than 6
    expected = {(h, w, y, x) for h in (4, 5, 6) for w in (4, 5) for y in range(8 - h + 1) for x in range(5 - w + 1)}
    assert seen == expected


def test_crop_takes_small_images_whole():
    out = build('RandomCropRange', min_size=384, max_size=600)(moved_results(30, 40))
    assert out['img'].shape == (30, 40, 3) and out['gt_seg_map'].shape == (30, 40)


@pytest.mark.parametrize('sizes', [(0, 5), (6, 5), (4.0, 5), ((3, 4), 5)])
def test_crop_refuses_wrong_sizes(sizes):
    with pytest.raises(
        ValueError, match=r'^(class .*)?RandomCropRange\.m\w+_size: found .*, expected (a whole number of )?at least'
    ):
        build('RandomCropRange', min_size=sizes[0], max_size=sizes[1])


def test_crop_refuses_boxes():
    with pytest.raises(ValueError, match="RandomCropRange moves images and label maps only.*'gt_bboxes'"):
        build('RandomCropRange', min_size=1, max_size=2)(moved_results(5, 5) | {'gt_bboxes': np.zeros((1, 4))})


# --- PackPanopticInputs ---


def test_packed_sample():
    results = moved_results(12, 18) | dict(
        scale_factor=(1.0, 1.0), flip=False, flip_direction=None, seg_map_path='a.png', segments_info=[], other=1
    )
    before = copy.deepcopy(results)
    packed = build('PackPanopticInputs')(results)
    assert packed.keys() == {'inputs', 'data_samples'}
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].is_contiguous()
    assert np.array_equal(packed['inputs'].numpy(), before['img'].transpose(2, 0, 1))
    sample = packed['data_samples']
    assert set(sample.metainfo_keys()) == {'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                                           'flip_direction', 'seg_map_path', 'segments_info'}  # fmt: skip
    truth = sample.gt_panoptic_seg
    assert truth.segment_map.dtype == torch.int16 and truth.segment_map.shape == (1, 12, 18)
    assert np.array_equal(truth.segment_map[0].numpy(), segment_indices(before))
    assert truth.labels == (3, 2, 1, 0) and all(type(label) is int for label in truth.labels)


def loaded_results(tmp_path, ids: np.ndarray | None = None, **changes) -> dict:
    """Output of our loaders: an image and its segments, by default four stripes."""
    ids = striped_ids(12, 8, 4) if ids is None else ids
    write_ids(tmp_path / 'image.png', ids)
    results = entry(tmp_path / 'segments.png', ids) | dict(img_path=str(tmp_path / 'image.png')) | changes
    return build('LoadPanopticAnnotations')(TRANSFORMS.build(LOAD_IMAGE)(results))


def mirrored(results: dict) -> dict:
    return results | dict(img=results['img'][:, ::-1].copy(), flip=True, flip_direction='horizontal')


MOVED_APART = {
    'flipped': (
        mirrored,
        r'is \(12, 8\) \(height, width\), flipped \(horizontal\), its segment map \(12, 8\), as it was',
    ),
    'larger': (
        lambda results: results | dict(img=results['img'].repeat(2, 0)),
        r'is \(24, 8\).* segment map \(12, 8\), as it',
    ),
    'warped': (
        lambda results: results | dict(homography_matrix=np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])),
        r'is \(12, 8\).* segment map \(12, 8\), as it was loaded; expected both to be moved together',
    ),
    'map cropped': (
        lambda results: results | dict(gt_seg_map=results['gt_seg_map'][:5]),
        r'is \(12, 8\).* segment map \(5, 8\), moved',
    ),
}


@pytest.mark.parametrize('change', MOVED_APART)
def test_image_and_segments_stay_aligned(tmp_path, change):
    move, message = MOVED_APART[change]
    pack, results = build('PackPanopticInputs'), loaded_results(tmp_path)
    pack(dict(results))
    with pytest.raises(ValueError, match=rf'PackPanopticInputs: image .*image\.png {message}'):
        pack(move(results))


def test_segments_loaded_after_transforms_are_not_changed(tmp_path):
    results = loaded_results(tmp_path)
    flipped = mirrored({key: value for key, value in results.items() if key not in ('gt_seg_map', 'seg_fields')})
    flipped['img'] = flipped['img'].repeat(2, 0)
    packed = build('PackPanopticInputs')(build('LoadPanopticAnnotations')(flipped))
    assert packed['inputs'].shape == (3, 24, 8)
    assert packed['data_samples'].gt_panoptic_seg.segment_map.shape == (1, 12, 8)


def test_any_number_of_segments_leaves_the_fill_values_free(tmp_path):
    ids = 300 * (1 + np.arange(600, dtype=np.int32)).reshape(20, 30).repeat(3, 0).repeat(3, 1)
    results = loaded_results(tmp_path, ids)
    rotated = build('mmseg.RandomRotate', prob=1.0, degree=(7, 7))(results)
    truth = build('PackPanopticInputs', keep_vanished=True)(rotated)['data_samples'].gt_panoptic_seg
    segments = truth.segment_map[0].numpy()
    assert segments.max() > 590 and (segments == -1).sum() > 100 and len(truth.labels) == 600
    # The area uncovered by the rotation is void, not a large segment.
    assert np.bincount(segments[segments >= 0]).max() <= 16


@pytest.mark.parametrize(
    'values', [dict(dtype=np.uint8), dict(first=7), dict(first=-1), dict(first=256 + 4), dict(first=1000)]
)
def test_other_values_than_segments_are_refused(tmp_path, values):
    results = loaded_results(tmp_path)
    stored = results['gt_seg_map'].astype(values.get('dtype', np.int16))
    stored[0, 0] = values.get('first', stored[0, 0])
    with pytest.raises(ValueError, match='expected int16 with 255 for no segment and 256 to 259 for its 4 segments'):
        build('PackPanopticInputs')(results | dict(gt_seg_map=stored))


def test_two_loaders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="already hold 'gt_seg_map', expected one loader"):
        build('LoadPanopticAnnotations')(loaded_results(tmp_path))


def of_mmdetection(info: dict, *, flags: tuple) -> dict:
    """An entry in MMDetection's format: no 'iscrowd', False for a crowd; ``flags`` are stuff and things."""
    segments = [
        dict(
            id=segment['id'],
            category=segment['category'],
            is_thing=False if segment['iscrowd'] else flags[segment['category'] in (1, 2)],
        )
        for segment in info['segments_info']
    ]
    return {key: value for key, value in info.items() if key != 'void_ids'} | dict(segments_info=segments)


@pytest.mark.parametrize('flags, options', [((0, 1), {}), ((0, 1), dict(things=[1, 2])),
                                            ((False, True), dict(things=[1, 2]))])  # fmt: skip
def test_entries_of_mmdetections_dataset(tmp_path, flags, options):
    info = entry(tmp_path / 'a.png', striped_ids(8, 12, 4))
    info['segments_info'][-1]['category'] = 1  # the crowd
    assert info['segments_info'][-1]['iscrowd']
    expected = build('LoadPanopticAnnotations')(copy.deepcopy(info))
    found = build('LoadPanopticAnnotations', **options)(of_mmdetection(info, flags=flags))
    assert np.array_equal(found['gt_seg_map'], expected['gt_seg_map'])
    assert found['gt_segment_labels'].tolist() == expected['gt_segment_labels'].tolist() == [0, 1, 2, 3]


def test_crowds_that_cannot_be_distinguished_from_stuff(tmp_path):
    info = of_mmdetection(entry(tmp_path / 'a.png', striped_ids(8, 12, 4)), flags=(False, True))
    with pytest.raises(
        ValueError, match=r"image 5 have no 'iscrowd'.*does not separate crowds from stuff. Fix: set things="
    ):
        build('LoadPanopticAnnotations')(info)


@pytest.mark.parametrize('keep', [False, True])
def test_vanished_segments(keep):
    results = moved_results(2, 3, count=5)
    results['gt_seg_map'] = stored_segments(np.array([[3, 3, -1], [1, 3, 1]]))
    truth = build('PackPanopticInputs', keep_vanished=keep)(results)['data_samples'].gt_panoptic_seg
    if keep:
        assert truth.labels == (4, 3, 2, 1, 0) and truth.segment_map[0].tolist() == [[3, 3, -1], [1, 3, 1]]
    else:
        assert truth.labels == (3, 1) and truth.segment_map[0].tolist() == [[1, 1, -1], [0, 1, 0]]


def test_packing_without_ground_truth():
    sample = build('PackPanopticInputs')(dict(img=np.zeros((4, 5, 3), np.uint8), img_id=1))['data_samples']
    assert 'gt_panoptic_seg' not in sample and sample.metainfo == {'img_id': 1}


def test_packed_samples_are_targets_of_the_head(scenes):
    from mmmaskformer.heads.data_samples import targets_from_det_samples

    pipeline = [
        LOAD_IMAGE,
        dict(type='mmmaskformer.LoadPanopticAnnotations'),
        dict(type='mmmaskformer.PackPanopticInputs'),
    ]
    results = scenes.get_data_info(0)
    for step in pipeline:
        results = TRANSFORMS.build(step)(results)
    height, width = results['inputs'].shape[1:]
    (target,) = targets_from_det_samples(
        [results['data_samples']],
        is_thing=torch.tensor(scenes.metainfo['isthing']),
        input_size=(128, 160),
        device=torch.device('cpu'),
    )
    segments = scenes.get_data_info(0)['segments_info']
    assert target.labels.tolist() == [segment['category'] for segment in segments]
    areas = [int((target.segment_map == index).sum()) for index in range(len(segments))]
    assert areas == [segment['area'] for segment in segments]
    assert (target.segment_map[height:] == IGNORED).all() and (target.segment_map[:, width:] == IGNORED).all()
