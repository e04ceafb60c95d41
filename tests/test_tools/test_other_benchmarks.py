"""Benchmarks of whole models, large images and precisions: the commands run and print their results."""

import json
import re
import shutil

import pytest
import torch
from helpers import runs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmmaskformer.datasets.scenes.files import write_scenes

TOOLS = runs.ROOT / 'tools/benchmark'


@pytest.mark.parametrize('task, peer', [('semantic', 'mmseg'), ('panoptic', 'mmdet')])
def test_whole_models_of_ours_and_the_host_agree(task, peer, tmp_path):
    arguments = ['--backbones', 'r50', '--size', '60', '90', '--classes', '9', '--rounds', '1', '--threads', '1']
    out = runs.run_script(str(TOOLS / 'whole_models.py'), task, *arguments, '--json', 'a.json', cwd=tmp_path).stdout
    assert f'r50, {task}, 9 classes' in out
    report = json.loads((tmp_path / 'a.json').read_text())[0]
    assert {'ours', peer} <= set(report['seconds'])
    assert report['share of pixels that differ'][peer] == 0
    assert report['images per second']['ours'] == 1 / report['seconds']['ours']


def test_a_large_image_is_measured(tmp_path):
    arguments = ['--size', '400', '600', '--edges', '64', '96', '--classes', '9', '--threads', '1']
    out = runs.run_script(str(TOOLS / 'large_image.py'), *arguments, '--backbone', 'none', cwd=tmp_path).stdout
    assert int(re.search(r'(\d+) classes in the result', out)[1]) > 1
    assert float(re.search(r'above weights: (\d+) MiB', out)[1]) > 0
    assert f'would take {4 * 9 * 400 * 600 / 2**20:.0f} MiB' in out


@pytest.mark.parametrize('panoptic', [False, True])
def test_bfloat16_is_compared_with_float32(panoptic, tmp_path):
    write_scenes(tmp_path / 'scenes', num_train=1, num_val=2)
    config = runs.write_config(tmp_path / 'config.py', tmp_path / 'scenes', panoptic=panoptic)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {}}, tmp_path / 'model.pth')
    command = [str(TOOLS / 'precision.py'), str(config), 'model.pth', '--ways', 'bfloat16', '--threads', '1']
    out = runs.run_script(*command, cwd=tmp_path).stdout
    assert re.findall(r'^(\w+): [\d.]+ ms per image', out, re.M) == ['float32', 'bfloat16']
    shares = [float(share) for share in re.findall(r'pred_\w+: (\S+) of the pixels', out)]
    assert shares[: len(shares) // 2] == [0] * (2 if panoptic else 1) and max(shares) < 0.2
    assert ('panoptic/PQ' in out) == panoptic and 'mIoU' in out


def test_the_mask_head_of_detr_grows_with_the_queries(tmp_path):
    arguments = ['--queries', '2', '8', '--size', '64', '96', '--rounds', '1', '--threads', '1', '--json', 'a.json']
    out = runs.run_script(str(TOOLS / 'mask_heads.py'), *arguments, cwd=tmp_path).stdout
    assert '| 8 | DETR |' in out and '| 8 | ratio |' in out
    few, many = json.loads((tmp_path / 'a.json').read_text())
    assert many['DETR']['GFLOP'] / few['DETR']['GFLOP'] > 3
    assert many['MaskFormer']['GFLOP'] / few['MaskFormer']['GFLOP'] < 1.1
    assert all(head[key] > 0 for head in (many['DETR'], many['MaskFormer']) for key in head if 'MiB' not in key)


def test_the_loss_of_pixels_is_measured_both_ways(tmp_path):
    arguments = ['--classes', '3', '9', '--size', '64', '96', '--rounds', '1', '--threads', '1']
    out = runs.run_script(str(TOOLS / 'pixel_loss.py'), *arguments, cwd=tmp_path).stdout
    assert re.findall(r'^\| (\d+) \| \S+ s, -?\d+ MiB \| \S+ s, -?\d+ MiB \|$', out, re.M) == ['3', '9']


def test_ways_of_waiting_are_timed(tmp_path):
    arguments = ['--steps', '1', '--settings', 'OMP_NUM_THREADS=1']
    out = runs.run_script(str(TOOLS / 'thread_waiting.py'), *arguments, cwd=tmp_path).stdout
    assert float(re.search(r'^OMP_NUM_THREADS=1: median ([\d.]+) s, fastest [\d.]+ s of 1 steps$', out, re.M)[1]) > 0


def test_a_slower_checkout_is_noticed(tmp_path):
    for part in ('mmmaskformer', 'tools/benchmark'):
        shutil.copytree(runs.ROOT / part, tmp_path / 'slow' / part, ignore=shutil.ignore_patterns('__pycache__'))
    heads = tmp_path / 'slow/tools/benchmark/inference_heads.py'
    text = heads.read_text()
    assert text.count('        class_logits, masks = ours.predict_masks(') == 1
    text = text.replace('        class_logits, masks = ours.', '        sleep(1)\n        class_logits, masks = ours.')
    heads.write_text(text.replace('import inspect\n', 'import inspect\nfrom time import sleep\n'))
    command = [str(TOOLS / 'checkouts.py'), str(runs.ROOT), 'slow', '--cases', 'inference-150', '--rounds', '1']
    out = runs.run_script(*command, '--threads', '1', cwd=tmp_path).stdout
    (first,), (slow,) = (re.findall(rf'^{name} +(\d+) +([\d.]+) ', out, re.M) for name in (runs.ROOT, 'slow'))
    assert first[1] == '1.000'
    assert int(slow[0]) > 1000 and int(slow[0]) > int(first[0])
    assert float(slow[1]) == pytest.approx(int(slow[0]) / int(first[0]), rel=0.02)


def test_checkouts_that_cannot_be_timed_are_named(tmp_path):
    alone = runs.run_script(str(TOOLS / 'checkouts.py'), '.', cwd=tmp_path, check=False)
    assert "expected two or more checkouts, found ['.']" in alone.stderr
    other = runs.run_script(str(TOOLS / 'checkouts.py'), str(runs.ROOT), 'absent', cwd=tmp_path, check=False)
    assert 'absent: expected a checkout of this repository' in other.stderr
    (tmp_path / 'broken/tools/benchmark').mkdir(parents=True)
    (tmp_path / 'broken/tools/benchmark/heads.py').write_text('raise RuntimeError("of this checkout")\n')
    broken = runs.run_script(str(TOOLS / 'checkouts.py'), 'broken', str(runs.ROOT), cwd=tmp_path, check=False)
    assert 'broken: its process ended, see above' in broken.stderr
