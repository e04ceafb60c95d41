"""The hook that checks the data in a run of a shipped config, and its names of result files."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.runs import write_config
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.evaluation import PanopticMetric, SemanticMetric
from mmmaskformer.hosts.data_check import CheckDataHook, name_results

CLASSES = ('ground', 'object')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Synthetic scenes, and masks of 0 and 255 in two folders with the same file names."""
    root = tmp_path_factory.mktemp('data')
    write_scenes(root / 'scenes', num_train=2, num_val=1)
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:40] = 255
    for folder in ('north', 'south'):
        for kind, pixels in (('images', np.stack([mask] * 3, -1)), ('labels', mask)):
            (root / kind / folder).mkdir(parents=True)
            Image.fromarray(pixels).save(root / kind / folder / '0.png')
    return root


@pytest.fixture
def config(root, tmp_path):
    """A toy version of a shipped config for the masks."""
    config = Config.fromfile(write_config(tmp_path / 'config.py', root / 'scenes', iters=1))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[key].dataset.update(
            type='mmmaskformer.MaskFormerSegDataset',
            data_root=str(root),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            img_suffix='.png',
            metainfo=dict(classes=CLASSES),
        )
    config.model.decode_head.num_classes = 2
    config.work_dir = str(tmp_path / 'run')
    config.default_hooks.checkpoint.save_best = None
    init_default_scope('mmseg')
    return config


def log_of(config) -> list[str]:
    return next(Path(config.work_dir).rglob('*.log')).read_text().splitlines()


def test_training_reports_classes_that_train_and_validation_lack(config):
    Runner.from_cfg(config).train()
    lines = [line for line in log_of(config) if 'WARNING' in line and '255' in line]
    for where in ('train_dataloader', 'val_dataloader'):
        [line] = [line for line in lines if where in line]
        assert "MaskFormerSegDataset: all 2 label maps: 1 of 2 classes have no pixel: 1 'object'; 25.0% of" in line


def test_results_keep_the_folders(config, tmp_path):
    config.test_evaluator.update(output_dir=str(tmp_path / 'out'))
    Runner.from_cfg(config).test()
    assert sorted(str(file.relative_to(tmp_path / 'out')) for file in (tmp_path / 'out').rglob('*.png')) == [
        'north/0.png',
        'south/0.png',
    ]
    assert cv2.imread(str(tmp_path / 'out/north/0.png'), cv2.IMREAD_UNCHANGED).shape == (64, 64)


@pytest.mark.parametrize('stage', ['train', 'test'])
def test_windows_with_gaps_end_the_run_at_the_start(config, stage):
    config.model.type = 'EncoderDecoder'
    config.model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(48, 48))
    with pytest.raises(ValueError, match='a stride larger than the window'):
        getattr(Runner.from_cfg(config), stage)()


class Images:
    """A dataset of paths."""

    data_prefix = dict(img='data')

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=self.paths[index])


def test_images_of_one_name_in_one_folder_are_refused(tmp_path):
    images = Images('data/a/0.jpg', 'data/b/0.jpg', 'data/a/0.png')
    metric = SemanticMetric(output_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r'data/a/0\.jpg and data/a/0\.png to the same file, a/0\.png'):
        name_results(images, [metric])
    name_results(images, [SemanticMetric()])


def test_metrics_that_write_the_same_files_are_refused_before_the_test(tmp_path):
    images = Images('data/a/0.jpg', 'data/b/0.jpg')
    host = SimpleNamespace(output_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r'to the same file, 0\.png\. Fix: .*mmmaskformer\.SemanticMetric and'):
        name_results(images, [host])
    host_panoptic = SimpleNamespace(tmp_dir=None, seg_out_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r'to the same file, 0\.png\. Fix: .*mmmaskformer\.PanopticMetric keep'):
        name_results(images, [host_panoptic])
    name_results(images, [SimpleNamespace(tmp_dir=tmp_path, seg_out_dir=str(tmp_path))])  # compares at once
    name_results(images, [PanopticMetric(outfile_prefix=str(tmp_path / 'result'))])  # keeps the folders itself
    name_results(Images('data/a/0.jpg', 'data/b/1.jpg'), [host])


def test_results_that_would_replace_files_of_the_data_are_refused(root, config, tmp_path):
    for folder in ('labels', 'images'):
        config.test_evaluator.output_dir = f'{root}/{folder}/'
        with pytest.raises(
            ValueError, match=rf'to {root}/{folder}/north/0\.png, which is a file of the dataset. Fix: '
        ):
            Runner.from_cfg(config).test()
        config.experiment_name = tmp_path.name + folder


def test_each_loader_is_inspected_once(monkeypatch):
    seen = []
    monkeypatch.setattr('mmmaskformer.hosts.data_check.inspect_data', lambda dataset: seen.append(dataset) or [])
    loader = SimpleNamespace(dataset=Images())
    runner = SimpleNamespace(
        val_dataloader=loader, val_evaluator=SimpleNamespace(metrics=[]), model=SimpleNamespace(test_cfg=None)
    )
    hook = CheckDataHook()
    hook.before_val(runner)
    hook.before_val(runner)
    assert len(seen) == 1
    monkeypatch.setattr('mmmaskformer.hosts.data_check.is_main_process', lambda: False)
    CheckDataHook().before_val(runner)
    assert len(seen) == 1
