"""The README's config works as printed, and the files it names exist."""

import re
from pathlib import Path

import numpy as np
from helpers.panoptic import write_panoptic
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_links_and_paths_exist():
    named = re.findall(r'\]\(([^)#]+)\)', README)
    named += re.findall(r'(?:bash|python) (tools/\S+\.(?:sh|py))', README)
    named += re.findall(r'(?<![\w/])(configs/\S+?\.py)', README)
    missing = [path for path in named if not path.startswith('http') and not (ROOT / path).exists()]
    assert not missing


def test_custom_data_example(tmp_path, monkeypatch):
    block = next(code for code in re.findall(r'```python\n(.*?)```', README, re.S) if '# my_config.py' in code)
    block = block.replace('./mmmaskformer/configs', str(ROOT / 'configs'))
    (tmp_path / 'my_config.py').write_text(block)
    for split in ('train', 'val'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data/plants' / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / f'data/plants/images/{split}/a.jpg')
        labels = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
        Image.fromarray(labels).save(tmp_path / f'data/plants/annotations/{split}/a.png')
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile('my_config.py')
    init_default_scope('mmseg')
    assert config.model.decode_head.num_classes == 3
    train = DATASETS.build(config.train_dataloader.dataset)[0]
    assert tuple(train['inputs'].shape) == (3, 512, 512)
    assert set(train['data_samples'].gt_sem_seg.data.unique().tolist()) <= {0, 1, 2, 255}
    test = DATASETS.build(config.test_dataloader.dataset)[0]
    assert test['data_samples'].ori_shape == (40, 60) and test['inputs'].shape[1:] == (512, 768)


def test_custom_panoptic_data_example(tmp_path, monkeypatch):
    block = next(code for code in re.findall(r'```python\n(.*?)```', README, re.S) if '# my_panoptic_config.py' in code)
    (tmp_path / 'my_config.py').write_text(block.replace('./mmmaskformer/configs', str(ROOT / 'configs')))
    meta = dict(classes=('ground', 'leaf', 'stem'), isthing=(False, True, True), category_ids=(7, 3, 5))
    for split in ('train', 'val'):
        write_panoptic(
            tmp_path / 'data/plants', meta, ann_file=f'panoptic_{split}.json', img=f'images/{split}',
            seg=f'panoptic_{split}', labels=(0, 1, 1, 2),
        )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile('my_config.py')
    init_default_scope('mmdet')
    assert config.model.panoptic_head.num_classes == config.model.panoptic_fusion_head.num_classes == 3
    train = DATASETS.build(config.train_dataloader.dataset)[0]
    assert tuple(train['inputs'].shape) == (3, 640, 640)
    assert train['data_samples'].gt_panoptic_seg.labels == (0, 1, 1, 2)
    test = DATASETS.build(config.test_dataloader.dataset)[0]
    assert test['data_samples'].ori_shape == (40, 60) and test['inputs'].shape[1:] == (640, 960)
