"""The hosts' train.py and test.py with shipped configs: files for test servers, label maps with segments, 16 bits.

The model is smaller and trains for one iteration; data, pipelines, loaders and metrics are those of the config.
"""

import json
import re

import numpy as np
import pytest
from helpers.host_tools import run_tool
from helpers.panoptic import categories_of, write_json, write_panoptic
from helpers.runs import ROOT
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.formats.label_maps import write_label_map
from mmmaskformer.formats.panoptic_png import read_ids

CELL = re.compile(r'-|\d+\.\d\d')
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(_delete_=True, type='mmseg.ResNet', depth=18, base_channels=8, stem_channels=8,
                  norm_cfg=dict(type='BN', requires_grad=False)),
    {head}=dict(channels=16, num_queries=8, pixel_decoder=dict(norm_groups=4),
                transformer_decoder=dict(num_layers=1, num_heads=2, ffn_channels=16)),
)
train_cfg = dict(max_iters=1, val_interval=1)
loading = dict(num_workers=0, persistent_workers=False)
train_dataloader = val_dataloader = test_dataloader = loading
"""


@pytest.fixture
def small(tmp_path):
    """Writes the config of a small model that inherits from a shipped one."""

    def write(config: str, head: str, more: str = '') -> str:
        path = tmp_path / 'small.py'
        path.write_text(SMALL.format(base=str(ROOT / 'configs' / config), head=head) + more)
        return str(path)

    return write


def write_images(folder, names, size=(60, 80)):
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{name}.jpg')


def accuracies(printed: str) -> dict[str, str]:
    """The column Acc of the last class table in a log, '-' for a class that does not occur in the ground truth."""
    rows = [line.rsplit(maxsplit=5) for line in printed.rpartition('RQ-St\n')[2].partition('mIoU ')[0].splitlines()]
    return {row[0].strip(): row[2] for row in rows if len(row) == 6 and all(map(CELL.fullmatch, row[1:]))}


def test_ade20k_test_server(tmp_path, small, monkeypatch):
    root = tmp_path / 'data/ade/ADEChallengeData2016'
    rng = np.random.default_rng(0)
    for split, names in {'training': ['ADE_train_1', 'ADE_train_2'], 'validation': ['ADE_val_1']}.items():
        write_images(root / 'images' / split, names)
        for name in names:
            write_label_map(root / f'annotations/{split}/{name}.png', rng.integers(0, 151, (60, 80)).astype(np.uint8))
    write_images(tmp_path / 'data/ade/release_test/testing', ['ADE_test_1', 'ADE_test_2'])
    name = 'ade20k/maskformer_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-trainval-640x640.py'
    config = small(name, 'decode_head')
    monkeypatch.chdir(tmp_path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert len(DATASETS.build(Config.fromfile(config).train_dataloader.dataset)) == 3, 'both splits'
    run_tool('mmseg', 'train.py', config, '--work-dir', 'out', cwd=tmp_path)
    run_tool('mmseg', 'test.py', config, 'out/iter_1.pth', '--work-dir', 'out', cwd=tmp_path)
    written = sorted((tmp_path / 'work_dirs/ade20k_test_server').iterdir())
    assert [file.name for file in written] == ['ADE_test_1.png', 'ADE_test_2.png']
    for file in written:
        labels = np.array(Image.open(file))
        assert labels.shape == (60, 80) and labels.dtype == np.uint8
        assert labels.min() >= 1 and labels.max() <= 150, 'the server counts classes from 1'


def test_coco_test_dev(tmp_path, small):
    root = tmp_path / 'data/coco'
    metainfo = load_panoptic_metainfo('coco_panoptic')
    for split in ('train2017', 'val2017'):
        ann_file, seg = f'annotations/panoptic_{split}.json', f'annotations/panoptic_{split}'
        write_panoptic(root, metainfo, ann_file=ann_file, img=split, seg=seg, suffix='.jpg', labels=(0, 100, 1))
    write_images(root / 'test2017', ['000000000001', '000000000016'])
    images = [dict(id=number, file_name=f'{number:012}.jpg', height=60, width=80) for number in (1, 16)]
    listed = 'annotations/panoptic_image_info_test-dev2017.json'
    write_json(root / listed, dict(images=images, categories=categories_of(metainfo)))
    name = 'coco_panoptic/maskformer_swin-l-in22k-384x384-pre_64xb1-554k_coco-panoptic-test-dev.py'
    # An untrained model is not confident; thresholds of 0 keep its segments.
    more = "model['test_cfg'] = dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0))"
    config = small(name, 'panoptic_head', more)
    printed = run_tool('mmdet', 'train.py', config, '--work-dir', 'out', cwd=tmp_path)
    assert 'panoptic/PQ' in printed
    run_tool('mmdet', 'test.py', config, 'out/iter_1.pth', '--work-dir', 'out', cwd=tmp_path)
    content = json.loads((tmp_path / 'work_dirs/coco_test-dev/results.panoptic.json').read_text())
    assert [row['image_id'] for row in content['annotations']] == [1, 16]
    for row in content['annotations']:
        ids = read_ids(str(tmp_path / 'work_dirs/coco_test-dev/results.panoptic' / row['file_name']))
        assert ids.shape == (60, 80)
        assert set(np.unique(ids)) - {0} == {segment['id'] for segment in row['segments_info']} != set()
        assert {segment['category_id'] for segment in row['segments_info']} <= set(metainfo['category_ids'])


def test_ade20k_panoptic_measures_miou_against_the_label_maps(tmp_path, small):
    """The panoptic PNG files and the label maps differ on purpose; only the latter contain the only true class."""
    root = tmp_path / 'data/ade/ADEChallengeData2016'
    metainfo = load_panoptic_metainfo('ade20k_panoptic')
    for split, seg in {'training': 'ade20k_panoptic_train', 'validation': 'ade20k_panoptic_val'}.items():
        write_panoptic(root, metainfo, ann_file=f'{seg}.json', img=f'images/{split}', seg=seg, suffix='.jpg',
                       names=('p',), labels=(7, 0, 7))  # fmt: skip
    write_label_map(root / 'annotations/validation/p.png', np.full((40, 60), 150, np.uint8))
    config = small('ade20k_panoptic/maskformer_r50-6enc_8xb2-720k_ade20k-panoptic-640x640.py', 'panoptic_head')
    printed = run_tool('mmdet', 'train.py', config, '--work-dir', 'out', cwd=tmp_path)
    assert 'panoptic/PQ' in printed and 'mIoU' in printed
    accuracy = accuracies(printed)
    assert accuracy['flag'] != '-' and accuracy['bed'] == '-', 'class 149 occurs, class 7 does not'


IGNORED = {
    'ade20k_full/maskformer_r50-d32_8xb2-200k_ade20k-full-512x512.py': (
        'data/ade20k_full/images/{}',
        'data/ade20k_full/annotations/{}',
        (0, 300, 846, 65535),
    ),
    'mapillary/maskformer_r50-d32_8xb2-300k_mapillary-1280x1280.py': (
        'data/mapillary/{}/images',
        'data/mapillary/{}/labels',
        (0, 1, 64, 65),
    ),
}


@pytest.mark.parametrize('name', IGNORED)
def test_ignored_labels_other_than_255(tmp_path, small, name):
    """16-bit labels with 65535, 8-bit labels with 65: data, preprocessor, head and metric agree, or the run stops."""
    images, maps, labels = IGNORED[name]
    for split in ('training', 'validation'):
        write_images(tmp_path / images.format(split), ['a'], size=(24, 32))
        pixels = np.repeat(np.array(labels), 6)[:, None].repeat(32, 1)
        write_label_map(tmp_path / maps.format(split) / 'a.png', pixels, wide=max(labels) > 255)
    printed = run_tool('mmseg', 'train.py', small(name, 'decode_head'), '--work-dir', 'out', cwd=tmp_path)
    accuracy = accuracies(printed)
    assert len(accuracy) == max(labels[:3]) + 1
    assert sum(value != '-' for value in accuracy.values()) == 3, 'the ignored label is not measured'
