import logging

import pytest
import torch
from helpers import hosts, waits
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.instance import instance_inference
from mmmaskformer.core.inference.panoptic import general_inference, panoptic_inference
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference
from mmmaskformer.formats.mmdet_codes import decode_panoptic
from mmmaskformer.heads.results import Classes, pack_labels

EVERYTHING = dict(panoptic=dict(), detr=dict(), semantic=dict(), general=dict(), instance=dict())
IS_THING = torch.tensor([False, True, False, True, False])


def make_fusion(test_cfg=None, things=hosts.THINGS):
    from mmmaskformer.heads.fusion_head import MaskFormerFusionHead

    return MaskFormerFusionHead(num_classes=5, things=things, test_cfg=test_cfg)


def confident_outputs(seed=0, batch=2, num_queries=7):
    """Confident network outputs for which every kind of result is non-empty."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(batch, num_queries, 6, generator=generator)
    class_logits += 6 * torch.eye(6)[torch.randint(0, 6, (batch, num_queries), generator=generator)]
    owner = torch.randint(0, num_queries, (batch, 1, 4, 6), generator=generator)
    coarse = 8.0 * (owner == torch.arange(num_queries)[:, None, None]) - 4
    coarse += torch.randn(coarse.shape, generator=generator)
    return class_logits, torch.nn.functional.interpolate(coarse, size=(64, 96), mode='bilinear')


def samples(count=2):
    from mmdet.structures import DetDataSample

    return [DetDataSample(metainfo=dict(ori_shape=(75, 113), img_shape=(60, 90))) for _ in range(count)]


@pytest.fixture
def log():
    """Messages of mmengine's current logger."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@torch.no_grad()
def test_one_forward_pass_gives_all_results():
    model = hosts.make_detector(EVERYTHING | dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0)))
    calls = []
    model.panoptic_head.classifier.register_forward_hook(lambda *_: calls.append(1))
    image, sample = hosts.make_panoptic_sample((60, 90), ori_shape=(75, 113))
    result = model.test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert len(calls) == 1
    for field in ('pred_panoptic_seg', 'pred_detr_seg', 'pred_sem_seg', 'pred_general_seg'):
        assert getattr(result, field).sem_seg.shape == (1, 75, 113)
        assert getattr(result, field).sem_seg.dtype == torch.int32
    assert result.pred_instances.masks.shape[1:] == (75, 113)


def test_results_are_the_same_where_gradients_are_recorded():
    model = hosts.make_detector(EVERYTHING | dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0)))
    results = []
    for recorded in (False, True):
        image, sample = hosts.make_panoptic_sample((64, 96))
        with torch.set_grad_enabled(recorded):
            data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
            results.append(model.predict(data['inputs'], data['data_samples'])[0])
    plain, found = results
    for key in ('pred_panoptic_seg', 'pred_detr_seg', 'pred_sem_seg', 'pred_general_seg'):
        assert torch.equal(found.get(key).sem_seg, plain.get(key).sem_seg)
    for key in ('labels', 'scores', 'bboxes', 'masks'):
        value = found.pred_instances[key]
        assert torch.equal(value, plain.pred_instances[key]) and not value.requires_grad


