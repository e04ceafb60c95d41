"""The hosts' scripts with small versions of the shipped configs of the paper's baselines and matchings."""

import pytest
import torch
from helpers import host_tools, runs

from mmmaskformer.datasets.scenes.files import write_scenes

CONFIG = """
_base_ = {base!r}
data_root = {data!r}
model = dict(decode_head=dict(channels=16, pixel_decoder=dict(norm_groups=4), {decoder}))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
"""
DECODER = 'transformer_decoder=dict(num_layers=2, num_heads=2, ffn_channels=16)'
SEGMENTS = ('loss_cls', 'loss_mask', 'loss_dice')
# Config: its losses in each of two layers.
KINDS = {
    'per-pixel-baseline_tiny_1xb8-800_scenes': ('loss_ce',),
    'per-pixel-baseline-plus_tiny_1xb8-800_scenes': ('loss_ce',),
    'maskformer_tiny_fixed-matching_1xb8-800_scenes': SEGMENTS,
    'maskformer_tiny_box-matching_1xb8-800_scenes': (*SEGMENTS, 'loss_box', 'loss_giou'),
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('ablations')
    write_scenes(root / 'scenes', 4, 2)
    return root


@pytest.mark.parametrize('name', KINDS)
def test_train_and_test(scenes, name):
    config, work_dir = scenes / f'{name}.py', scenes / f'work-{name}'
    layers = ['decode.'] if name.startswith('per-pixel-baseline_') else ['decode.d0.', 'decode.']
    text = CONFIG.format(
        base=str(runs.ROOT / f'configs/scenes/{name}.py'),
        data=str(scenes / 'scenes'),
        decoder=DECODER if len(layers) == 2 else '',
    )
    config.write_text(text)
    host_tools.run_tool('mmseg', 'train.py', config, '--work-dir', work_dir, cwd=scenes)
    losses = runs.losses(work_dir)
    assert set(losses) == {1, 2}
    for row in losses.values():
        assert set(row) == {'loss', *(f'{layer}{loss}' for layer in layers for loss in KINDS[name])}
    if 'matching' in name:
        return
    checkpoint = work_dir / 'iter_2.pth'
    assert not any('class_embed' in key for key in torch.load(checkpoint, weights_only=False)['state_dict'])
    views = ['--tta'] if 'plus' in name else []
    printed = host_tools.run_tool('mmseg', 'test.py', config, checkpoint, *views, cwd=scenes)
    assert 'mIoU' in printed and 'unexpected key' not in printed
