"""Training, test and resume as users start them: with mim, without mim, after a kill."""

import json
import signal

import pytest
import torch
from helpers import runs
from helpers.panoptic import write_instances
from PIL import Image

from mmmaskformer.datasets.scenes.files import write_scenes

KILLER = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KillHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""


HIDE_MMCV = """
import importlib.abc, importlib.machinery, importlib.util, sys

find_spec = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = staticmethod(
    lambda name, path=None, target=None: None if name.split('.')[0] == 'mmcv' else find_spec(name, path, target)
)
"""


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(root, 7, 2)
    return root


def test_mim_trains_and_tests_from_any_folder(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes, iters=2)
    arguments = ['train', 'mmsegmentation', str(config), '--gpus', '0', '--amp', '--resume']
    out = runs.run_mim(*arguments, cwd=tmp_path).stdout
    assert 'Iter(train) [2/2]' in out and 'eta' in out and 'mIoU' in out and 'bfloat16 autocast' in out
    checkpoint = tmp_path / 'work_dirs/toy/iter_2.pth'
    arguments = ['test', 'mmsegmentation', str(config), '--checkpoint', str(checkpoint), '--gpus', '0']
    out = runs.run_mim(*arguments, cwd=tmp_path).stdout
    assert 'mIoU' in out and 'ring' in out


def test_without_mim_and_with_test_time_augmentation(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes, iters=2)
    runs.run_before_hosts(str(runs.ROOT / 'tools/train.py'), str(config), '--work-dir', 'out', cwd=tmp_path)
    arguments = [str(runs.ROOT / 'tools/test.py'), str(config), 'out/iter_2.pth', '--tta', '--work-dir', 'out/test']
    out = runs.run_before_hosts(*arguments, cwd=tmp_path).stdout
    assert 'mIoU' in out


def test_panoptic_training_with_mim_prints_pq_and_starts_from_a_semantic_checkpoint(tmp_path, scenes):
    semantic = runs.write_config(tmp_path / 'semantic.py', scenes, iters=2)
    runs.run_script(str(runs.ROOT / 'tools/train.py'), str(semantic), '--work-dir', 'semantic', cwd=tmp_path)
    config = runs.write_config(tmp_path / 'toy.py', scenes, panoptic=True, iters=2)
    arguments = ['train', 'mmdet', str(config), '--cfg-options', 'load_from=semantic/iter_2.pth']
    out = runs.run_mim(*arguments, cwd=tmp_path).stdout
    assert 'The checkpoint has a decode_head: its weights are loaded into the panoptic_head' in out
    assert 'missing keys' not in out and 'panoptic/PQ' in out and 'mIoU' in out
    checkpoint = str(tmp_path / 'work_dirs/toy/iter_2.pth')
    options = ['--cfg-options', 'test_evaluator.classwise=True', f'test_evaluator.outfile_prefix={tmp_path}/result']
    # without forks: mim as users start it, and the script as mim starts it
    out = runs.run('-m', 'mim', 'test', 'mmdet', str(config), '--checkpoint', checkpoint, *options, cwd=tmp_path).stdout
    assert 'panoptic/PQ' in out and 'ring' in out
    written = json.loads((tmp_path / 'result.panoptic.json').read_text())
    assert len(written['annotations']) == 2 and len(list((tmp_path / 'result.panoptic').iterdir())) == 2
    out = runs.run_script(
        str(runs.ROOT / 'tools/test.py'), str(config), checkpoint, '--tta', '--work-dir', 'tta', cwd=tmp_path
    ).stdout
    assert 'panoptic/PQ' in out and 'mIoU' in out


INSTANCES = """
train_dataloader.update(dataset=dict(
    _delete_=True, type='mmdet.CocoDataset', data_root='{root}', ann_file='instances.json',
    data_prefix=dict(img='images'), metainfo=dict(classes=('person', 'bicycle')),
    pipeline=[
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='mmdet.RandomFlip', prob=0.5),
        dict(type='mmdet.PackDetInputs'),
    ],
))
val_dataloader.update(dataset=dict(
    _delete_=True, type='mmdet.CocoDataset', data_root='{root}', ann_file='instances.json',
    data_prefix=dict(img='images'), metainfo=dict(classes=('person', 'bicycle')), test_mode=True,
    pipeline=[dict(type='mmcv.LoadImageFromFile'), dict(type='mmdet.PackDetInputs')],
))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='mmdet.CocoMetric', ann_file='{root}/instances.json', metric=['segm'])
test_evaluator = val_evaluator
model['panoptic_head'].update(num_classes=2, things=[0, 1])
model.update(test_cfg=dict(_delete_=True, instance=dict()))
default_hooks['checkpoint'].update(save_best='coco/segm_mAP')
"""


