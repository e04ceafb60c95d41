"""The datasets on tiny files: entries, class lists, and one clear error for each kind of bad folder."""

import json

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.registry import DATASETS

METAINFO = dict(classes=('a', 'b', 'c'), palette=[[1, 1, 1], [2, 2, 2], [3, 3, 3]])
PREFIX = dict(img_path='images', seg_map_path='labels')


@pytest.fixture(autouse=True)
def under_mmseg():
    """The default scope of the configs, for one test."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def root(tmp_path):
    """images/{p,q,drive/r}.jpg with labels of the same names."""
    for name in ('q', 'p', 'drive/r'):
        write(tmp_path / 'images' / f'{name}.jpg', np.zeros((4, 6, 3), np.uint8))
        write(tmp_path / 'labels' / f'{name}.png', np.array([[0, 1, 2, 255, 0, 0]] * 4, np.uint8))
    return tmp_path


def write(path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def build(root, kind: str = 'MaskFormerSegDataset', **options):
    options = dict(metainfo=METAINFO, data_prefix=dict(PREFIX)) | options
    return DATASETS.build(dict(type=f'mmmaskformer.{kind}', data_root=str(root), **options))


def test_entries(root):
    dataset = build(root)
    assert len(dataset) == 3
    info = dataset.get_data_info(1)
    assert info['img_path'] == str(root / 'images' / 'p.jpg')
    assert info['seg_map_path'] == str(root / 'labels' / 'p.png')
    assert (info['num_classes'], info['ignore_index'], info['reduce_zero_label']) == (3, 255, False)
    assert info['label_map'] is None and info['seg_fields'] == []


def test_pipeline_checks_labels_against_the_class_list(root):
    pipeline = [dict(type='mmcv.LoadImageFromFile'), dict(type='mmmaskformer.LoadSegAnnotations')]
    assert build(root, pipeline=pipeline)[0]['gt_seg_map'][0].tolist() == [0, 1, 2, 255, 0, 0]
    few = dict(classes=('a', 'b'), palette=METAINFO['palette'][:2])
    with pytest.raises(ValueError, match=r'r\.png: found labels 2 \(4 px\), expected 0 to 1 \(2 classes\)'):
        build(root, metainfo=few, pipeline=pipeline)[0]


def test_wide_ignore_index_reaches_the_maps(root):
    pipeline = [
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmmaskformer.LoadSegAnnotations'),
        dict(type='mmmaskformer.PadToSize', size=(5, 6)),
    ]
    names = dict(classes=tuple(map(str, range(847))))
    write(root / 'labels' / 'p.png', np.full((4, 6), 846, np.uint16))
    dataset = build(root, metainfo=names, ignore_index=65535, pipeline=pipeline)
    labels = dataset[1]['gt_seg_map']
    assert labels.dtype == np.int32 and labels[:, 0].tolist() == [846] * 4 + [65535]
    with pytest.raises(ValueError, match='ignore_index=255 is also one of the 847 classes'):
        build(root, metainfo=names)


def test_class_list_from_a_file(root):
    (root / 'mine.json').write_text(json.dumps(METAINFO))
    dataset = build(root, metainfo=None, metainfo_file=str(root / 'mine.json'))
    assert dataset.metainfo['classes'] == ('a', 'b', 'c') and dataset.metainfo['palette'] == METAINFO['palette']
    assert build(root, metainfo=None, metainfo_file='camvid').metainfo['classes'][0] == 'sky'


def test_class_list_missing_or_twice(root):
    with pytest.raises(ValueError, match='MaskFormerSegDataset: no class list. Fix: set metainfo_file'):
        build(root, metainfo=None)
    with pytest.raises(ValueError, match="both metainfo_file='camvid' and metainfo"):
        build(root, metainfo_file='camvid')
    with pytest.raises(ValueError, match=r"of MaskFormerSegDataset: class names occur twice: \['a'\]"):
        build(root, metainfo=dict(classes=('a', 'a')))


def test_unknown_option_fails(root):
    with pytest.raises(TypeError, match='image_suffix'):
        build(root, image_suffix='.jpg')


def test_part_of_the_classes_leaves_the_rest_out(root):
    some = build(root, 'CamVidDataset', metainfo=dict(classes=('road', 'sky')), ignore_index=254)
    label_map = some.get_data_info(0)['label_map']
    assert label_map[3] == 0 and label_map[0] == 1
    assert {new for old, new in label_map.items() if old not in (0, 3)} == {254}
    assert some.metainfo['palette'] == [[128, 64, 128], [128, 128, 128]]
    pipeline = [dict(type='mmcv.LoadImageFromFile'), dict(type='mmmaskformer.LoadSegAnnotations')]
    dataset = build(root, 'CamVidDataset', metainfo=dict(classes=('road', 'sky')), pipeline=pipeline)
    assert dataset[0]['gt_seg_map'][0].tolist() == [1, 255, 255, 255, 1, 1]


def test_list_of_names(root):
    (root / 'names.txt').write_text('q\ndrive/r\n')
    dataset = build(root, ann_file='names.txt')
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert paths == [str(root / 'images' / 'q.jpg'), str(root / 'images' / 'drive' / 'r.jpg')]
    (root / 'names.txt').write_text('q\nz\n')
    with pytest.raises(ValueError, match=r'1 label maps are missing: .*z\.png; 1 names in ann_file have no image: .*z'):
        build(root, ann_file='names.txt')
    (root / 'names.txt').write_text('')
    with pytest.raises(ValueError, match=r"ann_file '.*names\.txt' is empty"):
        build(root, ann_file='names.txt')
    with pytest.raises(FileNotFoundError, match=r"ann_file '.*no\.txt' does not exist"):
        build(root, ann_file='no.txt')


def test_missing_folders(root):
    with pytest.raises(FileNotFoundError, match=r"data_prefix\['img_path'\] is the folder '.*pictures'.*data_root='"):
        build(root, data_prefix=dict(img_path='pictures', seg_map_path='labels'))
    with pytest.raises(FileNotFoundError, match=r"data_prefix\['seg_map_path'\] is the folder '.*masks'"):
        build(root, data_prefix=dict(img_path='images', seg_map_path='masks'))
    with pytest.raises(FileNotFoundError, match='To predict without labels, leave seg_map_path out'):
        build(root, data_prefix=dict(img_path='images', seg_map_path='masks'), test_mode=True)


def test_folder_without_images(root):
    with pytest.raises(
        ValueError, match=r"folder '.*images' .*found 3 x '\.jpg', expected images that end in '\.jpeg'"
    ):
        build(root, img_suffix='.jpeg')
    (root / 'empty').mkdir()
    with pytest.raises(ValueError, match="found no file at all, expected images that end in '.jpg'"):
        build(root, data_prefix=dict(img_path='empty', seg_map_path='labels'))


def test_images_and_labels_must_pair_up(root):
    (root / 'labels' / 'drive' / 'r.png').unlink()
    with pytest.raises(
        ValueError, match=r'3 images in .*; 1 label maps are missing: .*r\.png\. Expected for each NAME'
    ):
        build(root)
    write(root / 'labels' / 's.png', np.zeros((4, 6), np.uint8))
    with pytest.raises(ValueError, match=r'1 label maps are missing: .*r\.png; 1 label maps have no image: .*s\.png\.'):
        build(root)


def test_only_the_first_missing_files_are_listed(root):
    for index in range(9):
        write(root / 'images' / f'more{index}.jpg', np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r'12 images .* 9 label maps are missing: .*more0.*more1.*more2\.png, \.\.\. *\.'
    ):
        build(root)


def test_without_labels_only_for_testing(root):
    only_images = dict(img_path='images')
    assert 'seg_map_path' not in build(root, data_prefix=only_images, test_mode=True).get_data_info(0)
    with pytest.raises(ValueError, match="expected also 'seg_map_path'.*only with test_mode=True"):
        build(root, data_prefix=only_images)


def test_lazy_dataset_reads_nothing(tmp_path):
    assert build(tmp_path / 'nowhere', lazy_init=True).metainfo['classes'] == ('a', 'b', 'c')


def test_scenes(root):
    write(root / 'x' / '000000.png', np.zeros((4, 6, 3), np.uint8))
    write(root / 'y' / '000000.png', np.zeros((4, 6), np.uint8))
    dataset = build(root, 'ScenesDataset', metainfo=None, data_prefix=dict(img_path='x', seg_map_path='y'))
    assert len(dataset) == 1 and dataset.get_data_info(0)['num_classes'] == len(scenes.CLASSES)
    assert dataset.metainfo['classes'] == tuple(row.name for row in scenes.CLASSES)
    assert dataset.metainfo['palette'] == [list(row.color) for row in scenes.CLASSES]


def test_every_own_class_list_is_sound():
    from mmmaskformer.datasets.metainfo import check_metainfo
    from mmmaskformer.datasets.seg import CamVidDataset, ScenesDataset

    for kind in (CamVidDataset, ScenesDataset):
        check_metainfo(kind.METAINFO, kind.__name__)
