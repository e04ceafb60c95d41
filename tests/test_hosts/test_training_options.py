"""Options of a training run, as documented by the hosts: script flags, hooks, dataset wrappers, metrics.

The hosts' own train.py runs in this process, unmodified, on toy versions of shipped configs.
"""

import json
import math
import re
import runpy
import sys
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.panoptic import write_instances
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, DefaultScope
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmmaskformer.apis.scripts import host_script
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.scenes.files import write_scenes

CONFIGS = runs.ROOT / 'configs'
SHIPPED = sorted(path for path in CONFIGS.rglob('*_*xb*.py') if '_base_' not in path.parts)
HOSTS = {'semantic': 'mmseg', 'panoptic': 'mmdet', 'instance': 'mmdet'}
KINDS = list(HOSTS)
SCORES = {'semantic': 'mIoU', 'panoptic': 'panoptic/PQ', 'instance': 'coco/segm_mAP'}

# A small version of the shipped instance config.
INSTANCE = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        _delete_=True, type='ResNet', depth=18, base_channels=4, stem_channels=8, norm_cfg=dict(type='BN')
    ),
    panoptic_head=dict(
        in_channels=[4, 8, 16, 32], channels=16, num_queries=10, num_classes=2, things=[0, 1],
        pixel_decoder=dict(norm_groups=4, num_layers=1, num_heads=2, ffn_channels=16),
        transformer_decoder=dict(num_layers=2, num_heads=2, ffn_channels=16),
    ),
)
data = dict(
    data_root={data!r}, ann_file='instances.json', data_prefix=dict(img='images'),
    metainfo=dict(classes=('person', 'bicycle')),
)
load = [dict(type='mmcv.LoadImageFromFile'), dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)]
pack = dict(type='mmdet.PackDetInputs')
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(**data, pipeline=[*load, dict(type='mmdet.RandomFlip', prob=0.5), pack]),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(**data, pipeline=[load[0], pack])
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={data!r} + '/instances.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
custom_hooks = _base_.custom_hooks + {hooks!r}
"""


@HOOKS.register_module()
class KeepRunnerHook(Hook):
    """Gives a test access to the runner that a host's script builds."""

    runners: list = []

    def before_train(self, runner) -> None:
        KeepRunnerHook.runners[:] = [runner]


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('data')
    write_scenes(root / 'scenes', 4, 2)
    write_instances(root / 'coco', ('person', 'bicycle'), ann_file='instances.json', img='images', size=(64, 96))
    return dict(semantic=root / 'scenes', panoptic=root / 'scenes', instance=root / 'coco')


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    """Runs the host's training script on a toy version of a shipped config; returns the runner."""
    monkeypatch.chdir(tmp_path)
    # These take most of the time of such a short run: formatting of dumped configs, description of the machine.
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)

    def run(kind: str, *flags: str, name: str = 'toy', iters: int = 2, hooks=(), more: str = ''):
        path, hooks = tmp_path / f'{kind}_{name}.py', [*hooks, dict(type='KeepRunnerHook')]
        # mmengine names runs by the second and keeps the default scope of each name for the lifetime of the process.
        more += f"\nexperiment_name = '{uuid.uuid4().hex}'\n"
        if kind == 'instance':
            base = str(CONFIGS / 'coco_instance/maskformer_r50-6enc_64xb1-554k_coco-instance.py')
            path.write_text(INSTANCE.format(base=base, data=str(data[kind]), iters=iters, hooks=hooks) + more)
        else:
            runs.write_config(path, data[kind], panoptic=kind == 'panoptic', iters=iters, hooks=hooks, more=more)
        for host in (SegLocalVisualizer, DetLocalVisualizer):  # a process has one instance per class and name
            for visualizer in (host, *host.__subclasses__()):
                visualizer._instance_dict.clear()
        script = str(host_script(HOSTS[kind], 'train.py'))
        monkeypatch.setattr(sys, 'argv', [script, str(path), '--work-dir', str(tmp_path / kind), *flags])
        with DefaultScope.overwrite_default_scope(None):
            runpy.run_path(script, run_name='__main__')
        return KeepRunnerHook.runners[-1]

    return run


