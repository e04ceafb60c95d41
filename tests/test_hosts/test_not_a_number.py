"""NaN in weights, optimiser, images and logits, in the hosts' own training and test scripts."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers import runs
from helpers.host_tools import script
from helpers.in_turn import run_in_turn

from mmmaskformer.datasets.scenes.files import write_scenes

HOSTS = {'semantic': 'mmseg', 'panoptic': 'mmdet'}
HEADS = {'semantic': 'decode_head', 'panoptic': 'panoptic_head'}
POISONED = """
poison = dict(type='Poison', name='000001.png')
train_dataloader['batch_size'] = 1
train_dataloader['dataset']['pipeline'] = [*_base_.train_pipeline[:-1], poison, _base_.train_pipeline[-1]]
tested = [*_base_.test_pipeline[:-1], poison, _base_.test_pipeline[-1]]
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], pipeline=tested))
"""


class Files(NamedTuple):
    """A trained toy model of a host, and its checkpoint with faults."""

    folder: Path
    config: Path
    poisoned: Path
    run: Path


@pytest.fixture(scope='module', params=list(HOSTS))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def files(kind, tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp(kind)
    write_scenes(folder / 'scenes', 2, 2)
    settings = dict(panoptic=kind == 'panoptic', iters=2)
    config = runs.write_config(folder / 'config.py', folder / 'scenes', **settings)
    poisoned = runs.write_config(
        folder / 'poisoned.py', folder / 'scenes', imports=['helpers.poison'], more=POISONED, **settings
    )
    runs.run_script(script(HOSTS[kind], 'train.py'), str(config), '--work-dir', 'run', cwd=folder)
    return Files(folder, config, poisoned, folder / 'run')


def with_fault(files: Files, name: str, change) -> Path:
    """A work directory with the run's checkpoint after a change."""
    folder = files.folder / name
    folder.mkdir()
    checkpoint = torch.load(files.run / 'iter_2.pth', weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, folder / 'iter_2.pth')
    return folder / 'iter_2.pth'


def test_weights_optimisers_images_and_logits(kind, files):
    train, test = (script(HOSTS[kind], f'{name}.py') for name in ('train', 'test'))
    weight = f'{HEADS[kind]}.classifier.class_embed.weight'

    def spoil_weights(checkpoint):
        checkpoint['state_dict'][weight].view(-1)[3] = torch.nan

    def spoil_optimiser(checkpoint):
        checkpoint['optimizer']['state'][0]['exp_avg'].view(-1)[0] = torch.inf

    def enlarge(checkpoint):  # finite values whose products are not
        checkpoint['state_dict'][weight] = torch.full_like(checkpoint['state_dict'][weight], 3e38)

    weights, optimiser, large = (
        with_fault(files, name, change)
        for name, change in (('weights', spoil_weights), ('optimiser', spoil_optimiser), ('large', enlarge))
    )
    longer = ('--cfg-options', 'train_cfg.max_iters=4', 'train_cfg.val_interval=4')
    skip = 'custom_hooks.8.on_non_finite=skip'  # the index of CheckImagesHook
    ended = run_in_turn(
        [test, files.config, weights, '--work-dir', 'out'],
        [train, files.config, '--work-dir', weights.parent, '--resume', *longer],
        [train, files.config, '--work-dir', optimiser.parent, '--resume', *longer],
        [test, files.config, large, '--work-dir', 'out'],
        [train, files.poisoned, '--work-dir', 'stop'],
        [train, files.poisoned, '--work-dir', 'skip', '--cfg-options', skip],
        [test, files.poisoned, files.run / 'iter_2.pth', '--work-dir', 'out'],
        cwd=files.folder,
    )
    errors = [each.error for each in ended]
    for number in (0, 1):
        assert errors[number].startswith(f'ValueError: checkpoint {weights}: 1 of its ')
        assert f'weights hold inf or NaN ({weight}). Fix: use an earlier checkpoint' in errors[number]
    assert errors[2].startswith(f'ValueError: checkpoint {optimiser}: 1 of the ')
    assert 'tensors of its optimizer state hold inf or NaN' in errors[2]
    assert 'NonFiniteLogitsError: ' in errors[3] and 'image 0 of the batch (' in errors[3]
    assert 'images/val/000000.png' in errors[3]
    named = 'images/train/000001.png)'
    assert 'NonFiniteImageError: iteration ' in errors[4] and 'inf or NaN in image ' in errors[4] and named in errors[4]
    assert errors[5] == '' and ended[5].output.count(named) == 1
    assert '1 training steps were skipped because of images that hold inf or NaN' in ended[5].output
    assert 'NonFiniteLogitsError: ' in errors[6] and 'images/val/000001.png' in errors[6]
    skipped = torch.load(files.folder / 'skip/iter_2.pth', weights_only=False)
    assert all(value.isfinite().all() for value in skipped['state_dict'].values())