@pytest.mark.parametrize('rescale', [True, False])
def test_results_equal_the_core_image_by_image(rescale):
    class_logits, mask_logits = confident_outputs()
    batch = samples()
    results = make_fusion(EVERYTHING).predict(class_logits, mask_logits, batch, rescale=rescale)
    size = (75, 113) if rescale else (60, 90)
    for image, (result, sample) in enumerate(zip(results, batch, strict=True)):
        masks = QueryMasks.of_logits(mask_logits[image], (64, 96), (60, 90), size)
        logits = class_logits[image]
        for found, function in ((result['pan_results'], panoptic_inference), (sample.pred_detr_seg, detr_inference)):
            expected = function(logits, masks, is_thing=IS_THING)
            decoded = decode_panoptic(found.sem_seg[0].numpy(), 5)
            ids, labels = decoded.ids, decoded.labels
            assert len(expected.labels) > 1
            assert sorted(labels.tolist()) == sorted(expected.labels.tolist())
            rows = {segment['id']: segment for segment in found.segments}
            assert list(rows) == [segment['id'] for segment in found.segments], 'ids are never used twice'
            for number, segment in enumerate(found.segments, start=1):
                mask = found.sem_seg[0] == segment['id']
                assert torch.equal(mask, expected.ids == number)
                assert segment['label'] == int(expected.labels[number - 1]) == segment['id'] % 1000
                assert (segment['id'] >= 1000) == bool(IS_THING[segment['label']] or segment['label'] == 0)
            assert ((ids == 0) == (expected.ids == 0).numpy()).all()
        general = general_inference(logits, masks)
        assert torch.equal(sample.pred_general_seg.sem_seg[0], general.to(torch.int32))
        semantic = semantic_inference(logits, masks, resize_masks_first=True).argmax(0)
        assert torch.equal(sample.pred_sem_seg.sem_seg[0], semantic.to(torch.int32))
        instances = instance_inference(logits, masks, is_thing=IS_THING)
        for key, value in zip(('labels', 'scores', 'masks', 'bboxes'), instances, strict=True):
            assert torch.equal(result['ins_results'][key], value)


def test_panoptic_and_instances_equal_mmdetections_fusion_head():
    import mmdet.models  # noqa: F401

    settings = dict(panoptic_on=True, instance_on=True, object_mask_thr=0.8, iou_thr=0.8, max_per_image=20)
    peer = MODELS.build(
        ConfigDict(type='mmdet.MaskFormerFusionHead', num_things_classes=2, num_stuff_classes=3, test_cfg=settings)
    )
    for seed in range(5):
        class_logits, mask_logits = confident_outputs(seed)
        ours = make_fusion(dict(panoptic=dict(), instance=dict(max_per_image=20)), things=[0, 1])
        found = ours.predict(class_logits, mask_logits, samples())
        expected = peer.predict(class_logits, mask_logits, samples(), rescale=True)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one['pan_results'].sem_seg, other['pan_results'].sem_seg)
            order = other['ins_results'].scores.argsort(descending=True)
            again = one['ins_results'].scores.argsort(descending=True)
            assert len(order) > 0
            for key in ('labels', 'scores', 'masks'):
                torch.testing.assert_close(one['ins_results'][key][again], other['ins_results'][key][order])
            # MMDetection's boxes, too, end just outside the mask.
            torch.testing.assert_close(one['ins_results'].bboxes[again], other['ins_results'].bboxes[order])


@torch.no_grad()
def test_our_head_works_with_mmdetections_fusion_head():
    fusion = dict(type='mmdet.MaskFormerFusionHead', num_things_classes=2, num_stuff_classes=3)
    config = hosts.detector_config(dict(panoptic_on=True, object_mask_thr=0.0, iou_thr=0.0), fusion, things=[0, 1])
    peer = MODELS.build(config).eval()
    model = hosts.make_detector(dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0)), things=[0, 1])
    model.panoptic_fusion_head = make_fusion(model.test_cfg, things=[0, 1])
    peer.load_state_dict(model.state_dict())
    image, _ = hosts.make_panoptic_sample((60, 90))
    maps = [
        detector.test_step(dict(inputs=[image], data_samples=[hosts.make_panoptic_sample((60, 90))[1]]))[0]
        for detector in (peer, model)
    ]
    assert torch.equal(maps[0].pred_panoptic_seg.sem_seg, maps[1].pred_panoptic_seg.sem_seg)


