import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import hosts
from torch import nn

from mmmaskformer.core.training.points import PointMaskLoss
from mmmaskformer.hosts.hooks import CheckClassesHook, RepeatableRunHook, ShareWeightsHook


def draw_at(iteration, seed=3):
    torch.rand(iteration + 5)  # earlier random numbers must not matter
    RepeatableRunHook().before_train_iter(SimpleNamespace(seed=seed, iter=iteration), iteration)
    return torch.rand(4)


def test_dropout_depends_on_seed_and_iteration_only():
    assert torch.equal(draw_at(7), draw_at(7))
    assert not torch.equal(draw_at(7), draw_at(8))
    assert not torch.equal(draw_at(7), draw_at(7, seed=4))


def test_ranks_draw_differently(monkeypatch):
    first = draw_at(7)
    monkeypatch.setattr('mmmaskformer.hosts.hooks.get_rank', lambda: 1)
    assert not torch.equal(first, draw_at(7))


def test_augmentation_starts_from_the_seed():
    def draw():
        random.random(), np.random.rand(3)
        RepeatableRunHook().before_train(SimpleNamespace(seed=2**31 + 5, model=nn.Identity()))
        return random.random(), np.random.rand()

    assert draw() == draw()


def test_points_with_a_seed_depend_on_the_iteration_and_not_on_those_before():
    def draws(iterations):
        loss = PointMaskLoss(seed=3)
        model = nn.ModuleList([loss, loss.matching_cost()])
        runner, hook = SimpleNamespace(seed=1, model=model), RepeatableRunHook()
        hook.before_train(runner)
        for runner.iter in iterations:
            hook.before_train_iter(runner, runner.iter)
            found = [part.points.draw(1, 4, device=torch.device('cpu')) for part in model for _ in range(2)]
        return found

    whole, resumed = draws(range(5)), draws([4])
    assert all(map(torch.equal, whole, resumed))
    others = [*whole, *draws([3])]
    assert not any(torch.equal(a, b) for i, a in enumerate(others) for b in others[:i])


class Streets:
    metainfo = dict(classes=('road', 'car', 'sky'))
    ignore_index = 255


