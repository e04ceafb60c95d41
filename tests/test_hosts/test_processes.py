"""Several processes, with the hosts' own scripts and model wrapper, train and test like one process."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import host_tools, ranks, runs
from helpers.distributed import free_port
from PIL import Image

from mmmaskformer.datasets.scenes.files import write_scenes

HEADS = {'semantic': 'decode_head', 'panoptic': 'panoptic_head'}
HOSTS = {'semantic': 'mmseg', 'panoptic': 'mmdet'}
# Norm layers with batch statistics would see a different batch.
SAME_BATCH = """
model['backbone'] = dict(
    _delete_=True, type='mmseg.ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3),
    norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True, zero_init_residual=False,
)
model[{head!r}]['transformer_decoder']['dropout'] = 0.0
model[{head!r}]['in_channels'] = [8, 16, 32, 64]
optim_wrapper = dict(clip_grad=None)
"""
# Three images in the order of the files: two on the first rank, and one without any target on the second.
UNEVEN = """
model[{head!r}]['criterion'] = dict(class_mean_over_ranks={over_ranks})
train_dataloader['batch_size'] = {batch_size}
train_dataloader['sampler'] = dict(_delete_=True, type='DefaultSampler', shuffle=False, round_up=False)
train_dataloader['dataset']['pipeline'] = [
    _base_.load_image, {load}, dict(type='{host}.Resize', scale=(96, 64), keep_ratio=False), _base_.pack
]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
param_scheduler = []
"""
STRATEGIES = {'DDPStrategy': "type='DDPStrategy'", 'FSDPStrategy': "type='FSDPStrategy', state_dict_cfg='full'"}
LOAD = {
    'semantic': "dict(type='mmmaskformer.LoadSegAnnotations')",
    'panoptic': "dict(type='mmmaskformer.LoadPanopticAnnotations', allow_empty=True)",
}


class Trained(NamedTuple):
    """Losses and gradients of the first step of each rank, and the path of the run."""

    losses: list[dict[str, float]]
    gradients: list[dict[str, torch.Tensor]]
    config: Path
    work_dir: Path


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Three scenes to train and three to validate."""
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(root, 3, 3)
    return root


@pytest.fixture(scope='module')
def data(scenes):
    """The same; the second training scene has no annotated pixels."""
    root = shutil.copytree(scenes, scenes.with_name('one_empty'))
    labels = sorted((root / 'annotations/train').glob('*.png'))[1]
    Image.fromarray(np.full_like(np.array(Image.open(labels)), 255)).save(labels)
    content = json.loads((root / 'panoptic_train.json').read_text())
    empty = content['annotations'][1]
    empty['segments_info'] = []
    (root / 'panoptic_train.json').write_text(json.dumps(content))
    segments = root / 'panoptic_train' / empty['file_name']
    Image.fromarray(np.zeros_like(np.array(Image.open(segments)))).save(segments)
    return root


def train_uneven(kind, data, folder, *, count, over_ranks=True, launcher='pytorch') -> Trained:
    """One step on three images, in one process or distributed over two."""
    name = f'{kind}_{count}_{over_ranks}'
    words = dict(host=HOSTS[kind], head=HEADS[kind], load=LOAD[kind], over_ranks=over_ranks, batch_size=4 - count)
    config = runs.write_config(
        folder / f'{name}.py',
        data,
        panoptic=kind == 'panoptic',
        imports=['helpers.gradients'],
        hooks=[dict(type='RecordGradients')],
        more=(SAME_BATCH + UNEVEN).format(**words),
    )
    script = host_tools.script(HOSTS[kind], 'train.py')
    arguments = [script, str(config), '--work-dir', name]
    if count == 1:
        runs.run_script(*arguments, cwd=folder, pythonpath=runs.ROOT / 'tests')
    else:
        ranks.run_ranks(*arguments, cwd=folder, launcher=launcher)
    records = [torch.load(folder / name / f'rank{rank}.pt') for rank in range(count)]
    (losses,), (gradients,) = (zip(*kinds, strict=True) for kinds in zip(*records, strict=True))
    losses = [{key.removeprefix('decode.'): value for key, value in own.items()} for own in losses]
    return Trained(losses, list(gradients), config, folder / name)


def mean_losses(trained: Trained) -> dict[str, float]:
    """Losses by name, averaged over ranks."""
    return {key: sum(losses[key] for losses in trained.losses) / len(trained.losses) for key in trained.losses[0]}


def scores(work_dir: Path) -> dict[str, float]:
    """The last scores logged by a run."""
    file = sorted(work_dir.glob('*/vis_data/scalars.json')) or sorted(work_dir.glob('*/*.json'))
    rows = [json.loads(line) for line in file[-1].read_text().splitlines()]
    return {key: value for key, value in rows[-1].items() if 'time' not in key and key != 'step'}