def test_instance_training_is_evaluated_with_mmdetections_metric(tmp_path):
    root = tmp_path / 'coco'
    write_instances(root, ('person', 'bicycle'), ann_file='instances.json', img='images', size=(64, 96))
    more = INSTANCES.format(root=root)
    config = runs.write_config(tmp_path / 'toy.py', root, panoptic=True, iters=2, more=more)
    out = runs.run_script(str(runs.ROOT / 'tools/train.py'), str(config), '--work-dir', 'out', cwd=tmp_path).stdout
    assert 'Iter(train) [2/2]' in out and 'loss_mask' in out and 'coco/segm_mAP' in out


@pytest.mark.parametrize('workers', [0, 2])
def test_a_killed_run_resumes_with_the_same_losses(tmp_path, scenes, workers):
    (tmp_path / 'killer.py').write_text(KILLER)
    tool = str(runs.ROOT / 'tools/train.py')
    whole = runs.write_config(tmp_path / 'whole.py', scenes, workers=workers)
    runs.run_script(tool, str(whole), '--work-dir', 'whole', cwd=tmp_path)
    killed = runs.write_config(
        tmp_path / 'killed.py', scenes, workers=workers, imports=['killer'], hooks=[dict(type='KillHook')]
    )
    process = runs.run_script(
        tool, str(killed), '--work-dir', 'resumed', cwd=tmp_path, check=False, pythonpath=tmp_path
    )
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / 'resumed/last_checkpoint').read_text().endswith('iter_4.pth')
    runs.run_script(tool, str(whole), '--work-dir', 'resumed', '--resume', cwd=tmp_path)
    expected, found = runs.losses(tmp_path / 'whole'), runs.losses(tmp_path / 'resumed')
    assert set(expected) == {1, 2, 3, 4, 5, 6}
    assert found == expected


def last_line(process) -> str:
    return process.stderr.strip().splitlines()[-1]


BAD_SETTINGS = {
    'class count': (
        'model.decode_head.num_classes=4',
        'train_dataloader: ScenesDataset has 9 classes, but the model has decode_head.num_classes=4. Fix: set',
    ),
    'channels': (
        'model.decode_head.in_channels=[64,64,128,512]',
        'channels [64, 64, 128, 256], but the head has in_channels=[64, 64, 128, 512]. Fix: set',
    ),
    'misspelt key': (
        'model.decode_head.num_querys=5',
        "MaskFormerHead does not take the key 'num_querys'. Did you mean 'num_queries'?",
    ),
    'learning rate': ('optim_wrapper.optimizer.lr=1e30', 'iteration 2, decoder layer 1 of 2, image 0 of the batch'),
    'folder': (
        'train_dataloader.dataset.data_root=nowhere',
        "is the folder 'nowhere/images/train', which does not exist",
    ),
}


@pytest.mark.parametrize('name', BAD_SETTINGS)
def test_a_bad_setting_is_reported_with_one_clear_message(tmp_path, scenes, name):
    option, message = BAD_SETTINGS[name]
    config = runs.write_config(tmp_path / 'toy.py', scenes)
    process = runs.run_script(
        str(runs.ROOT / 'tools/train.py'), str(config), '--cfg-options', option, cwd=tmp_path, check=False
    )
    assert process.returncode and message in last_line(process)


def test_a_colour_picture_as_label_file_is_named(tmp_path):
    root = tmp_path / 'scenes'
    write_scenes(root, 1, 1)
    labels = root / 'annotations/train/000000.png'
    Image.open(labels).convert('RGB').save(labels)
    config = runs.write_config(tmp_path / 'toy.py', root)
    process = runs.run_script(str(runs.ROOT / 'tools/train.py'), str(config), cwd=tmp_path, check=False)
    assert process.returncode and f'label file {labels}: found a picture of shape' in last_line(process)


def test_mim_test_refuses_a_checkpoint_of_another_class_count(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes)
    torch.save(
        {'state_dict': {'decode_head.classifier.class_embed.weight': torch.zeros(21, 16)}}, tmp_path / 'other.pth'
    )
    arguments = ['test', 'mmsegmentation', str(config), '--checkpoint', str(tmp_path / 'other.pth')]
    process = runs.run_mim(*arguments, cwd=tmp_path, check=False)
    message = 'is for 20 classes, but the model has num_classes=9. Fix: set num_classes=20 to use this checkpoint'
    assert process.returncode == 1 and message in last_line(process)  # not mim's own traceback


def test_tools_report_a_missing_mmcv(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes)
    (tmp_path / 'sitecustomize.py').write_text(HIDE_MMCV)
    process = runs.run(str(runs.ROOT / 'tools/train.py'), str(config), cwd=tmp_path, check=False, pythonpath=tmp_path)
    assert process.returncode == 2
    assert 'needs mmcv and found none' in last_line(process) and "Fix: pip install 'mmcv-lite" in last_line(process)


@pytest.mark.parametrize(
    'arguments, message',
    [(['nowhere.py'], 'config nowhere.py: no such file'), ([], r'MMSegmentation or MMDetection')],
)
def test_tools_report_missing_packages(tmp_path, arguments, message):
    process = runs.run(str(runs.ROOT / 'tools/train.py'), *arguments, cwd=tmp_path, check=False)
    assert process.returncode == 2 and message in process.stdout + process.stderr