def rates(runner) -> set[float]:
    return {group['initial_lr'] for group in runner.optim_wrapper.optimizer.param_groups}


# --- flags ---


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_states_the_batch_of_its_learning_rate(path):
    config = Config.fromfile(path)
    gpus, per_gpu = map(int, re.search(r'_(\d+)xb(\d+)-', path.name).groups())
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=gpus * per_gpu)
    assert config.train_dataloader.batch_size == per_gpu


def test_a_smaller_batch_in_a_custom_config_keeps_the_base_batch(data, tmp_path):
    config = Config.fromfile(runs.write_config(tmp_path / 'toy.py', data['semantic']))
    assert config.train_dataloader.batch_size == 2 and config.auto_scale_lr.base_batch_size == 8


@pytest.mark.parametrize('kind', KINDS)
def test_flags_and_resume(train, kind, tmp_path):
    scale = ['--cfg-options', 'auto_scale_lr.enable=True'] if kind == 'semantic' else ['--auto-scale-lr']
    runner = train(kind, '--amp', *scale)
    assert type(runner.optim_wrapper).__name__ == 'BFloat16OptimWrapper' and runner.iter == 2
    full, base = {'semantic': ({1e-3}, 8), 'panoptic': ({1e-3}, 4), 'instance': ({1e-4, 1e-5}, 64)}[kind]
    assert sorted(rates(runner)) == pytest.approx(sorted(lr * 2 / base for lr in full))
    logged = runs.losses(tmp_path / kind)
    assert set(logged) == {1, 2} and all(math.isfinite(row['loss']) for row in logged.values())

    resumed = train(kind, '--resume', name='longer', iters=4)
    assert resumed.iter == 4 and set(runs.losses(tmp_path / kind)) == {1, 2, 3, 4}
    # MMSegmentation's --resume takes no path: it resumes load_from.
    path = str(tmp_path / kind / 'iter_2.pth')
    flags = ['--resume', '--cfg-options', f'load_from={path}'] if kind == 'semantic' else ['--resume', path]
    named = train(kind, *flags, name='named', iters=3)
    assert named.iter == 3 and named.message_hub.get_info('iter') == 2


def test_mmsegmentation_has_no_flag_for_the_learning_rate(train, capsys):
    with pytest.raises(SystemExit):
        train('semantic', '--auto-scale-lr')
    assert 'unrecognized arguments: --auto-scale-lr' in capsys.readouterr().err


# --- hooks and gradient accumulation ---


@pytest.mark.parametrize('kind', KINDS)
def test_averaged_weights(train, kind, tmp_path):
    hook = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.5)
    train(kind, hooks=[hook])
    checkpoint = torch.load(tmp_path / kind / 'iter_2.pth', weights_only=False)
    averaged = {key.removeprefix('module.'): value for key, value in checkpoint['ema_state_dict'].items()}
    del averaged['steps']
    assert set(averaged) == set(checkpoint['state_dict'])
    differing = [key for key, value in checkpoint['state_dict'].items() if not torch.equal(value, averaged[key])]
    assert any('classifier' in key for key in differing) and any('backbone' in key for key in differing)
    assert train(kind, '--resume', name='longer', iters=3, hooks=[hook]).iter == 3


@pytest.mark.parametrize('kind', KINDS)
def test_early_stopping(train, kind):
    hook = dict(type='EarlyStoppingHook', monitor=SCORES[kind], rule='greater', min_delta=1000, patience=1)
    runner = train(kind, iters=9, hooks=[hook], more="\ntrain_cfg['val_interval'] = 1\n")
    assert runner.iter == 2 and runner.train_loop.stop_training


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_are_accumulated(train, kind):
    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(torch.cat([weight.detach().flatten().clone() for weight in runner.model.parameters()]))

    seen = []
    HOOKS.register_module(name='WatchWeightsHook', module=Watch, force=True)
    hooks = [dict(type='WatchWeightsHook')]
    train(kind, iters=4, hooks=hooks, more="\noptim_wrapper = dict(accumulative_counts=2)\nval_cfg = None\n"
          "val_dataloader = val_evaluator = None\ndefault_hooks['checkpoint'] = dict(save_best=None)\n")  # fmt: skip
    same = [torch.equal(before, after) for before, after in zip(seen, seen[1:], strict=False)]
    assert same == [False, True, False] or same == [True, False, True]


