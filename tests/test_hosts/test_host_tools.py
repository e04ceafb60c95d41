"""The hosts' own analysis tools, unmodified, with our configs; docs/host-tools.md lists all of them."""

import json

import numpy as np
import pytest
import torch
from helpers.host_tools import built, run_tool
from helpers.hosts import make_detector
from helpers.mmdet_peer import make_head
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info
from PIL import Image

from mmmaskformer.datasets.scenes import scenes

PALETTE = np.array(scenes.METAINFO['palette'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('out')


@pytest.mark.parametrize('kind', ['semantic', 'panoptic', 'instance'])
def test_get_flops_of_mmdet_takes_every_config(kinds, folder, kind):
    out = run_tool('mmdet', 'analysis_tools/get_flops.py', kinds[kind].config, '--num-images', 1, cwd=folder)
    count = sum(parameter.numel() for parameter in built(kinds[kind].config).parameters())
    assert 'Flops: ' in out and f'Params: {count / 1e6:.3f}M' in out


@pytest.mark.parametrize('kind', ['semantic', 'panoptic', 'instance'])
def test_complexity_info(kinds, kind):
    model = built(kinds[kind].config)
    found = get_model_complexity_info(model, (3, 64, 96), show_table=False, show_arch=False)
    assert found['params'] == sum(parameter.numel() for parameter in model.parameters()) and found['flops'] > 1e6


class Head(torch.nn.Module):
    """A head without backbone, for the FLOP counter."""

    def __init__(self, head, *more):
        super().__init__()
        self.head, self.more = head.eval(), more

    def forward(self, *features):
        return self.head(features, *self.more)


def operations(*head_and_more, features):
    counter = FlopAnalyzer(Head(*head_and_more), features)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return counter.by_operator()


def test_flops_are_those_of_mmdetections_own_head():
    from mmdet.structures import DetDataSample

    ours = make_detector().panoptic_head
    theirs = make_head()
    features = tuple(torch.rand(1, c, 64 // s, 96 // s) for c, s in zip((4, 8, 16, 32), (4, 8, 16, 32), strict=True))
    size = dict(batch_input_shape=(64, 96), img_shape=(64, 96))
    found = operations(ours, features=features)
    expected = operations(theirs, [DetDataSample(metainfo=size)], features=features)
    layers, queries, channels, outputs = 2, 7, 16, 6
    assert found['conv'] == expected['conv'] and found['group_norm'] == expected['group_norm']
    # MMDetection computes the outputs of all layers, here those of the last one only.
    assert found['matmul'] == queries * channels * 16 * 24
    assert expected['einsum'] == pytest.approx(layers * found['matmul'], rel=0.01)  # numpy prints three digits
    per_layer = queries * channels * (outputs + 3 * channels)
    assert expected['linear'] - found['linear'] == (layers - 1) * per_layer
    # mmengine counts one of the two attention products in MMDetection's layers, none in ours: docs/host-tools.md.
    assert set(expected) - set(found) == {'bmm', 'einsum'}


@pytest.mark.parametrize(
    'kind, tool, pictures',
    [
        ('semantic', 'analysis_tools/browse_dataset.py', '{out}/{name}'),
        ('semantic', 'misc/browse_dataset.py', '{out}/vis_data/vis_image/{name}_0.png'),
        ('panoptic', 'analysis_tools/browse_dataset.py', '{out}/{name}'),
    ],
)
def test_browse_dataset_draws_the_ground_truth(kinds, folder, kind, tool, pictures):
    host, out = 'mmseg' if kind == 'semantic' else 'mmdet', f'browse_{kind}_{tool[0]}'
    # The only augmentation is a crop of the whole image.
    small = 'train_dataloader.dataset.pipeline.2.short_edge=72'
    run_tool(host, tool, kinds[kind].config, '--output-dir', out, '--not-show', '--cfg-options', small, cwd=folder)
    for number in range(2):
        picture = np.array(Image.open(folder / pictures.format(out=out, name=f'{number:06}.png')))
        labels = np.array(Image.open(kinds[kind].config.parent / f'scenes/annotations/train/{number:06}.png'))
        # Each large class of the scene covers a part of the picture in its own colour, wherever the crop is.
        for label in np.unique(labels[labels != 255]):
            share = (labels == label).mean()
            near = (abs(picture - PALETTE[label]).max(-1) < 45).mean()
            assert share < 0.15 or near > 0.3 * share


def test_browse_dataset_of_instances(kinds, folder):
    arguments = [kinds['instance'].config, '--output-dir', 'browse_i', '--not-show']
    run_tool('mmdet', 'analysis_tools/browse_dataset.py', *arguments, cwd=folder)
    assert (folder / 'browse_i/p.png').is_file()


def test_benchmark_of_mmseg(kinds, folder):
    config, checkpoint = kinds['semantic']
    more = (
        f"_base_ = {str(config)!r}\ntest_dataloader = dict(dataset=dict(_delete_=True, type='mmengine.RepeatDataset', "
    )
    more += "times=67, dataset=_base_.test_dataloader['dataset']))\n"
    (folder / 'repeated.py').write_text(more)
    arguments = ['repeated.py', checkpoint, '--work-dir', 'fps', '--repeat-times', 1]
    out = run_tool('mmseg', 'analysis_tools/benchmark.py', *arguments, cwd=folder)
    assert 'Overall fps: ' in out
    assert json.loads(next((folder / 'fps').glob('fps_*.json')).read_text())['average_fps'] > 0


def test_confusion_matrix_of_label_maps(kinds, folder):
    config, checkpoint = kinds['semantic']
    run_tool('mmseg', 'test.py', config, checkpoint, '--work-dir', 'labels_run', '--out', 'labels', cwd=folder)
    run_tool('mmseg', 'analysis_tools/confusion_matrix.py', config, 'labels', 'matrix', cwd=folder)
    assert (folder / 'matrix/confusion_matrix.png').is_file()


@pytest.mark.parametrize('kind', ['semantic', 'panoptic', 'instance'])
def test_print_config_and_publish_model(kinds, folder, kind):
    host = 'mmseg' if kind == 'semantic' else 'mmdet'
    config, checkpoint = kinds[kind]
    assert 'MaskFormer' in run_tool(host, 'misc/print_config.py', config, cwd=folder)
    publish = 'misc/publish_model.py' if host == 'mmseg' else 'model_converters/publish_model.py'
    run_tool(host, publish, checkpoint, f'{kind}_public.pth', cwd=folder)
    published = next(folder.glob(f'{kind}_public*.pth'))
    weights = torch.load(published, weights_only=False)['state_dict']
    built(config).load_state_dict(weights)


@pytest.fixture(scope='module')
def log(kinds, folder):
    """Log of a semantic training run of two iterations with a validation at its end."""
    short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    arguments = [kinds['semantic'].config, '--work-dir', 'logged', '--cfg-options', *short]
    run_tool('mmseg', 'train.py', *arguments, cwd=folder)
    return next((folder / 'logged').glob('*/vis_data/scalars.json'))


def test_analyze_logs_of_mmseg(log, folder):
    keys = ['--keys', 'loss', 'mIoU', '--backend', 'agg', '--out', 'mmseg_curve.png']
    run_tool('mmseg', 'analysis_tools/analyze_logs.py', log, *keys, cwd=folder)
    assert Image.open(folder / 'mmseg_curve.png').width > 100


def test_analyze_logs_of_mmdet(log, folder):
    rows = [row for row in log.read_text().splitlines() if 'mIoU' not in row]
    (folder / 'training.json').write_text('\n'.join(rows) + '\n')
    out = run_tool('mmdet', 'analysis_tools/analyze_logs.py', 'cal_train_time', 'training.json', cwd=folder)
    assert 'average iter time' in out


def test_benchmark_of_mmdet(kinds, folder):
    arguments = [kinds['panoptic'].config, '--task', 'dataset', '--max-iter', 2, '--num-warmup', 1, '--log-interval', 1]
    out = run_tool('mmdet', 'analysis_tools/benchmark.py', *arguments, '--repeat-num', 1, cwd=folder)
    assert 'fps' in out