@pytest.mark.parametrize(
    'given', [dict(), dict(num_classes=5), dict(things=[3, 1]), dict(num_classes=5, things=(1, 3))]
)
def test_the_classes_are_those_of_the_panoptic_head(given):
    fusion = dict(type='mmmaskformer.MaskFormerFusionHead', **given)
    everything = dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0))
    model = hosts.make_detector(everything, fusion=fusion)
    assert model.panoptic_fusion_head.num_classes == 5
    assert torch.equal(model.panoptic_fusion_head.is_thing, IS_THING)
    assert not any('is_thing' in key for key in model.state_dict())
    image, sample = hosts.make_panoptic_sample((64, 96))
    result = model.test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert len(result.pred_panoptic_seg.segments)


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(num_classes=4), r'num_classes: found 4, expected 5 as in model.panoptic_head. Fix: remove it from '),
        (dict(things=[1, 2]), r'things: found \[1, 2\], expected \[1, 3\] as in model.panoptic_head'),
        (dict(things=[9]), r'things=\[9\] must be different labels from 0 to 4'),
        (dict(num_classes=5, things=[]), r'things: found \[\], expected \[1, 3\]'),
    ],
)
def test_classes_that_contradict_the_panoptic_head_are_refused(given, message):
    fusion = dict(type='mmmaskformer.MaskFormerFusionHead', **given)
    with pytest.raises(ValueError, match='model.panoptic_fusion_head.' + message):
        hosts.make_detector(fusion=fusion)


def test_the_classes_of_mmdetections_head_are_counted_from_the_first():
    class Detector(torch.nn.Module):
        """A detector with one of MMDetection's heads, which define their class counts."""

    model = Detector()
    model.panoptic_head = torch.nn.Identity()
    model.panoptic_head.num_things_classes, model.panoptic_head.num_stuff_classes = 2, 3
    model.panoptic_fusion_head = MODELS.build(dict(type='mmmaskformer.MaskFormerFusionHead'))
    assert model.panoptic_fusion_head.is_thing.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize('given', [dict(), dict(num_classes=5), dict(things=[1])])
def test_a_fusion_head_without_classes_is_refused(given):
    fusion = MODELS.build(dict(type='mmmaskformer.MaskFormerFusionHead', **given))
    with pytest.raises(ValueError, match='no panoptic_head to take them from. Fix: set both, or assign the head to'):
        fusion.predict(*confident_outputs(), samples())


def test_detr_or_general_results_alone_fill_the_fields_of_the_hosts_metrics():
    class_logits, mask_logits = confident_outputs()
    batch = samples()
    results = make_fusion(dict(detr=dict(), general=dict())).predict(class_logits, mask_logits, batch)
    assert results[0]['pan_results'] is batch[0].pred_detr_seg
    assert batch[0].pred_sem_seg is batch[0].pred_general_seg


def test_an_output_set_to_none_is_off():
    class_logits, mask_logits = confident_outputs()
    batch = samples()
    result = make_fusion(dict(panoptic=None, semantic=dict())).predict(class_logits, mask_logits, batch)[0]
    assert not result and 'pred_sem_seg' in batch[0] and 'pred_panoptic_seg' not in batch[0]


def test_empty_results_are_reported_once_with_the_highest_score(log):
    class_logits = torch.zeros(2, 7, 6)
    class_logits[0, 3, 2] = 2.0
    fusion = make_fusion(dict(panoptic=dict(object_threshold=0.9)))
    results = fusion.predict(class_logits, torch.zeros(2, 7, 64, 96), samples())
    assert all((result['pan_results'].sem_seg == 5).all() for result in results)
    highest = float(class_logits[0].softmax(-1)[:, :-1].max())
    messages = [message for message in log if 'No segment was found' in message]
    assert len(messages) == 1
    reason = (
        f'0 of 7 queries are above model.test_cfg.panoptic.object_threshold=0.9; the highest class probability is '
        f'{highest:.3f}.'
    )
    assert reason in messages[0]
    reasons = [result['pan_results'].why_empty for result in results]
    assert reasons[0].startswith(reason) and 'probability is 0.167.' in reasons[1], 'each image has its own'