# --- dataset wrappers ---


def wrapped(kind: str, template: str, root: Path) -> str:
    """Config lines that put the config's training dataset into wrappers; ``DATA`` stands for it."""
    inner = {
        'semantic': 'dict(_base_.train_dataloader.dataset, data_root={root!r})',
        'panoptic': 'dict(_base_.train_dataloader.dataset, data_root={root!r})',
        'instance': 'dict(_base_.train_dataloader.dataset, **data, pipeline=[*load, pack])',
    }[kind].format(root=str(root))
    return f"\ntrain_dataloader['dataset'] = dict(_delete_=True, **{template.replace('DATA', inner)})\n"


ALL_WRAPPERS = """dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
    dict(type='ClassBalancedDataset', oversample_thr=1e-9, dataset=DATA),
    dict(type='mmengine.ConcatDataset', datasets=[DATA, dict(type='RepeatDataset', times=3, dataset=DATA)]),
]))"""


@pytest.mark.parametrize('kind', KINDS)
def test_wrapped_datasets_train(train, data, kind):
    runner = train(kind, iters=1, more=wrapped(kind, ALL_WRAPPERS, data[kind]))
    assert runner.iter == 1
    assert len(runner.train_dataloader.dataset) == 2 * (1 + 1 + 3) * (1 if kind == 'instance' else 4)


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
def test_wrappers_do_not_hide_a_wrong_class_count(train, data, kind):
    head = 'decode_head' if kind == 'semantic' else 'panoptic_head'
    more = wrapped(kind, ALL_WRAPPERS, data[kind])
    with pytest.raises(ValueError, match=rf'train_dataloader: Scenes\w*Dataset has 9 classes, .*{head}.num_classes=4'):
        train(kind, '--cfg-options', f'model.{head}.num_classes=4', *(
            ['model.panoptic_head.things=[1]'] if kind == 'panoptic' else []), iters=1, more=more)  # fmt: skip


def build(scope: str, config: dict):
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(config)


def semantic_set(root: Path, **options) -> dict:
    folders = dict(img_path='images/train', seg_map_path='annotations/train')
    return dict(type='mmmaskformer.ScenesDataset', data_root=str(root), data_prefix=folders) | options


def panoptic_set(root: Path, ann_file: str = 'panoptic_train.json', **options) -> dict:
    folders = dict(img='images/train', seg='panoptic_train')
    files = dict(data_root=str(root), ann_file=ann_file, data_prefix=folders)
    return dict(type='mmmaskformer.PanopticDataset', **files) | options


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
def test_images_with_rare_classes_are_repeated(data, kind):
    root = data[kind]
    if kind == 'semantic':
        inner = semantic_set(root)
        maps = [np.array(Image.open(file)) for file in sorted((root / 'annotations/train').iterdir())]
        present = [set(np.unique(labels).tolist()) - {255} for labels in maps]
    else:
        inner = panoptic_set(root, type='mmmaskformer.ScenesPanopticDataset')
        entries = json.loads((root / 'panoptic_train.json').read_text())['annotations']
        present = [{segment['category_id'] - 1 for segment in entry['segments_info']} for entry in entries]
    share = Counter(label for labels in present for label in labels)
    for threshold in (0.4, 1.0, 2.0):
        dataset = build(HOSTS[kind], dict(type='ClassBalancedDataset', oversample_thr=threshold, dataset=inner))
        of_label = {label: max(1, math.sqrt(threshold * len(present) / count)) for label, count in share.items()}
        factors = [math.ceil(max(of_label[label] for label in labels)) for labels in present]
        expected = [index for index, factor in enumerate(factors) for _ in range(factor)]
        assert dataset.repeat_indices == expected
    assert len(expected) > len(present)
    assert [set(dataset.dataset.get_cat_ids(index)) for index in range(len(present))] == present