@pytest.mark.parametrize('kind, launcher', [('semantic', 'pytorch'), ('panoptic', 'slurm')])
def test_two_processes_train_and_validate_as_one_with_the_joined_batch(kind, launcher, data, tmp_path):
    two = train_uneven(kind, data, tmp_path, count=2, launcher=launcher)
    one = train_uneven(kind, data, tmp_path, count=1)
    assert two.losses[1]['loss_mask'] == two.losses[1]['loss_dice'] == 0 < two.losses[1]['loss_cls']
    assert mean_losses(two) == pytest.approx(mean_losses(one), rel=1e-5)
    (expected,) = one.gradients
    assert sum(gradient.any() for gradient in expected.values()) > 30
    for name, gradient in expected.items():
        assert torch.equal(two.gradients[0][name], two.gradients[1][name])
        torch.testing.assert_close(two.gradients[0][name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    # The three validation images are distributed as well: two on one rank and one on the other, which repeats one.
    expected = scores(two.work_dir)
    assert max(expected.values()) > 0
    test = [host_tools.script(HOSTS[kind], 'test.py'), str(two.config), str(next(two.work_dir.glob('best_*.pth')))]
    runs.run_script(*test, '--work-dir', 'one', cwd=tmp_path, pythonpath=runs.ROOT / 'tests')
    assert scores(tmp_path / 'one') == expected
    if kind == 'panoptic':
        ranks.run_ranks(*test, '--work-dir', 'two', cwd=tmp_path, launcher=launcher)
        assert scores(tmp_path / 'two') == expected
        compare_with_the_published_class_loss(mean_losses(one), data, tmp_path)


def compare_with_the_published_class_loss(joined, data, folder):
    """As published, each process averages over its own queries; the other losses do not change."""
    published = mean_losses(train_uneven('panoptic', data, folder, count=2, over_ranks=False))
    for key, loss in joined.items():
        if 'mask' in key or 'dice' in key:
            assert published[key] == pytest.approx(loss, rel=1e-5)
        elif 'cls' in key:
            assert published[key] != pytest.approx(loss, rel=1e-2)


def with_torchrun(*arguments, cwd):
    """Run ``SCRIPT ARGUMENTS --launcher pytorch`` as torchrun does on the command line."""
    options = ['--nproc_per_node', '2', '--master_port', str(free_port())]
    return runs.run_before_hosts('-m', 'torch.distributed.run', *options, *arguments, '--launcher', 'pytorch', cwd=cwd)


def test_two_resumed_processes_without_a_gpu_equal_uninterrupted_ones(scenes, tmp_path):
    config = runs.write_config(tmp_path / 'config.py', scenes, iters=4)
    start = [host_tools.script('mmseg', 'train.py'), str(config), '--work-dir']
    ranks.run_ranks(*start, 'whole', cwd=tmp_path)
    ranks.run_ranks(*start, 'parts', '--cfg-options', 'train_cfg.max_iters=2', cwd=tmp_path)
    shutil.copytree(tmp_path / 'parts', tmp_path / 'changed')
    done = with_torchrun(*start, 'parts', '--resume', cwd=tmp_path)
    output = done.stdout + done.stderr
    assert output.count('No GPU is visible: 2 processes run on the CPU, with the backend gloo') == 1
    assert 'Iter(val) [2/2]' in output
    whole, parts = (torch.load(tmp_path / name / 'iter_4.pth')['state_dict'] for name in ('whole', 'parts'))
    assert whole.keys() == parts.keys() and all(torch.equal(parts[key], value) for key, value in whole.items())
    resume = [*start, 'changed', '--resume', '--cfg-options']
    # the joined batch in one process, then other batches in two
    one = runs.run_script(*resume, 'train_dataloader.batch_size=4', cwd=tmp_path)
    two = ranks.run_ranks(*resume, 'train_cfg.max_iters=6', 'train_dataloader.batch_size=1', cwd=tmp_path)
    assert '2 the run had 2 processes; from here on it has 1 process. Its losses differ from' in output_of(one)
    assert 'samples per iteration' not in output_of(one)
    assert '4 the run had 1 process; from here on it has 2 processes. Its losses differ from' in output_of(two)
    assert '4 the run saw 4 samples per iteration of a dataset of 3; from here on it sees 2 of 3' in output_of(two)
    assert (tmp_path / 'changed/iter_6.pth').is_file()


def output_of(done) -> str:
    return done.stdout + done.stderr


def test_a_sharded_model_trains_as_a_replicated_one(scenes, tmp_path):
    found = {}
    for strategy, settings in STRATEGIES.items():
        more = f"runner_type = 'FlexibleRunner'\nstrategy = dict({settings})\n"
        config = runs.write_config(tmp_path / f'{strategy}.py', scenes, iters=2, more=more)
        ranks.run_ranks(host_tools.script('mmseg', 'train.py'), config, '--work-dir', strategy, cwd=tmp_path)
        log = next((tmp_path / strategy).glob('*/vis_data/scalars.json'))
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        weights = torch.load(tmp_path / strategy / 'iter_2.pth')['state_dict']
        # mmengine's DDPStrategy stores the wrapper's names
        weights = {name.removeprefix('module.'): value for name, value in weights.items()}
        found[strategy] = ([(row['loss'], row['grad_norm']) for row in rows if 'loss' in row], weights)
    (replicated, expected), (sharded, weights) = found.values()
    assert len(sharded) == 2 and sharded == [pytest.approx(row, rel=1e-4) for row in replicated]
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=name)
