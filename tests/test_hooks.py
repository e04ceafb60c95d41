import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmmaskformer.hooks import CheckClassesHook, DataSeedHook, IterationSeedHook


def draw_at(iteration, seed=3):
    torch.rand(iteration + 5)  # whatever came before must not matter
    IterationSeedHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), iteration)
    return torch.rand(4)


def test_dropout_depends_on_seed_and_iteration_only():
    assert torch.equal(draw_at(7), draw_at(7))
    assert not torch.equal(draw_at(7), draw_at(8))
    assert not torch.equal(draw_at(7), draw_at(7, seed=4))


def test_ranks_draw_differently(monkeypatch):
    first = draw_at(7)
    monkeypatch.setattr('mmmaskformer.hooks.get_rank', lambda: 1)
    assert not torch.equal(first, draw_at(7))


def test_augmentation_starts_from_the_seed():
    def draw():
        random.random(), np.random.rand(3)
        DataSeedHook().before_train(SimpleNamespace(seed=2**31 + 5))
        return random.random(), np.random.rand()

    assert draw() == draw()


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_class_lists_of_another_length_are_named(stage):
    class Streets:
        metainfo = dict(classes=('road', 'car', 'sky'))

    loader = SimpleNamespace(dataset=Streets())
    runner = SimpleNamespace(model=SimpleNamespace(num_classes=150), **{f'{stage}_dataloader': loader})
    with pytest.raises(
        ValueError, match=f'{stage}_dataloader: Streets has 3 classes.*num_classes=150. Fix: .*num_classes=3'
    ):
        getattr(CheckClassesHook(), f'before_{stage}')(runner)
    runner.model.num_classes = 3
    getattr(CheckClassesHook(), f'before_{stage}')(runner)


def test_datasets_and_models_without_classes_are_left_alone():
    runner = SimpleNamespace(model=SimpleNamespace(), train_dataloader=SimpleNamespace(dataset=object()))
    CheckClassesHook().before_train(runner)