def test_ignored_and_left_out_labels_are_not_classes(data):
    classes = build('mmseg', semantic_set(data['semantic'])).metainfo['classes']
    some = build('mmseg', semantic_set(data['semantic'], metainfo=dict(classes=classes[2:4])))
    everything = build('mmseg', semantic_set(data['semantic']))
    for index in range(len(some)):
        expected = [label - 2 for label in everything.get_cat_ids(index) if label in (2, 3)]
        assert some.get_cat_ids(index) == expected


def renumbered(root: Path) -> str:
    """A second annotation file with the same classes, with other category ids in another order."""
    content = json.loads((root / 'panoptic_train.json').read_text())
    for segment in (segment for entry in content['annotations'] for segment in entry['segments_info']):
        segment['category_id'] = 900 - 7 * segment['category_id']
    for category in content['categories']:
        category['id'] = 900 - 7 * category['id']
    (root / 'renumbered.json').write_text(json.dumps(content))
    return 'renumbered.json'


@pytest.mark.parametrize('type_', ['mmengine.ConcatDataset', 'mmdet.ConcatDataset'])
def test_files_with_other_category_ids_are_concatenated(data, type_):
    root = data['panoptic']
    classes = {key: scenes.METAINFO[key] for key in ('classes', 'isthing')}
    steps = [dict(type='mmcv.LoadImageFromFile'), dict(type='mmmaskformer.LoadPanopticAnnotations')]
    options = dict(metainfo=classes, pipeline=[*steps, dict(type='mmmaskformer.PackPanopticInputs')])
    parts = [panoptic_set(root, **options), panoptic_set(root, renumbered(root), **options)]
    dataset = build('mmdet', dict(type=type_, datasets=parts))
    assert dataset.metainfo['classes'] == scenes.METAINFO['classes']
    for index in range(4):
        first, second = (dataset[number]['data_samples'].gt_panoptic_seg for number in (index, index + 4))
        assert first.labels == second.labels and torch.equal(first.segment_map, second.segment_map)


def test_concatenated_datasets_of_other_classes_are_refused(data, train):
    root = data['panoptic']
    reverse = {key: scenes.METAINFO[key][::-1] for key in ('classes', 'isthing')}
    parts = f"""dict(type='mmdet.ConcatDataset', datasets=[
        DATA, dict(DATA, type='mmmaskformer.PanopticDataset', metainfo={reverse!r})])"""
    with pytest.raises(ValueError, match="train_dataloader: the concatenated datasets disagree on 'classes'"):
        train('panoptic', iters=1, more=wrapped('panoptic', parts, root))
    swapped = {'classes': scenes.METAINFO['classes'][::-1]}
    parts = f"dict(type='ConcatDataset', datasets=[DATA, dict(DATA, metainfo={swapped!r})])"
    # mmengine compares all meta information, in no fixed order; our hook finds what it misses.
    with pytest.raises((ValueError, TypeError), match='the 2-th dataset|the concatenated datasets disagree'):
        train('semantic', iters=1, more=wrapped('semantic', parts, root))


# --- mixing several images ---


def mixed(inner: str, steps: str) -> str:
    return f"dict(type='MultiImageMixDataset', dataset={inner}, pipeline={steps})"


LOAD_SEMANTIC = "[dict(type='mmcv.LoadImageFromFile'), dict(type='mmmaskformer.LoadSegAnnotations')]"
LOAD_PANOPTIC = LOAD_SEMANTIC.replace('LoadSeg', 'LoadPanoptic')


def test_mosaics_of_images_and_label_maps_train(train, data):
    inner = f'dict(DATA, pipeline={LOAD_SEMANTIC})'
    steps = """[
        dict(type='RandomMosaic', prob=1.0, img_scale=(48, 64)), dict(type='RandomFlip', prob=0.5),
        dict(type='mmmaskformer.PadToSize', size=(96, 128)), dict(type='PackSegInputs')]"""
    runner = train('semantic', iters=1, more=wrapped('semantic', mixed(inner, steps), data['semantic']))
    sample = runner.train_dataloader.dataset[0]
    assert sample['inputs'].shape[1:] == sample['data_samples'].gt_sem_seg.shape == (96, 128)