def test_queries_without_pixels_are_reported_too(log):
    class_logits = torch.full((1, 2, 6), -9.0)
    class_logits[0, [0, 1], [1, 3]] = 9.0
    mask_logits = torch.full((1, 2, 64, 96), 9.0)
    mask_logits[0, 0, :32] = mask_logits[0, 1, 32:] = 8.0
    fusion = make_fusion(dict(panoptic=dict(overlap_threshold=0.99)))
    result = fusion.predict(class_logits, mask_logits, samples()[:1])[0]['pan_results']
    assert (result.sem_seg == 5).all() and not result.segments
    (message,) = [message for message in log if 'No segment was found' in message]
    assert 'each keeps a smaller part of its own mask than model.test_cfg.panoptic.overlap_threshold=0.99' in message


def test_the_smallest_area_is_named_where_it_emptied_the_image(log):
    class_logits = torch.full((1, 1, 6), -9.0)
    class_logits[0, 0, 1] = 9.0
    fusion = make_fusion(dict(detr=dict(min_area=10**6)))
    fusion.predict(class_logits, torch.ones(1, 1, 64, 96), samples()[:1])
    (message,) = [message for message in log if 'No segment was found' in message]
    assert 'is left with fewer pixels than model.test_cfg.detr.min_area=1000000' in message


def test_no_threshold_is_named_where_no_object_is_more_probable(log):
    class_logits = torch.zeros(1, 7, 6)
    class_logits[..., 5] = 1.0
    fusion = make_fusion(dict(panoptic=dict(object_threshold=0.1)))
    fusion.predict(class_logits, torch.zeros(1, 7, 64, 96), samples()[:1])
    (message,) = [message for message in log if 'No segment was found' in message]
    assert '"no object" is more probable in every query' in message and 'Train longer' in message


def test_settings_arrive_as_text_from_a_command_line():
    fusion = make_fusion(dict(panoptic='{}', semantic="{'resize_masks_first': False}"))
    assert fusion.outputs == dict(panoptic={}, semantic=dict(resize_masks_first=False))


@pytest.mark.parametrize('text', ['yes', '{', 'True', '[1]'])
def test_settings_that_are_not_a_dict_are_refused(text):
    with pytest.raises(TypeError, match=r'model.test_cfg.semantic: found .* Fix: model.test_cfg.semantic=\{\}'):
        make_fusion(dict(semantic=text))


def test_pixels_without_a_class_are_not_drawn_by_the_host():
    labels = pack_labels(torch.tensor([[0, 5]]), Classes(5, IS_THING))
    assert labels.ignore_index == 5 and labels.sem_seg.dtype == torch.int32


@pytest.mark.parametrize(
    'test_cfg, error, message',
    [
        (dict(panoptic_on=True), TypeError, "'panoptic_on'"),
        (dict(panoptic=dict(object_mask_thr=0.5)), TypeError, "'object_mask_thr'"),
        (dict(panoptic=None), ValueError, 'requests no result; expected one or more of'),
        (dict(), ValueError, 'requests no result'),
    ],
)
def test_wrong_settings_are_named(test_cfg, error, message):
    with pytest.raises(error, match=message):
        make_fusion(test_cfg)


@pytest.mark.parametrize('output', ['panoptic', 'general'])
def test_a_gpu_is_synchronised_once_per_image(output):
    fusion = make_fusion({output: dict()})
    with waits.counting() as counter:
        class_logits, mask_logits = torch.rand(2, 7, 6, device='cuda'), torch.rand(2, 7, 64, 96, device='cuda')
        fusion.is_thing = torch.zeros(5, dtype=torch.bool, device='cuda')
        fusion.predict(class_logits, mask_logits, samples())
    assert counter.waits == ['nonzero'] * 2
