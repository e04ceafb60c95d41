"""The synthetic scenes: their contents, and the files written."""

import json

import numpy as np
import pytest
from PIL import Image

from mmmaskformer.datasets.scenes import files as scene_files
from mmmaskformer.datasets.scenes.files import scene_rng, write_scenes
from mmmaskformer.datasets.scenes.scenes import CLASSES, HEIGHTS, IGNORE_LABEL, METAINFO, WIDTHS, make_scene


@pytest.fixture(scope='module')
def scenes():
    return [make_scene(scene_rng(0, 'train', index)) for index in range(60)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('sets') / 'scenes'
    assert write_scenes(root, num_train=4, num_val=2, seed=3) is True
    return root


def read(path):
    return np.asarray(Image.open(path))


def test_class_table():
    names = [row.name for row in CLASSES]
    assert len(set(names)) == len(names) == len({row.color for row in CLASSES}) == len(METAINFO['classes'])
    is_thing = METAINFO['isthing']
    assert sum(is_thing) == 5 and is_thing != tuple(sorted(is_thing, reverse=True)), 'things must not come first'
    assert set(METAINFO['thing_classes']) | set(METAINFO['stuff_classes']) == set(names)


def test_same_state_same_scene():
    one, other = make_scene(np.random.default_rng(5)), make_scene(np.random.default_rng(5))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    different = make_scene(np.random.default_rng(6), size=one.semantic.shape)
    assert (different.image != one.image).mean() > 0.5


def test_maps_agree(scenes):
    for scene in scenes:
        assert (scene.image.dtype, scene.semantic.dtype, scene.panoptic.dtype) == (np.uint8, np.uint8, np.int32)
        assert scene.image.shape == (*scene.semantic.shape, 3) and scene.panoptic.shape == scene.semantic.shape
        np.testing.assert_array_equal(scene.panoptic == 0, scene.semantic == IGNORE_LABEL)
        assert set(np.unique(scene.panoptic)) - {0} == {segment.id for segment in scene.segments}
        for segment in scene.segments:
            assert set(scene.semantic[scene.panoptic == segment.id]) == {segment.label}
            assert 0 < segment.id < 1 << 24
        stuff = [segment.label for segment in scene.segments if not CLASSES[segment.label].isthing]
        assert len(stuff) == len(set(stuff)), 'one segment for each stuff class'


def test_variety(scenes):
    pixels = np.bincount(np.concatenate([scene.semantic.ravel() for scene in scenes]), minlength=256)
    assert (pixels[: len(CLASSES)] > 0.008 * pixels.sum()).all(), 'every class has enough pixels'
    ignored = [(scene.semantic == IGNORE_LABEL).mean() > 0.01 for scene in scenes]
    assert 0.2 < np.mean(ignored) < 0.5
    sizes = {scene.semantic.shape for scene in scenes}
    assert len(sizes) > 30
    assert all(HEIGHTS[0] <= high <= HEIGHTS[1] and WIDTHS[0] <= wide <= WIDTHS[1] for high, wide in sizes)
    repeats = [len(scene.segments) > len({segment.label for segment in scene.segments}) for scene in scenes]
    assert np.mean(repeats) > 0.5, 'several things of one class'
    edges = [np.concatenate([scene.semantic[:, 0], scene.semantic[:, -1], scene.semantic[-1]]) for scene in scenes]
    things = [label for label, row in enumerate(CLASSES) if row.isthing]
    assert np.mean([np.isin(edge, things).any() for edge in edges]) > 0.3, 'things cut off by the border'


def test_given_size_and_too_small():
    assert make_scene(np.random.default_rng(0), size=(40, 77)).image.shape == (40, 77, 3)
    with pytest.raises(ValueError, match=r'size: found \(31, 77\), expected .* at least 32'):
        make_scene(np.random.default_rng(0), size=(31, 77))


@pytest.mark.parametrize(('split', 'count'), [('train', 4), ('val', 2)])
def test_files_match_the_json(root, split, count):
    content = json.loads((root / f'panoptic_{split}.json').read_text())
    assert [row['id'] for row in content['categories']] == list(range(1, len(CLASSES) + 1))
    assert len(content['images']) == len(content['annotations']) == count
    for image, annotation in zip(content['images'], content['annotations'], strict=True):
        assert image['id'] == annotation['image_id'] and image['file_name'] == annotation['file_name']
        colours = read(root / f'panoptic_{split}' / annotation['file_name']).astype(int)
        ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        semantic = read(root / 'annotations' / split / image['file_name'])
        assert read(root / 'images' / split / image['file_name']).shape == (image['height'], image['width'], 3)
        rebuilt = np.full(ids.shape, IGNORE_LABEL)
        for segment in annotation['segments_info']:
            rows, columns = np.where(ids == segment['id'])
            rebuilt[rows, columns] = segment['category_id'] - 1
            x, y, width, height = segment['bbox']
            assert segment['area'] == rows.size and segment['iscrowd'] == 0
            assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        np.testing.assert_array_equal(rebuilt, semantic)
        assert len(np.unique(ids[ids > 0])) == len(annotation['segments_info'])


def test_a_picture_does_not_depend_on_the_count(root, tmp_path):
    write_scenes(tmp_path / 'fewer', num_train=2, num_val=1, seed=3)
    for file in sorted((tmp_path / 'fewer').rglob('*.png')):
        assert file.read_bytes() == (root / file.relative_to(tmp_path / 'fewer')).read_bytes()
    train, val = (read(root / 'images' / split / '000000.png') for split in ('train', 'val'))
    assert train.shape != val.shape or (train != val).any(), 'the splits differ'


def test_same_arguments_keep_the_dataset(root):
    before = (root / 'scenes.json').stat().st_mtime_ns
    assert write_scenes(root, num_train=4, num_val=2, seed=3) is False
    assert (root / 'scenes.json').stat().st_mtime_ns == before


def test_other_arguments_are_refused_without_overwrite(tmp_path):
    root = tmp_path / 'scenes'
    write_scenes(root, num_train=1, num_val=1)
    with pytest.raises(FileExistsError, match=r"scenes: holds scenes made with .*'seed': 0.*--overwrite"):
        write_scenes(root, num_train=1, num_val=1, seed=1)
    write_scenes(root, num_train=1, num_val=1, seed=1, overwrite=True)
    assert json.loads((root / 'scenes.json').read_text())['seed'] == 1
    (root / 'images' / 'val' / '000000.png').unlink()
    with pytest.raises(FileExistsError, match='of which files are missing'):
        write_scenes(root, num_train=1, num_val=1, seed=1)
    assert list(tmp_path.iterdir()) == [root], 'nothing is left over'


def test_nothing_is_written_through_a_broken_link(tmp_path):
    for target in ('nothing', 'link'):
        (tmp_path / 'link').unlink(missing_ok=True)
        (tmp_path / 'link').symlink_to(target)
        with pytest.raises(FileExistsError, match='link: found a broken symbolic link, expected a folder'):
            write_scenes(tmp_path / 'link', num_train=1, num_val=1)
    assert [path.name for path in tmp_path.iterdir()] == ['link']


def test_foreign_folder_is_never_replaced(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='exists and is not a dataset of scenes'):
        write_scenes(tmp_path, num_train=1, num_val=1, overwrite=True)
    assert (tmp_path / 'thesis.txt').exists()


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / 'scenes').mkdir()
    assert write_scenes(tmp_path / 'scenes', num_train=1, num_val=1) is True


