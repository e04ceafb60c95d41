"""The datasets on tiny files: entries, class lists, and one clear error for each kind of bad folder."""

import json
from pathlib import Path

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
    """images/{p,q,drive/r}.jpg with label maps of the same names."""
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
    with pytest.raises(FileNotFoundError, match='To predict without labels, omit seg_map_path'):
        build(root, data_prefix=dict(img_path='images', seg_map_path='masks'), test_mode=True)


def test_folder_without_images(root):
    with pytest.raises(ValueError, match=r"folder '.*images' .*found 3 x '\.jpg', expected images that end in '\.bmp'"):
        build(root, img_suffix='.bmp')
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
        ValueError, match=r'12 images .* 9 label maps are missing: .*more0.*more1.*more2\.png and 6 more\.'
    ):
        build(root)


def test_without_labels_only_for_testing(root):
    only_images = dict(img_path='images')
    assert 'seg_map_path' not in build(root, data_prefix=only_images, test_mode=True).get_data_info(0)
    with pytest.raises(ValueError, match="expected also 'seg_map_path'.*only with test_mode=True"):
        build(root, data_prefix=only_images)


def test_a_lazy_dataset_reads_no_files(tmp_path):
    assert build(tmp_path / 'nowhere', lazy_init=True).metainfo['classes'] == ('a', 'b', 'c')


def test_scenes(root):
    write(root / 'x' / '000000.png', np.zeros((4, 6, 3), np.uint8))
    write(root / 'y' / '000000.png', np.zeros((4, 6), np.uint8))
    dataset = build(root, 'ScenesDataset', metainfo=None, data_prefix=dict(img_path='x', seg_map_path='y'))
    assert len(dataset) == 1 and dataset.get_data_info(0)['num_classes'] == len(scenes.CLASSES)
    assert dataset.metainfo['classes'] == tuple(row.name for row in scenes.CLASSES)
    assert dataset.metainfo['palette'] == [list(row.color) for row in scenes.CLASSES]


def test_every_class_list_of_the_package_is_valid():
    from mmmaskformer.datasets.metainfo import check_metainfo
    from mmmaskformer.datasets.seg import CamVidDataset, ScenesDataset

    for kind in (CamVidDataset, ScenesDataset):
        check_metainfo(kind.METAINFO, kind.__name__)


def paths_of(dataset, key: str = 'img_path') -> list[str]:
    """Paths of a dataset's entries, relative to its root."""
    return [
        str(Path(dataset.get_data_info(index)[key]).relative_to(dataset.data_root)) for index in range(len(dataset))
    ]


@pytest.fixture
def warnings(monkeypatch):
    """Log messages of the datasets."""
    said = []
    monkeypatch.setattr('mmmaskformer.datasets.seg.print_log', lambda text, **_: said.append(text))
    return said


def test_every_spelling_of_a_suffix_is_read(root, warnings):
    (root / 'images' / 'p.jpg').rename(root / 'images' / 'p.JPG')
    (root / 'images' / 'q.jpg').rename(root / 'images' / 'q.jpeg')
    (root / 'labels' / 'q.png').rename(root / 'labels' / 'q.PNG')
    dataset = build(root)
    assert paths_of(dataset) == ['images/drive/r.jpg', 'images/p.JPG', 'images/q.jpeg']
    assert paths_of(dataset, 'seg_map_path') == ['labels/drive/r.png', 'labels/p.png', 'labels/q.PNG']
    assert not warnings


def test_other_pictures_are_counted_or_read(root, warnings):
    only_images = dict(data_prefix=dict(img_path='images'), test_mode=True)
    for name in ('s.png', 't.PNG', 'u.tif'):
        write(root / 'images' / name, np.zeros((4, 6, 3), np.uint8))
    assert len(build(root, **only_images)) == 3
    assert len(warnings) == 1
    assert '3 images in' in warnings[0] and "1 x '.png', 1 x '.PNG', 1 x '.tif'" in warnings[0]
    assert "img_suffix to a tuple such as ('.jpg', '.png')" in warnings[0]
    assert len(build(root, img_suffix=('.jpg', '.png', '.tif'), **only_images)) == 6 and len(warnings) == 1


def test_two_label_maps_of_one_name(root):
    write(root / 'labels' / 'p.PNG', np.zeros((4, 6), np.uint8))
    with pytest.raises(ValueError, match=r'two label maps with the same name, .*p\.PNG and .*p\.png'):
        build(root)