def test_mosaics_of_instances_train(train, data):
    steps = """[*load, dict(type='CachedMosaic', img_scale=(64, 64), max_cached_images=5, random_pop=False),
        dict(type='CachedMixUp', img_scale=(64, 64), max_cached_images=5, random_pop=False), pack]"""
    more = wrapped(
        'instance', f"dict(type='RepeatDataset', times=9, dataset=dict(DATA, pipeline={steps}))", data['instance']
    )
    runner = train('instance', iters=3, more=more)
    sample = runner.train_dataloader.dataset[0]
    assert len(sample['data_samples'].gt_instances) > 3
    assert sample['data_samples'].gt_instances.masks.masks.shape[1:] == sample['inputs'].shape[1:]


@pytest.mark.parametrize('kind', KINDS)
def test_mixing_that_does_not_transform_annotations_is_named(train, data, kind):
    loads = {'semantic': LOAD_SEMANTIC, 'panoptic': LOAD_PANOPTIC, 'instance': 'load'}[kind]
    pack = {'semantic': 'mmseg.PackSegInputs', 'panoptic': 'mmmaskformer.PackPanopticInputs',
            'instance': 'mmdet.PackDetInputs'}[kind]  # fmt: skip
    steps = f"[dict(type='mmdet.Mosaic', img_scale=(64, 64)), dict(type={pack!r})]"
    template = mixed(f'dict(DATA, pipeline={loads})', steps)
    with pytest.raises(ValueError, match=r'train_dataloader: pipeline of \w+: mmdet.Mosaic cannot be used with the'):
        train(kind, iters=1, more=wrapped(kind, template, data[kind]))


# --- several metrics, and components of MMDetection ---


def test_several_metrics_of_both_sides(train):
    both = "[dict(type='mmmaskformer.SemanticMetric'), dict(type='IoUMetric', prefix='host')]"
    runner = train('semantic', iters=1, more=f'\nval_evaluator = {both}\ntest_evaluator = val_evaluator\n')
    scores = {key: runner.message_hub.get_scalar(f'val/{key}').current() for key in ('mIoU', 'host/mIoU')}
    assert scores['mIoU'] == pytest.approx(scores['host/mIoU'], abs=0.01)


def test_mmdetections_panoptic_dataset_trains_and_is_evaluated(train, data):
    theirs = """
meta = {{key: {meta!r}[key] for key in ('classes', 'thing_classes', 'stuff_classes')}}
train_dataloader['dataset'].update(type='mmdet.CocoPanopticDataset', metainfo=meta)
val_dataloader['dataset'].update(type='mmdet.CocoPanopticDataset', metainfo=meta)
test_dataloader = val_dataloader
"""
    meta = {key: list(build('mmdet', panoptic_set(data['panoptic'], type='mmmaskformer.ScenesPanopticDataset'))
            .metainfo[key]) for key in ('classes', 'thing_classes', 'stuff_classes')}  # fmt: skip
    ours = train('panoptic', iters=1)
    expected = ours.message_hub.get_scalar('val/panoptic/PQ').current()
    runner = train('panoptic', iters=1, name='theirs', more=theirs.format(meta=meta))
    assert type(runner.train_dataloader.dataset).__module__ == 'mmdet.datasets.coco_panoptic'
    assert runner.message_hub.get_scalar('val/panoptic/PQ').current() == expected
    samples = [runner_.train_dataloader.dataset for runner_ in (ours, runner)]
    loader = samples[0].pipeline.transforms[1]
    for index in range(4):
        first, second = (loader(dataset.get_data_info(index)) for dataset in samples)
        assert np.array_equal(first['gt_seg_map'], second['gt_seg_map'])
        assert first['gt_segment_labels'].tolist() == second['gt_segment_labels'].tolist()
