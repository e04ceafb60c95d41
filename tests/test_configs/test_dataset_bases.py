"""The dataset bases: each builds, and its pipelines and loaders run on invented files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS, DATASETS, METRICS, DefaultScope
from PIL import Image

import mmmaskformer.registry  # noqa: F401

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
# image size, suffix, sub-folders of each loader, and the labels in a file
SETS = {
    'ade20k_512': ((72, 96), '.jpg', ('training', 'validation', 'validation'), (0, 1, 150)),
    'camvid': ((360, 480), '.jpg', ('train', 'val', 'test'), (0, 10, 255)),
    'scenes': ((80, 112), '.png', ('train', 'val', 'val'), (0, 8, 255)),
}


@pytest.fixture(autouse=True)
def under_mmseg():
    """The default scope of the runtime base, for one test."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(params=sorted(SETS))
def base(request, tmp_path) -> tuple[str, Config]:
    """Name and content of a base, its data_root moved to a folder with two images in each split."""
    (height, width), suffix, splits, labels = SETS[request.param]
    rng = np.random.default_rng(0)
    for split in set(splits):
        for kind in ('images', 'annotations'):
            (tmp_path / kind / split).mkdir(parents=True)
        for name in 'pq':
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / 'images' / split / f'{name}{suffix}')
            mask = rng.choice(np.array(labels, np.uint8), (height, width))
            Image.fromarray(mask).save(tmp_path / 'annotations' / split / f'{name}.png')
    config = Config.fromfile(BASES / f'{request.param}.py')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[loader].dataset.data_root = str(tmp_path)
    return request.param, config


def test_base_is_named_here():
    assert {path.stem for path in BASES.glob('*.py')} >= set(SETS)


def test_every_type_has_a_prefix(base):
    def types(node):
        if isinstance(node, dict):
            yield from [node['type']] if 'type' in node else []
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for item in node:
                yield from types(item)

    found = set(types(base[1]._cfg_dict.to_dict()))
    assert found and all(name.split('.')[0] in {'mmengine', 'mmcv', 'mmseg', 'mmmaskformer'} for name in found)
    assert 'default_scope' not in base[1]


def test_training_samples(base):
    name, config = base
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert config.num_classes == len(dataset.metainfo['classes'])
    np.random.seed(0)
    for index in range(6):
        sample = dataset[index % 2]
        assert sample['inputs'].shape == (3, *config.crop_size) and sample['inputs'].dtype == torch.uint8
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.shape == (1, *config.crop_size)
        assert set(labels.unique().tolist()) <= set(range(config.num_classes)) | {255}
        if name == 'ade20k_512':
            # 0 is the background there, 150 the last class
            assert set(labels.unique().tolist()) <= {0, 149, 255}


@pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
def test_testing_samples_keep_the_labels_of_the_file(base, loader):
    name, config = base
    (height, width) = SETS[name][0]
    sample = DATASETS.build(config[loader].dataset)[0]
    meta = sample['data_samples']
    short, long = sorted(sample['inputs'].shape[1:])
    assert short == config.test_short_edge and long <= config.max_size
    assert meta.ori_shape == (height, width) and meta.gt_sem_seg.data.shape == (1, height, width)
    assert meta.img_shape == tuple(sample['inputs'].shape[1:])


def test_views_for_testing(base):
    name, config = base
    dataset = config.test_dataloader.dataset
    dataset.pipeline = config.tta_pipeline
    views = DATASETS.build(dataset)[0]
    heights = [image.shape[1] for image in views['inputs']]
    edges = {'ade20k_512': [256, 384, 512, 640, 768, 896], 'camvid': [180, 270, 360, 450, 540, 630]}
    assert heights == [edge for edge in edges.get(name, [72, 96, 128]) for _ in range(2)]
    assert [sample.flip for sample in views['data_samples']] == [False, True] * (len(heights) // 2)
    assert {sample.ori_shape for sample in views['data_samples']} == {SETS[name][0]}
    assert torch.equal(views['inputs'][0].flip(-1), views['inputs'][1])


def test_samplers_batches_and_evaluators(base):
    _, config = base
    dataset = DATASETS.build(config.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(config.train_dataloader.sampler, default_args=dict(dataset=dataset, seed=0))
    assert type(sampler).__name__ == 'InfiniteSampler' and sampler.shuffle
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert len({image.shape for image in batch['inputs']}) == 1
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.batch_size == 1
        assert not DATA_SAMPLERS.build(loader.sampler, default_args=dict(dataset=dataset)).shuffle
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert METRICS.build(evaluator).metrics == ['mIoU']


def test_config_survives_a_dump(base):
    _, config = base
    again = Config.fromstring(config.pretty_text, '.py')
    assert again.train_dataloader == config.train_dataloader and again.tta_pipeline == config.tta_pipeline


def test_ade20k_is_the_published_recipe():
    config = Config.fromfile(BASES / 'ade20k_512.py')
    names = [step['type'].split('.')[1] for step in config.train_pipeline]
    assert names == ['LoadImageFromFile', 'LoadSegAnnotations', 'ResizeShortestEdge', 'RandomCrop', 'ColorJitterSSD',
                     'RandomFlip', 'PadToSize', 'PackSegInputs']  # fmt: skip
    resize = config.train_pipeline[2]
    assert resize.short_edge == [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024]
    assert resize.max_size == 2048 and config.train_pipeline[3].crop_size == (512, 512)
    assert config.train_pipeline[5].prob == 0.5
    assert config.train_pipeline[6].size == (512, 512) and config.train_pipeline[6].image_value == 128
    assert config.tta_pipeline[1] == dict(type='mmmaskformer.ResizeShortestEdge', short_edge=512, max_size=2048)
    assert {step.max_size for step in config.tta_pipeline[2].transforms[0]} == {3584}
    assert config.train_dataloader.batch_size * 8 == 16