def test_images_and_masks_in_one_folder(tmp_path, warnings):
    for name in ('a', 'b'):
        write(tmp_path / 'd' / f'{name}.png', np.zeros((4, 6, 3), np.uint8))
        write(tmp_path / 'd' / f'{name}_mask.png', np.zeros((4, 6), np.uint8))
    one_folder = dict(data_prefix=dict(img_path='d', seg_map_path='d'), img_suffix='.png')
    dataset = build(tmp_path, seg_map_suffix='_mask.png', **one_folder)
    assert paths_of(dataset) == ['d/a.png', 'd/b.png'] and not warnings
    assert paths_of(dataset, 'seg_map_path') == ['d/a_mask.png', 'd/b_mask.png']
    with pytest.raises(ValueError, match=r"images and label maps are both the files '\.png' in .*_mask\.png"):
        build(tmp_path, **one_folder)


def test_list_with_empty_lines(root, warnings):
    (root / 'names.txt').write_bytes(b'\xef\xbb\xbfq\r\n\r\ndrive/r \r\n\r\n')
    assert paths_of(build(root, ann_file='names.txt')) == ['images/q.jpg', 'images/drive/r.jpg'] and not warnings
    (root / 'names.txt').write_text('\n \n')
    with pytest.raises(ValueError, match=r"ann_file '.*names\.txt' is empty"):
        build(root, ann_file='names.txt')


@pytest.mark.parametrize('lines', [
    'q.jpg other/q_labels.png\np.jpg\tp.png',
    '/images/q.jpg /labels/other/q_labels.png\nimages/p.jpg labels/p.png',
])  # fmt: skip
def test_list_of_pairs(root, lines):
    """Relative to the folders, or to the root as in PASCAL VOC's lists."""
    (root / 'labels' / 'other').mkdir()
    (root / 'labels' / 'q.png').rename(root / 'labels' / 'other' / 'q_labels.png')
    (root / 'pairs.txt').write_text(lines)
    dataset = build(root, ann_file='pairs.txt')
    assert paths_of(dataset) == ['images/q.jpg', 'images/p.jpg']
    assert paths_of(dataset, 'seg_map_path') == ['labels/other/q_labels.png', 'labels/p.png']


def test_list_of_file_names_and_spellings(root, warnings):
    (root / 'images' / 'p.jpg').rename(root / 'images' / 'p.JPG')
    (root / 'names.txt').write_text('q.jpg\np\np\n')
    assert paths_of(build(root, ann_file='names.txt')) == ['images/q.jpg', 'images/p.JPG', 'images/p.JPG']
    assert len(warnings) == 1 and 'lists 1 images more than once' in warnings[0]


def test_list_written_on_windows(root):
    (root / 'pairs.txt').write_bytes('images\\drive\\r.jpg labels\\drive\\r.png\r\n'.encode('utf-16'))
    dataset = build(root, ann_file='pairs.txt')
    assert paths_of(dataset) == ['images/drive/r.jpg']
    assert paths_of(dataset, 'seg_map_path') == ['labels/drive/r.png']


def test_images_that_share_a_label_map_are_reported(root, warnings):
    write(root / 'images' / 'p.png', np.zeros((4, 6, 3), np.uint8))
    assert len(build(root, img_suffix=('.jpg', '.png'))) == 4
    assert len(warnings) == 1
    assert '1 label maps belong to several images each' in warnings[0] and 'p.jpg' in warnings[0]
    (root / 'pairs.txt').write_text('p.jpg p.png\nq.jpg p.png\n')
    build(root, ann_file='pairs.txt')
    assert len(warnings) == 2 and 'labels/p.png, to ' in warnings[1]


def test_list_for_images_without_labels_names_the_line(root):
    (root / 'names.txt').write_text('q\n\nz\n')
    with pytest.raises(ValueError, match=r'1 names in ann_file have no image: line 3: .*z\.jpg'):
        build(root, ann_file='names.txt', data_prefix=dict(img_path='images'), test_mode=True)


@pytest.mark.parametrize('ignore_index', [-100, -1, 0])
def test_impossible_ignored_label(root, ignore_index):
    advice = 'reduce_zero_label=True' if ignore_index == 0 else 'set ignore_index=255'
    with pytest.raises(ValueError, match=f'ignore_index={ignore_index}.*{advice}'):
        build(root, ignore_index=ignore_index)
