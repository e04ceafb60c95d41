"""The hook in short runs of both hosts, and its choice of images in a stand-in runner."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fresh import ROOT
from helpers.hosts import PREPROCESSOR, TINY_RESNET, detector_config, head_config
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.registry import HOOKS
from mmmaskformer.visualization.hook import DrawPredictionsHook


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('hook') / 'scenes'
    write_scenes(root, num_train=2, num_val=5)
    return root


def panoptic_model(data):
    everything = dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0))
    return detector_config(everything, num_classes=9, things=data.things)


def semantic_model(data):
    head = head_config(num_classes=data.num_classes)
    return dict(
        type='EncoderDecoder', data_preprocessor=PREPROCESSOR, backbone=TINY_RESNET, decode_head=head, train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


HOSTS = {'mmdet': ('scenes_panoptic.py', panoptic_model), 'mmseg': ('scenes.py', semantic_model)}


def make_runner(host, scenes, work_dir, **hook):
    """Two training iterations with a validation after each, and a test."""
    base, model = HOSTS[host]
    data = Config.fromfile(ROOT / 'configs/_base_/datasets' / base)
    loaders = {key: data[key] for key in ('train_dataloader', 'val_dataloader', 'test_dataloader')}
    for loader in loaders.values():
        loader.dataset.data_root = str(scenes)
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
    cfg = dict(
        default_scope=host,
        model=model(data),
        **loaders,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        val_evaluator=data.val_evaluator,
        test_evaluator=data.test_evaluator,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
        custom_hooks=[dict(type='mmmaskformer.DrawPredictionsHook', **hook)],
        visualizer=dict(type='mmengine.Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
    )
    return Runner.from_cfg(Config(cfg))


@pytest.mark.parametrize('host', HOSTS)
def test_pictures_of_training_and_test(host, scenes, tmp_path):
    runner = make_runner(host, scenes, tmp_path / f'pictures_{host}', num=3)
    runner.train()
    runner.test()
    expected = ['000000.png', '000002.png', '000004.png', 'overview.png']
    for folder, sent in (('iter_1', 'val_predictions_1'), ('iter_2', 'val_predictions_2'), ('test', 'test_*')):
        files = sorted((tmp_path / f'pictures_{host}' / 'pictures' / folder).iterdir())
        assert [file.name for file in files] == expected
        overview = np.asarray(Image.open(files[-1]))
        assert overview.shape[1] > 1000, 'three panels: the ground truth was found'
        (copy,) = (tmp_path / f'pictures_{host}').glob(f'*/vis_data/vis_image/{sent}.png')
        np.testing.assert_array_equal(np.asarray(Image.open(copy)), overview)


def test_interval_and_folder(scenes, tmp_path):
    work_dir, out_dir = tmp_path / 'interval', tmp_path / 'elsewhere'
    runner = make_runner('mmdet', scenes, work_dir, num=1, interval=2, out_dir=str(out_dir))
    runner.train()
    assert [folder.name for folder in out_dir.iterdir()] == ['iter_2']
    assert not (work_dir / 'pictures').exists()


def test_errors_of_drawing_stop_the_run(scenes, tmp_path):
    runner = make_runner('mmdet', scenes, tmp_path / 'errors', field='pred_detr_seg')
    with pytest.raises(ValueError, match='expected pred_detr_seg. Fix: .*model.test_cfg'):
        runner.val()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num=0), 'DrawPredictionsHook.num: found 0, expected a whole number of at least 1'),
        (dict(interval=0.5), 'DrawPredictionsHook.interval: found 0.5, expected a whole number'),
        (dict(field='masks'), "field: found 'masks', expected None or one of"),
    ],
)
def test_bad_arguments_raise_when_the_hook_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='mmmaskformer.DrawPredictionsHook', **settings))


class Pictures:
    """Seven images with the same size and name."""

    metainfo = dict(classes=('sky', 'sea'), palette=[[0, 0, 200], [0, 200, 0]])

    def __init__(self, path):
        self.path = str(path)
        Image.new('RGB', (3, 2)).save(self.path)

    def __len__(self):
        return 7

    def sample(self, index):
        label_map = torch.full((1, 2, 3), index % 2)
        sample = BaseDataElement(metainfo=dict(img_path=self.path, index=index))
        sample.pred_sem_seg = PixelData(data=label_map)
        return sample


def validate(hook, dataset, batch_size, tmp_path, sampler=None):
    """Call the hook as a validation loop does; returns the indices of the images that it stored."""
    loader = SimpleNamespace(dataset=dataset, sampler=sampler or DefaultSampler(dataset, shuffle=False))
    sent = []
    runner = SimpleNamespace(
        val_dataloader=loader,
        iter=5,
        work_dir=str(tmp_path),
        visualizer=SimpleNamespace(add_image=lambda *arguments: sent.append(arguments)),
    )
    hook.before_val_epoch(runner)
    indices, kept = list(loader.sampler), []
    for number, start in enumerate(range(0, len(indices), batch_size)):
        batch = indices[start : start + batch_size]
        before = len(hook._examples)
        hook.after_val_iter(runner, number, None, [dataset.sample(index) for index in batch])
        kept.append((batch, len(hook._examples) - before))
    hook.after_val_epoch(runner, {})
    return kept, sent


@pytest.mark.parametrize('batch_size', [1, 3, 7])
def test_images_are_spread_whatever_the_batch_size(batch_size, tmp_path):
    dataset = Pictures(tmp_path / 'a.png')
    kept, sent = validate(DrawPredictionsHook(num=3), dataset, batch_size, tmp_path)
    for batch, number in kept:
        assert number == len({0, 3, 6} & set(batch))
    assert [(name, step) for name, _, step in sent] == [('val_predictions', 5)]
    assert sent[0][1].dtype == np.uint8 and sent[0][1].shape[2] == 3
    assert len(list((tmp_path / 'pictures' / 'iter_5').iterdir())) == 4


def test_a_second_validation_starts_again_from_the_first_image(tmp_path):
    hook, dataset = DrawPredictionsHook(num=2), Pictures(tmp_path / 'a.png')
    first = validate(hook, dataset, 2, tmp_path)[0]
    assert validate(hook, dataset, 2, tmp_path)[0] == first
    assert hook._examples == []


def test_only_the_first_process_draws(tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    kept, sent = validate(DrawPredictionsHook(), Pictures(tmp_path / 'a.png'), 2, tmp_path)
    assert sum(number for _, number in kept) == 0
    assert sent == []
    assert not (tmp_path / 'pictures').exists()