def make_runner(stage, model=None, metric_ignores=255, **head):
    head = dict(ignore_index=255, num_classes=3) | head
    model = model or SimpleNamespace(
        decode_head=SimpleNamespace(**head), data_preprocessor=SimpleNamespace(seg_pad_val=255)
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
    runner.model.decode_head.num_classes = 150
    with pytest.raises(
        ValueError, match=f'{stage}_dataloader: Streets has 3 classes.*num_classes=150. Fix: .*num_classes=3'
    ):
        check(stage, runner)


def test_the_model_inside_test_time_augmentation_is_checked():
    from mmmaskformer.hosts.tta import SemanticTTAModel

    class Segmentor(torch.nn.Module):
        decode_head = SimpleNamespace(num_classes=150)

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


def load(hook, trained, cfg):
    checkpoint = dict(meta=dict(dataset_meta=dict(classes=trained)))
    hook.after_load_checkpoint(SimpleNamespace(cfg=cfg, work_dir='work_dirs/none'), checkpoint)


@pytest.mark.parametrize('trained, warns', [(('road', 'bus', 'sky'), True), (('road', 'car', 'sky'), False)])
def test_a_checkpoint_with_other_names_is_reported(monkeypatch, trained, warns):
    messages = []
    monkeypatch.setattr('mmmaskformer.hosts.hooks.print_log', lambda message, **_: messages.append(message))
    hook = CheckClassesHook()
    load(hook, trained, dict(load_from='a.pth'))
    check('test', make_runner('test'), hook)
    assert bool(messages) == warns
    assert not warns or "class 1 is 'car', but 'bus' in checkpoint a.pth" in messages[0]


def test_a_checkpoint_with_the_same_classes_in_another_order_is_refused(tmp_path):
    hook = CheckClassesHook()
    load(hook, ('road', 'sky', 'car'), dict(load_from='a.pth'))
    with pytest.raises(
        ValueError, match=r"class 1 is 'car', but 'sky' in checkpoint a.pth.*classes=\('road', 'sky', 'car'"
    ):
        check('test', make_runner('test'), hook)
    # A resumed run names no checkpoint: it uses the newest one in its folder.
    (tmp_path / 'last_checkpoint').write_text('iter_9.pth')
    checkpoint = dict(meta=dict(dataset_meta=dict(classes=('sky', 'road', 'car'))))
    hook.after_load_checkpoint(SimpleNamespace(cfg=dict(), work_dir=str(tmp_path)), checkpoint)
    with pytest.raises(ValueError, match='in checkpoint iter_9.pth'):
        check('train', make_runner('train'), hook)


def test_every_dataset_inside_wrappers_is_checked():
    class Other(Streets):
        metainfo = dict(classes=('road', 'sky', 'car'))

    wrapped = SimpleNamespace(dataset=SimpleNamespace(datasets=[Streets(), SimpleNamespace(dataset=Streets())]))
    runner = make_runner('train')
    runner.train_dataloader.dataset = wrapped
    check('train', runner)
    runner.model.decode_head.num_classes = 4
    with pytest.raises(ValueError, match='train_dataloader: Streets has 3 classes'):
        check('train', runner)
    wrapped.dataset.datasets.append(Other())
    with pytest.raises(ValueError, match=r"disagree on 'classes': Streets has .*'car', 'sky'\), Other has"):
        check('train', SimpleNamespace(train_dataloader=runner.train_dataloader, model=make_runner('train').model))


def test_a_list_of_class_lists_in_a_checkpoint_is_not_a_class_list():
    hook = CheckClassesHook()
    checkpoint = dict(meta=dict(dataset_meta=[dict(classes=('a', 'b', 'c'))] * 2))
    hook.after_load_checkpoint(SimpleNamespace(cfg=dict(load_from='a.pth'), work_dir='none'), checkpoint)
    check('test', make_runner('test'), hook)


def make_detector_runner(**heads):
    is_thing = torch.tensor([False, True, False])
    parts = {
        key: SimpleNamespace(num_classes=3, is_thing=is_thing) for key in ('panoptic_head', 'panoptic_fusion_head')
    }
    runner = make_runner('val', SimpleNamespace(**(parts | heads)))
    runner.val_dataloader.dataset.metainfo = Streets.metainfo | dict(isthing=(False, True, False))
    return runner


@pytest.mark.parametrize('key', ['panoptic_head', 'panoptic_fusion_head'])
def test_both_heads_of_a_detector_are_checked(key):
    check('val', make_detector_runner())
    other = SimpleNamespace(num_classes=3, is_thing=torch.tensor([False, True, True]))
    message = rf"class 2 'sky' is stuff, but a thing in model.{key}.things. Fix: set model.{key}.things=\[1\]"
    with pytest.raises(ValueError, match=message):
        check('val', make_detector_runner(**{key: other}))
    other = SimpleNamespace(num_classes=4, is_thing=torch.tensor([False, True, False, True]))
    with pytest.raises(ValueError, match=rf'has 3 classes.*{key}.num_classes=4. Fix: set model.{key}.num_classes=3'):
        check('val', make_detector_runner(**{key: other}))


def test_heads_of_mmdetection_that_count_their_things_are_checked():
    stock = SimpleNamespace(num_classes=3, num_things_classes=1, num_stuff_classes=2)
    message = "class 0 'road' is stuff, but a thing in model.panoptic_fusion_head, whose .* assumes that things"
    with pytest.raises(ValueError, match=message):
        check('val', make_detector_runner(panoptic_fusion_head=stock))


def test_datasets_and_models_without_classes_are_not_checked():
    runner = SimpleNamespace(model=SimpleNamespace(), train_dataloader=SimpleNamespace(dataset=object()))
    CheckClassesHook().before_train(runner)


@pytest.mark.parametrize('theirs, ours', [('decode_head', 'panoptic_head'), ('panoptic_head', 'decode_head')])
def test_weights_of_one_host_load_into_the_head_of_the_other(theirs, ours):
    runner = SimpleNamespace(model=SimpleNamespace(**{ours: object()}))
    weights = {'backbone.stem': 1, f'{theirs}.classifier.class_embed.bias': 2, f'{theirs}.conv_seg.weight': 3}
    checkpoint = dict(state_dict=dict(weights))
    ShareWeightsHook().after_load_checkpoint(runner, checkpoint)
    expected = {'backbone.stem': 1, f'{ours}.classifier.class_embed.bias': 2, f'{theirs}.conv_seg.weight': 3}
    assert checkpoint['state_dict'] == expected
    same = dict(state_dict=dict(weights))
    ShareWeightsHook().after_load_checkpoint(SimpleNamespace(model=SimpleNamespace(**{theirs: object()})), same)
    assert same['state_dict'] == weights


def test_a_semantic_checkpoint_starts_a_panoptic_model(tmp_path):
    decoder = dict(pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=4))
    semantic, panoptic = hosts.make_segmentor(**decoder), hosts.make_detector(**decoder)
    torch.nn.init.normal_(semantic.decode_head.classifier.class_embed.weight)
    checkpoint = dict(state_dict=semantic.state_dict())
    ShareWeightsHook().after_load_checkpoint(SimpleNamespace(model=panoptic), checkpoint)
    result = panoptic.load_state_dict(checkpoint['state_dict'], strict=False)
    assert not result.missing_keys
    for ours, theirs in zip(panoptic.panoptic_head.parameters(), semantic.decode_head.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_that_holds_no_weights_is_named():
    runner = SimpleNamespace(_load_from='a.pth')
    with pytest.raises(ValueError, match='^checkpoint a.pth: found a list, expected a dict of weights, or one with'):
        ShareWeightsHook().after_load_checkpoint(runner, [1, 2])


def test_parts_of_mmdetection_that_cannot_read_a_thousand_classes_are_refused():
    import mmdet.engine.hooks
    import mmdet.evaluation

    drawn, hidden = (object.__new__(mmdet.engine.hooks.DetVisualizationHook) for _ in range(2))
    drawn.draw, hidden.draw = True, False
    metric = object.__new__(mmdet.evaluation.CocoPanopticMetric)
    metric.tmp_dir = None  # read when it is deleted
    head = SimpleNamespace(num_classes=1000, outputs={'panoptic': {}})
    for count, metrics, hooks, part in (
        (1000, [metric], [], 'CocoPanopticMetric'),
        (1000, [], [drawn], 'DetVisualizationHook'),
        (1000, [], [hidden], None),
        (999, [metric], [drawn], None),
    ):
        head.num_classes = count
        runner = make_runner('test', model=SimpleNamespace(panoptic_fusion_head=head))
        runner.test_dataloader.dataset = SimpleNamespace()
        runner.test_evaluator.metrics, runner.hooks = metrics, hooks
        if part is None:
            check('test', runner)
        else:
            with pytest.raises(ValueError, match=rf'test_dataloader: {part} reads .*num_classes=1000. Fix: use'):
                check('test', runner)


def test_weights_by_class_name_are_looked_up_before_training():
    weights = dict(class_weight=dict(car=3.0))
    model = hosts.make_segmentor(num_classes=3, criterion=dict(type='mmmaskformer.SetCriterion', **weights))
    data = dict(zip(('inputs', 'data_samples'), map(list, zip(hosts.make_sample((64, 96), num_classes=3), strict=True)),
                    strict=True))  # fmt: skip
    data = model.data_preprocessor(data, training=True)
    with pytest.raises(ValueError, match=r"class_weight names \['car'\], but the class list is unknown. Fix: keep"):
        model.loss(**data)
    runner = make_runner('train')
    runner.model = model
    check('train', runner)
    assert model.decode_head.criterion.class_weight.tolist() == [1.0, 3.0, 1.0]
    assert torch.isfinite(model.loss(**data)['decode.loss_cls'])
    model = hosts.make_segmentor(num_classes=3, criterion=dict(type='SetCriterion', class_weight=dict(cat=3.0)))
    runner.model = model
    with pytest.raises(
        ValueError,
        match=r"^model.decode_head.criterion.class_weight names the class 'cat'; expected one of \['road', 'car'",
    ):
        check('train', runner)
