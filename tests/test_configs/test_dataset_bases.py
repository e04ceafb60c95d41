"""The dataset bases build, and their pipelines and loaders run on generated files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.panoptic import write_instances, write_json, write_panoptic
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATA_SAMPLERS, DATASETS, METRICS, DefaultScope
from PIL import Image

import mmmaskformer.registry  # noqa: F401
from mmmaskformer.evaluation.semantic_metric import SemanticMetric
from mmmaskformer.formats.label_maps import write_label_map
from mmmaskformer.heads.data_samples import targets_from_det_samples

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
# image size, suffixes of images and label maps, and the first class, last class and ignored label in a file
SETS = {
    'ade20k': ((72, 96), '.jpg', '.png', (1, 150, 0)),
    'ade20k_640': ((72, 96), '.jpg', '.png', (1, 150, 0)),
    'ade20k_full': ((72, 96), '.jpg', '.png', (0, 846, 65535)),
    'camvid': ((360, 480), '.jpg', '.png', (0, 10, 255)),
    'camvid_180': ((360, 480), '.jpg', '.png', (0, 10, 255)),
    'cityscapes': ((64, 128), '_leftImg8bit.png', '_gtFine_labelTrainIds.png', (0, 18, 255)),
    'cocostuff10k': ((72, 96), '.jpg', '_labelTrainIds.png', (1, 171, 0)),
    'mapillary': ((24, 32), '.jpg', '.png', (0, 64, 65)),
    'scenes': ((80, 112), '.png', '.png', (0, 8, 255)),
}
# short edges of the published views; long edges for Mapillary
VIEWS = {
    'ade20k': [256, 384, 512, 640, 768, 896],
    'ade20k_640': [320, 480, 640, 800, 960, 1120],
    'ade20k_full': [400, 500, 600, 700, 800, 900, 1000, 1100, 1200],
    'camvid': [180, 270, 360, 450, 540, 630],
    'camvid_180': [90, 135, 180, 225, 270, 315],
    'cityscapes': [512, 768, 1024, 1280, 1536, 1792],
    'cocostuff10k': [320, 480, 640, 800, 960, 1120],
    'mapillary': [768, 1536, 2304],
    'scenes': [72, 96, 128],
}
# image size and suffix, and the size of training samples, None where it varies
PANOPTIC = {
    'ade20k_panoptic': ((72, 96), '.jpg', (640, 640)),
    'camvid_panoptic': ((360, 480), '.jpg', (360, 480)),
    'cityscapes_panoptic': ((64, 128), '.png', (512, 1024)),
    'coco_panoptic': ((90, 120), '.jpg', None),
    'mapillary_panoptic': ((24, 32), '.jpg', (1280, 1280)),
    'scenes_panoptic': ((80, 112), '.png', (96, 96)),
}
KEEPS_EMPTY = {'ade20k_panoptic', 'cityscapes_panoptic', 'coco_panoptic', 'mapillary_panoptic'}
HOSTS = {'mmengine', 'mmcv', 'mmseg', 'mmmaskformer'}


@pytest.fixture(autouse=True)
def under_mmseg():
    """The default scope of the semantic runtime base, for one test."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def under_mmdet(under_mmseg):
    """The default scope of the panoptic and instance runtime, for one test."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(params=sorted(SETS))
def base(request, tmp_path) -> tuple[str, Config]:
    """Name and contents of a base whose data_root is a folder with two images per split."""
    (height, width), image_suffix, label_suffix, labels = SETS[request.param]
    config = Config.fromfile(BASES / f'{request.param}.py')
    rng = np.random.default_rng(0)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        images, maps = (tmp_path / config[loader].dataset.data_prefix[key] for key in ('img_path', 'seg_map_path'))
        for name in 'pq':
            images.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(images / f'{name}{image_suffix}')
            write_label_map(maps / f'{name}{label_suffix}', rng.choice(labels, (height, width)), wide=max(labels) > 255)
        config[loader].dataset.data_root = str(tmp_path)
    return request.param, config


def test_base_is_named_here():
    assert {path.stem for path in BASES.glob('*.py')} == {*SETS, *PANOPTIC, 'coco_instance'}


def types(node):
    """Every 'type' in a config."""
    if isinstance(node, dict):
        yield from [node['type']] if 'type' in node else []
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from types(item)


@pytest.mark.parametrize('path', sorted(BASES.glob('*.py')), ids=lambda path: path.stem)
def test_every_type_has_a_prefix(path):
    config = Config.fromfile(path)
    found = set(types(config._cfg_dict.to_dict()))
    hosts = HOSTS | {'mmdet'} if path.stem == 'coco_instance' else HOSTS
    # The hosts' inference functions look for exactly this name.
    found.remove('LoadImageFromFile')
    assert found and all(name.split('.')[0] in hosts for name in found)
    assert 'default_scope' not in config


def test_training_samples(base):
    name, config = base
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert config.num_classes == len(dataset.metainfo['classes'])
    np.random.seed(0)
    for index in range({'cityscapes': 2, 'mapillary': 1}.get(name, 4)):
        sample = dataset[index % 2]
        assert sample['inputs'].shape == (3, *config.crop_size) and sample['inputs'].dtype == torch.uint8
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.shape == (1, *config.crop_size)
        assert set(labels.unique().tolist()) == {0, config.num_classes - 1, config.get('ignore_index', 255)}


def require_test_size(config: Config, sample: dict) -> None:
    """Short and long side of a test image agree with the base."""
    short, long = sorted(sample['inputs'].shape[1:])
    if 'test_long_edge' in config:
        assert long == config.test_long_edge
    else:
        assert short == config.test_short_edge and long <= config.max_size


@pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
def test_testing_samples_keep_the_labels_of_the_file(base, loader):
    name, config = base
    (height, width) = SETS[name][0]
    sample = DATASETS.build(config[loader].dataset)[0]
    meta = sample['data_samples']
    require_test_size(config, sample)
    assert meta.ori_shape == (height, width) and meta.gt_sem_seg.data.shape == (1, height, width)
    assert meta.img_shape == tuple(sample['inputs'].shape[1:])


def test_views_for_testing(base):
    name, config = base
    dataset = config.test_dataloader.dataset
    dataset.pipeline = config.tta_pipeline
    views = DATASETS.build(dataset)[0]
    heights = [image.shape[1] for image in views['inputs']]
    assert heights == [edge for edge in VIEWS[name] for _ in range(2)]
    assert [sample.flip for sample in views['data_samples']] == [False, True] * (len(heights) // 2)
    assert {sample.ori_shape for sample in views['data_samples']} == {SETS[name][0]}
    assert torch.equal(views['inputs'][0].flip(-1), views['inputs'][1])


def test_samplers_batches_and_evaluators(base):
    _, config = base
    dataset = DATASETS.build(config.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(config.train_dataloader.sampler, default_args=dict(dataset=dataset, seed=0))
    assert type(sampler).__name__ == 'ResumableSampler' and sampler.shuffle
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert len({image.shape for image in batch['inputs']}) == 1
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.batch_size == 1
        assert not DATA_SAMPLERS.build(loader.sampler, default_args=dict(dataset=dataset)).shuffle
    for evaluator in (config.val_evaluator, config.test_evaluator):
        metric = METRICS.build(evaluator)
        assert isinstance(metric, SemanticMetric) and metric.ignore_index == dataset.ignore_index


def test_config_survives_a_dump(base):
    _, config = base
    again = Config.fromstring(config.pretty_text, '.py')
    assert again.train_dataloader == config.train_dataloader and again.tta_pipeline == config.tta_pipeline


# --- panoptic ---


@pytest.fixture(params=sorted(PANOPTIC))
def panoptic(request, tmp_path, under_mmdet) -> tuple[str, Config]:
    """Name and contents of a panoptic base whose data_root is a folder with two images per split."""
    size, suffix, _ = PANOPTIC[request.param]
    config = Config.fromfile(BASES / f'{request.param}.py')
    stuff = next(label for label in range(config.num_classes) if label not in config.things)
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = config[loader].dataset
        if 'labels' in dataset.data_prefix:
            for name in 'pq':
                write_label_map(tmp_path / dataset.data_prefix.labels / f'{name}.png', np.ones(size, np.uint8))
        write_panoptic(
            tmp_path,
            DATASETS.get(dataset.type).METAINFO,
            ann_file=dataset.ann_file,
            img=dataset.data_prefix.img,
            seg=dataset.data_prefix.seg,
            suffix=suffix,
            size=size,
            labels=(config.things[0], stuff, config.things[-1]),
        )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[loader].dataset.data_root = str(tmp_path)
    return request.param, config


def test_panoptic_classes_and_things(panoptic):
    _, config = panoptic
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        metainfo = DATASETS.build(config[loader].dataset).metainfo
        assert config.num_classes == len(metainfo['classes'])
        assert config.things == [label for label, isthing in enumerate(metainfo['isthing']) if isthing]


def test_panoptic_training_samples(panoptic):
    name, config = panoptic
    dataset = DATASETS.build(config.train_dataloader.dataset)
    expected = tuple(dataset.get_cat_ids(0))
    np.random.seed(0)
    for index in range(2 if 'mapillary' in name or 'cityscapes' in name else 8):
        sample = dataset[index % 2]
        size = tuple(sample['inputs'].shape[1:])
        assert sample['inputs'].dtype == torch.uint8 and size == (PANOPTIC[name][2] or size)
        meta, truth = sample['data_samples'], sample['data_samples'].gt_panoptic_seg
        assert truth.segment_map.shape == (1, *size) and truth.segment_map.dtype == torch.int16
        assert meta.img_shape == size and meta.img_id in (1, 2) and 'flip' in meta
        seen = set(truth.segment_map.unique().tolist()) - {-1}
        if name in KEEPS_EMPTY:
            # as published, segments outside the crop are kept
            assert truth.labels == expected and seen <= {0, 1, 2}
        else:
            assert set(truth.labels) <= set(expected) and seen == set(range(len(truth.labels)))
    batch = pseudo_collate([dataset[0], dataset[1]])
    (first, _) = targets_from_det_samples(
        batch['data_samples'],
        is_thing=torch.tensor(dataset.metainfo['isthing']),
        input_size=(1400, 1400),
        device=torch.device('cpu'),
    )
    assert first.segment_map.shape == (1400, 1400)


def test_panoptic_testing_samples_keep_the_segments_of_the_file(panoptic):
    name, config = panoptic
    height, width = PANOPTIC[name][0]
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.batch_size == 1 and loader.dataset.test_mode
        sample = DATASETS.build(loader.dataset)[1]
        meta = sample['data_samples']
        require_test_size(config, sample)
        assert meta.ori_shape == (height, width) and meta.img_shape == tuple(sample['inputs'].shape[1:])
        segments = meta.gt_panoptic_seg.segment_map[0]
        areas = [int((segments == index).sum()) for index in range(3)]
        assert areas == [info['area'] for info in meta.segments_info[:3]] and segments.shape == (height, width)
        assert (segments[-2:] == -1).all()


def test_panoptic_config_survives_a_dump(panoptic):
    name, config = panoptic
    again = Config.fromstring(config.pretty_text, '.py')
    assert again.train_dataloader == config.train_dataloader
    also = dict(listed_areas=True, also=[dict(type='mmmaskformer.SemanticMetric')]) if name == 'ade20k_panoptic' else {}
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert evaluator == dict(type='mmmaskformer.PanopticMetric', **also)


def test_listed_segments_without_pixels_are_learnt_as_empty_ones(panoptic, tmp_path):
    """As published; checked from the file to the targets."""
    name, config = panoptic
    file = tmp_path / config.train_dataloader.dataset.ann_file
    content = json.loads(file.read_text())
    hidden = dict(content['annotations'][0]['segments_info'][0], id=77, area=5)
    content['annotations'][0]['segments_info'].append(hidden)
    write_json(file, content)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    np.random.seed(0)
    truth = dataset[0]['data_samples'].gt_panoptic_seg
    if name in KEEPS_EMPTY:
        assert len(truth.labels) == 4 and truth.labels[3] == truth.labels[0]
        assert 3 not in truth.segment_map.unique().tolist()
    else:
        assert len(truth.labels) == len(set(truth.segment_map.unique().tolist()) - {-1}) <= 3


# --- instances, with the host's dataset and transforms ---


@pytest.fixture
def instance(tmp_path, under_mmdet) -> Config:
    """The instance base with a data_root of one image per split."""
    from mmdet.datasets import CocoDataset

    config = Config.fromfile(BASES / 'coco_instance.py')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        write_instances(tmp_path, CocoDataset.METAINFO['classes'], ann_file=dataset.ann_file,
                        **dataset.data_prefix, size=(90, 120))  # fmt: skip
        dataset.data_root = str(tmp_path)
    config.val_evaluator.ann_file = str(tmp_path / config.val_dataloader.dataset.ann_file)
    return config


def test_instance_training_samples(instance):
    dataset = DATASETS.build(instance.train_dataloader.dataset)
    assert len(dataset.metainfo['classes']) == instance.num_classes and instance.things == list(range(80))
    np.random.seed(0)
    seen = set()
    for _ in range(8):
        sample = dataset[0]
        height, width = sample['inputs'].shape[1:]
        size = (-(-height // 32) * 32, -(-width // 32) * 32)
        (target,) = targets_from_det_samples(
            [sample['data_samples']], is_thing=torch.ones(80, dtype=bool), input_size=size, device=torch.device('cpu')
        )
        # the crowd is dropped, the rectangles overlap, padding belongs to no instance
        assert target.labels.tolist() == [0, 79]
        assert (target.masks.sum(0) == 2).float().mean() > 0.1
        shown = sample['inputs'].flip(0)[:2] > 127
        assert (target.masks[:, :height, :width] != shown).float().mean() < 0.01
        assert not target.masks[:, height:].any() and not target.masks[:, :, width:].any()
        seen.add((height, width, sample['data_samples'].flip))
    assert len(seen) > 5


def test_instance_scores(instance):
    """Using the ground truth as prediction scores 1 in the host's metric, at the size of the file."""
    dataset = DATASETS.build(instance.val_dataloader.dataset)
    sample = dataset[0]
    meta = sample['data_samples']
    assert meta.ori_shape == (90, 120) and tuple(sample['inputs'].shape[1:]) == (800, 1067)
    masks = torch.zeros(2, 90, 120, dtype=bool)
    masks[0, :, :80], masks[1, :, 40:] = True, True
    instances = dict(masks=masks, labels=torch.tensor([0, 79]), scores=torch.tensor([0.9, 0.8]),
                     bboxes=torch.tensor([[0.0, 0, 80, 90], [40, 0, 120, 90]]))  # fmt: skip
    metric = METRICS.build(instance.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [dict(meta.metainfo, pred_instances=instances)])
    assert metric.evaluate(1)['coco/segm_mAP'] == pytest.approx(1.0)
