"""User-defined results: each takes a function, one registration and one entry of ``test_cfg``."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import hosts
from mmengine.registry import MODELS
from PIL import Image

from mmmaskformer.core.checks import FRACTION
from mmmaskformer.core.inference.panoptic import general_inference
from mmmaskformer.core.segments import Segments
from mmmaskformer.evaluation import PanopticMetric, SemanticMetric
from mmmaskformer.heads import results
from mmmaskformer.heads.results import INSTANCES, PANOPTIC, SEMANTIC, ResultKind, register_result, result_kinds
from mmmaskformer.visualization.samples import ClassList, read_example, require_field

CLASSES = ClassList('abcde', [[40 * label] * 3 for label in range(5)], [False, True, False, True, False], 255)


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """A table of results that is restored after the test."""
    monkeypatch.setattr(results, '_KINDS', dict(result_kinds()))


def thing_labels(class_logits, masks, *, is_thing, object_threshold=0.5):
    """Labels (H, W) of things only, K elsewhere."""
    labels = general_inference(class_logits, masks, object_threshold=object_threshold)
    return torch.where(torch.cat([is_thing, is_thing[:1] & False])[labels], labels, len(is_thing))


def presence(class_logits, masks, *, power=1.0):
    """The highest probability of each class, (K,)."""
    return class_logits.softmax(-1)[:, :-1].amax(0) ** power


class MostPresent:
    """The maximum over all views."""

    def __init__(self, **settings):
        self.settings, self.found = settings, []

    def add(self, class_logits, masks):
        self.found.append(presence(class_logits, masks, **self.settings))

    def result(self):
        return torch.stack(self.found).amax(0)


def register_presence():
    kind = ResultKind(
        'presence', presence, field='pred_presence', pack=lambda found, classes: found[: classes.num_classes],
        merge=MostPresent, defaults=dict(power=2.0),
    )  # fmt: skip
    return register_result(kind)


@torch.no_grad()
def predict(test_cfg, **meta):
    model = hosts.make_detector(test_cfg)
    classifier = model.panoptic_head.classifier
    # Every query has its own class and mask.
    favourite = 3 * torch.eye(6)[torch.arange(7) % 5]
    classifier.class_embed.register_forward_hook(lambda module, inputs, logits: logits + favourite)
    classifier.transformer_decoder.query_embed.weight.mul_(10)
    classifier.mask_embed.layers[-1].weight.mul_(20)
    image, sample = hosts.make_panoptic_sample((64, 96), **meta)
    return model, model.test_step(dict(inputs=[image], data_samples=[sample]))[0]


def test_a_custom_label_map_is_predicted_drawn_and_evaluated(tmp_path):
    register_result(ResultKind('thing_labels', thing_labels, field='pred_thing_labels', form=SEMANTIC))
    path = str(tmp_path / 'a.png')
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path)
    loose = dict(object_threshold=0.0)
    _, sample = predict(dict(general=loose, thing_labels=loose), img_path=path, seg_map_path=None)
    general, found = sample.pred_general_seg.sem_seg, sample.pred_thing_labels.sem_seg
    assert found.dtype == torch.int32 and sample.pred_thing_labels.ignore_index == 5
    assert torch.equal(found, torch.where((general == 1) | (general == 3), general, 5))
    assert len(found.unique()) > 1, 'a thing and something else'

    require_field('pred_thing_labels')
    _, example = read_example(sample, CLASSES, 'pred_thing_labels')
    drawn = np.append(5, example.prediction.labels)[example.prediction.ids]
    np.testing.assert_array_equal(drawn, found[0].numpy())

    metric = SemanticMetric(field='pred_thing_labels', classwise=False)
    metric.dataset_meta = dict(classes=tuple('abcde'))
    truth = dict(gt_sem_seg=dict(data=torch.where(found == 5, 255, found)))
    metric.process(None, [sample.to_dict() | truth])
    assert metric.evaluate(1)['mIoU'] == 100


def test_a_custom_result():
    register_presence()
    _, sample = predict(dict(panoptic=dict(), presence=dict()))
    assert sample.pred_presence.shape == (5,) and 'pred_panoptic_seg' in sample
    _, plain = predict(dict(presence=dict(power=1.0)))
    torch.testing.assert_close(sample.pred_presence, plain.pred_presence**2)
    with pytest.raises(TypeError, match=r"model.test_cfg.presence does not take the key 'powr'. Did you mean 'power'"):
        predict(dict(presence=dict(powr=1)))
    with pytest.raises(ValueError, match="field: found 'pred_presence', expected None or one of"):
        require_field('pred_presence')


def test_a_custom_result_gives_its_own_meaning_to_the_names_of_our_settings():
    def large_labels(class_logits, masks, *, min_area=0.1):
        return (masks.logits() > 0).double().mean((1, 2)).gt(min_area).expand(*masks.out_size, -1).any(-1).int()

    kind = ResultKind('large_labels', large_labels, field='pred_large_labels', form=SEMANTIC)
    register_result(replace(kind, name='checked', field='pred_checked', checks={'min_area': FRACTION}))
    register_result(kind)
    _, sample = predict(dict(large_labels=dict(min_area=0.05)))
    assert sample.pred_large_labels.sem_seg.shape == (1, 64, 96)
    with pytest.raises(ValueError, match='test_cfg.checked.min_area: found 5, expected a number in'):
        predict(dict(checked=dict(min_area=5)))
    with pytest.raises(ValueError, match='test_cfg.detr.min_area: found 0.05, expected a whole number'):
        predict(dict(detr=dict(min_area=0.05)))


def segments(ids, labels=None, count=7, **table):
    labels = torch.zeros(count, dtype=torch.long) if labels is None else labels
    return Segments(ids, labels, torch.ones(len(labels)), **table)


@pytest.mark.parametrize(
    'form, infer, message',
    [
        (SEMANTIC, lambda masks: masks.coarse_logits().argmax(0), r'is \(16, 24\) int64, expected \(64, 96\) integer'),
        (SEMANTIC, lambda masks: masks.logits().amax(0), r'\(64, 96\) float32, expected .* labels, 5 for no class'),
        (SEMANTIC, lambda masks: masks.logits().argmax(0).numpy(), 'the result is a ndarray'),
        (SEMANTIC, lambda masks: masks.logits().argmax(0) - 9, 'labels from -9 to -[0-9], expected at least 0'),
        (PANOPTIC, lambda masks: masks.logits().argmax(0), r'found \(64, 96\) int64, expected Segments'),
        (PANOPTIC, lambda masks: segments(masks.coarse_logits().argmax(0)), r'ids is \(16, 24\) int64'),
        (
            PANOPTIC,
            lambda masks: segments(masks.logits().argmax(0), torch.full((7,), 5)),
            'labels from 5 to 5, .* 0 to 4',
        ),
        (PANOPTIC, lambda masks: segments(masks.logits().argmax(0) + 3, count=2), 'expected 0 to 2'),
        (
            PANOPTIC,
            lambda masks: segments(masks.logits().argmax(0)),
            'class 0 is stuff and has [2-7] segments, expected one',
        ),
        (PANOPTIC, lambda masks: Segments(masks.logits().argmax(0), torch.zeros(7).long()), 'scores are a NoneType'),
        (PANOPTIC, lambda masks: segments(masks.logits().argmax(0), listed_ids=torch.arange(7)), 'found listed_ids'),
        (INSTANCES, lambda masks: masks.logits() > 0, r'found \(7, 64, 96\) bool, expected labels, scores, masks'),
        (
            INSTANCES,
            lambda masks: (torch.zeros(7).long(), torch.ones(7), masks.coarse_logits() > 0, torch.zeros(7, 4)),
            r'masks are \(7, 16, 24\) bool, expected \(7, 64, 96\) bool at the size of the output',
        ),
    ],
)
def test_a_custom_result_that_is_not_of_its_form_is_refused(form, infer, message):
    register_result(ResultKind('mine', lambda class_logits, masks: infer(masks), field='pred_mine', form=form))
    with pytest.raises(ValueError, match=f"result 'mine' \\(form '{form}'\\).*{message}"):
        predict(dict(mine=dict()))


@torch.no_grad()
def test_custom_results_are_merged_in_test_time_augmentation():
    register_presence()
    model, _ = predict(dict(presence=dict()))
    image, sample = hosts.make_panoptic_sample((64, 96))
    views, single = [], []
    for flip in (False, True):
        view = sample.clone()
        view.set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None))
        views.append((image.flip(-1) if flip else image, view))
        single.append(model.test_step(dict(inputs=[views[-1][0]], data_samples=[view.clone()]))[0].pred_presence)
    tta = MODELS.build(dict(type='mmmaskformer.PanopticTTAModel', module=model))
    merged = tta.test_step(dict(inputs=[[x] for x, _ in views], data_samples=[[view] for _, view in views]))[0]
    assert not torch.equal(*single)
    torch.testing.assert_close(merged.pred_presence, torch.stack(single).amax(0))


def test_conflicting_or_incomplete_entries_are_refused():
    row = dict(field='pred_presence', pack=lambda found, classes: found)
    register_result(ResultKind('presence', presence, **row))
    with pytest.raises(ValueError, match="field='pred_presence' is taken by the result 'presence'.*stands_in_for"):
        register_result(ResultKind('other', presence, **row))
    with pytest.raises(ValueError, match="name='semantic' is taken by the result 'semantic'"):
        register_result(ResultKind('semantic', presence, **row))
    with pytest.raises(ValueError, match="result 'bare': found form=None and pack=None, expected one of the forms"):
        ResultKind('bare', presence, field='pred_bare')


def test_metrics_refuse_results_of_a_form_that_they_cannot_read():
    with pytest.raises(ValueError, match=r"SemanticMetric.field: found 'pred_detr_seg', the result 'detr' of form"):
        SemanticMetric(field='pred_detr_seg')
    with pytest.raises(ValueError, match=r"PanopticMetric.field: found 'pred_instances'.*Expected one of \['pred_pan"):
        PanopticMetric(field='pred_instances')
    metric = PanopticMetric(field='pred_detr_seg')
    metric.dataset_meta = dict(classes=tuple('abcde'))
    with pytest.raises(KeyError, match=r'such as test_cfg=dict\(detr=dict\(\)\)'):
        metric.process(None, [dict(img_path='a.png')])


def test_stuff_segments_without_pixels_are_not_counted_twice():
    _, sample = predict(dict(detr=dict(object_threshold=0.0, min_area=0)))
    assert sample.pred_detr_seg.sem_seg.shape == (1, 64, 96)
