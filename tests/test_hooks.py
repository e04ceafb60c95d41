import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmmaskformer.hooks import CheckClassesHook, RepeatableRunHook


def draw_at(iteration, seed=3):
    torch.rand(iteration + 5)  # whatever came before must not matter
    RepeatableRunHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), iteration)
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
        RepeatableRunHook().before_train(SimpleNamespace(seed=2**31 + 5))
        return random.random(), np.random.rand()

    assert draw() == draw()


class Streets:
    metainfo = dict(classes=('road', 'car', 'sky'))
    ignore_index = 255


def make_runner(stage, model=None, metric_ignores=255, **head):
    head = dict(ignore_index=255) | head
    model = model or SimpleNamespace(
        num_classes=3, decode_head=SimpleNamespace(**head), data_preprocessor=SimpleNamespace(seg_pad_val=255)
    )
    evaluator = SimpleNamespace(metrics=[SimpleNamespace(ignore_index=metric_ignores)])
    loader = SimpleNamespace(dataset=Streets())
    return SimpleNamespace(model=model, **{f'{stage}_dataloader': loader, f'{stage}_evaluator': evaluator})


def check(stage, runner, hook=None):
    getattr(hook or CheckClassesHook(), f'before_{stage}')(runner)


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_class_lists_of_another_length_are_named(stage):
    runner = make_runner(stage)
    check(stage, runner)
    runner.model.num_classes = 150
    with pytest.raises(
        ValueError, match=f'{stage}_dataloader: Streets has 3 classes.*num_classes=150. Fix: .*num_classes=3'
    ):
        check(stage, runner)


def test_the_model_inside_test_time_augmentation_is_checked():
    from mmmaskformer.heads.tta import SemanticTTAModel

    class Segmentor(torch.nn.Module):
        num_classes = 150

        def test_step(self, data):
            return data

    segmentor = Segmentor()
    with pytest.raises(ValueError, match='test_dataloader: Streets has 3 classes'):
        check('test', make_runner('test', SemanticTTAModel(module=segmentor)))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(ignore_index=65535), r'train_dataloader: Streets.ignore_index is 255, but .*decode_head.ignore_index is'),
        (dict(metric_ignores=0), r'ignore_index is 0, but model.decode_head.ignore_index is 255'),
    ],
)
def test_parts_that_ignore_different_labels_are_named(changes, message):
    stage = 'val' if 'metric_ignores' in changes else 'train'
    with pytest.raises(ValueError, match=message):
        check(stage, make_runner(stage, **changes))


def test_padding_must_be_ignored():
    runner = make_runner('train')
    runner.model.data_preprocessor.seg_pad_val = 0
    with pytest.raises(ValueError, match='data_preprocessor.seg_pad_val is 0, but .*ignore_index is 255. Fix'):
        check('train', runner)


@pytest.mark.parametrize('trained, warns', [(('road', 'sky', 'car'), True), (('road', 'car', 'sky'), False)])
def test_a_checkpoint_with_other_names_is_reported(monkeypatch, trained, warns):
    told = []
    monkeypatch.setattr('mmmaskformer.hooks.print_log', lambda message, **_: told.append(message))
    hook = CheckClassesHook()
    hook.after_load_checkpoint(None, dict(meta=dict(dataset_meta=dict(classes=trained))))
    check('test', make_runner('test'), hook)
    assert bool(told) == warns
    assert not warns or "class 1 is 'car', but 'sky' in the checkpoint" in told[0]


def test_datasets_and_models_without_classes_are_left_alone():
    runner = SimpleNamespace(model=SimpleNamespace(), train_dataloader=SimpleNamespace(dataset=object()))
    CheckClassesHook().before_train(runner)
