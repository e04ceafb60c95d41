"""Training, test and resume as users start them: with mim, without mim, after a kill."""

import signal

import pytest
from helpers import runs

from mmmaskformer.datasets.scene_files import write_scenes

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


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(root, 7, 2)
    return root


def test_mim_trains_and_tests_from_any_folder(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes, iters=2)
    out = runs.run('-m', 'mim', 'train', 'mmsegmentation', str(config), '--gpus', '0', cwd=tmp_path).stdout
    assert 'Iter(train) [2/2]' in out and 'eta' in out and 'mIoU' in out
    checkpoint = tmp_path / 'work_dirs/toy/iter_2.pth'
    out = runs.run(
        '-m', 'mim', 'test', 'mmsegmentation', str(config), '--checkpoint', str(checkpoint), '--gpus', '0', cwd=tmp_path
    ).stdout
    assert 'mIoU' in out and 'ring' in out


def test_without_mim_under_bfloat16_and_with_test_time_augmentation(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes, iters=2)
    tool = str(runs.ROOT / 'tools/train.py')
    process = runs.run(tool, str(config), '--amp', '--work-dir', 'out', cwd=tmp_path)
    assert 'bfloat16 autocast' in process.stdout + process.stderr
    tool = str(runs.ROOT / 'tools/test.py')
    out = runs.run(tool, str(config), 'out/iter_2.pth', '--tta', '--work-dir', 'out/test', cwd=tmp_path).stdout
    assert 'mIoU' in out


@pytest.mark.parametrize('workers', [0, 2])
def test_a_killed_run_resumes_with_the_same_losses(tmp_path, scenes, workers):
    (tmp_path / 'killer.py').write_text(KILLER)
    tool = str(runs.ROOT / 'tools/train.py')
    whole = runs.write_config(tmp_path / 'whole.py', scenes, workers=workers)
    runs.run(tool, str(whole), '--work-dir', 'whole', cwd=tmp_path)
    killed = runs.write_config(
        tmp_path / 'killed.py', scenes, workers=workers, imports=['killer'], hooks=[dict(type='KillHook')]
    )
    process = runs.run(tool, str(killed), '--work-dir', 'resumed', cwd=tmp_path, check=False, pythonpath=tmp_path)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / 'resumed/last_checkpoint').read_text().endswith('iter_4.pth')
    runs.run(tool, str(whole), '--work-dir', 'resumed', '--resume', cwd=tmp_path)
    expected, found = runs.losses(tmp_path / 'whole'), runs.losses(tmp_path / 'resumed')
    assert set(expected) == {1, 2, 3, 4, 5, 6}
    assert found == expected


def test_a_wrong_class_count_stops_before_the_first_step(tmp_path, scenes):
    config = runs.write_config(tmp_path / 'toy.py', scenes)
    process = runs.run(
        str(runs.ROOT / 'tools/train.py'), str(config), '--cfg-options', 'model.decode_head.num_classes=4',
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert process.returncode
    assert 'train_dataloader: ScenesDataset has 9 classes, but the model has num_classes=4' in process.stderr


@pytest.mark.parametrize(
    'arguments, message',
    [(['nowhere.py'], 'config nowhere.py: no such file'), ([], r'MMSegmentation or MMDetection')],
)
def test_tools_say_what_is_missing(tmp_path, arguments, message):
    process = runs.run(str(runs.ROOT / 'tools/train.py'), *arguments, cwd=tmp_path, check=False)
    assert process.returncode == 2 and message in process.stdout + process.stderr