@pytest.mark.parametrize('before', [False, True])
def test_interruption_keeps_the_existing_dataset(tmp_path, monkeypatch, before):
    root = tmp_path / 'scenes'
    if before:
        write_scenes(root, num_train=1, num_val=1)

    def interrupted(rng):
        if any(tmp_path.rglob('000001.png')):
            raise KeyboardInterrupt
        return make_scene(rng)

    monkeypatch.setattr(scene_files, 'make_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(root, num_train=5, num_val=1, overwrite=True)
    assert list(tmp_path.iterdir()) == ([root] if before else [])
    if before:
        assert json.loads((root / 'scenes.json').read_text())['num_train'] == 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'num_train': 0}, 'num_train: found 0, expected at least 1'),
        ({'num_val': -1}, 'num_val: found -1, expected at least 1'),
        ({'seed': -1}, 'seed: found -1, expected at least 0'),
    ],
)
def test_bad_numbers(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_scenes(tmp_path / 'scenes', **{'num_train': 1, 'num_val': 1, 'seed': 0, **change})


def test_bad_split():
    with pytest.raises(ValueError, match="split: found 'test', expected one of"):
        scene_rng(0, 'test', 0)


def test_mmdet_reads_it(root):
    pytest.importorskip('mmdet')
    from mmengine.registry import DATASETS

    import mmmaskformer.registry  # noqa: F401

    keys = ('classes', 'thing_classes', 'stuff_classes', 'palette')
    dataset = DATASETS.build(
        {
            'type': 'mmdet.CocoPanopticDataset',
            'metainfo': {key: METAINFO[key] for key in keys},
            'data_root': str(root),
            'ann_file': 'panoptic_train.json',
            'data_prefix': {'img': 'images/train/', 'seg': 'panoptic_train/'},
        }
    )
    info = dataset.get_data_info(1)
    scene = make_scene(scene_rng(3, 'train', 1))
    assert {(row['id'], row['category'], bool(row['is_thing'])) for row in info['segments_info']} == {
        (segment.id, segment.label, CLASSES[segment.label].isthing) for segment in scene.segments
    }
