import pytest
import torch
from helpers import hosts
from mmengine.registry import MODELS

from mmmaskformer.core.inference.pooling import SegmentPool
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference


def views_of(model, image, sample, flips):
    """The inputs of `BaseTTAModel`: for each view, the image, flipped or not, and its sample."""
    samples = []
    for flip in flips:
        view = sample.clone()
        view.set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None))
        samples.append(view)
    return dict(
        inputs=[[image.flip(-1) if flip else image] for flip in flips], data_samples=[[view] for view in samples]
    )


@torch.no_grad()
def test_scores_of_the_views_are_averaged_without_another_softmax():
    segmentor = hosts.make_segmentor()
    image, sample = hosts.make_sample((64, 96))
    plain = segmentor.test_step(dict(inputs=[image], data_samples=[sample.clone()]))[0].seg_logits.data
    mirrored = segmentor.test_step(dict(inputs=[image.flip(-1)], data_samples=[sample.clone()]))[0].seg_logits.data
    tta = MODELS.build(dict(type='mmmaskformer.SemanticTTAModel', module=segmentor))
    merged = tta.test_step(views_of(segmentor, image, sample, (False, True)))[0]
    expected = (plain + mirrored.flip(-1)) / 2
    torch.testing.assert_close(merged.seg_logits.data, expected)
    assert torch.equal(merged.pred_sem_seg.data, expected.argmax(0, keepdim=True))
    assert 'gt_sem_seg' in merged and merged.seg_map_path == 'labels/a.png'


@torch.no_grad()
def test_one_view_equals_no_augmentation():
    segmentor = hosts.make_segmentor()
    image, sample = hosts.make_sample((50, 70))
    plain = segmentor.test_step(dict(inputs=[image], data_samples=[sample.clone()]))[0]
    tta = MODELS.build(dict(type='mmmaskformer.SemanticTTAModel', module=segmentor))
    merged = tta.test_step(views_of(segmentor, image, sample, (False,)))[0]
    assert torch.equal(merged.seg_logits.data, plain.seg_logits.data)


def panoptic_views(flips, sizes=None, **meta):
    """Views of one image, mirrored or not, and scaled to ``sizes``."""
    image, sample = hosts.make_panoptic_sample((64, 96), **meta)
    inputs, samples = [], []
    for flip, size in zip(flips, sizes or [(64, 96)] * len(flips), strict=True):
        view = sample.clone()
        view.set_metainfo(dict(flip=flip, flip_direction='horizontal' if flip else None, img_shape=size))
        scaled = torch.nn.functional.interpolate(image[None].float(), size=size, mode='bilinear')[0].byte()
        inputs.append([scaled.flip(-1) if flip else scaled])
        samples.append([view])
    return dict(inputs=inputs, data_samples=samples)


def make_panoptic_tta(**test_cfg):
    detector = hosts.make_detector(dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.0)) | test_cfg)
    return detector, MODELS.build(dict(type='mmmaskformer.PanopticTTAModel', module=detector))


@torch.no_grad()
def test_panoptic_views_are_pooled_and_scores_averaged_at_the_original_size():
    detector, tta = make_panoptic_tta(semantic=dict())
    views = panoptic_views((False, True, False), [(64, 96), (64, 96), (50, 70)], ori_shape=(75, 113))
    merged = tta.test_step(views)[0]
    pool = SegmentPool(is_thing=detector.panoptic_head.is_thing, object_threshold=0.0, overlap_threshold=0.0)
    total = 0
    for (image,), (sample,) in zip(views['inputs'], views['data_samples'], strict=True):
        batch = detector.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
        prediction = detector.panoptic_head.classifier(detector.extract_feat(batch['inputs']), all_layers=False)[-1]
        size = tuple(batch['inputs'].shape[-2:])
        masks = QueryMasks.of_logits(prediction.mask_logits(0), size, image.shape[1:], (75, 113), sample.flip)
        pool.add(prediction.class_logits[0], masks)
        total = total + semantic_inference(prediction.class_logits[0], masks, resize_masks_first=True)
    expected = pool.result()
    assert len(expected.labels)
    assert merged.pred_panoptic_seg.sem_seg.shape == (1, 75, 113)
    for number, segment in enumerate(merged.pred_panoptic_seg.segments, start=1):
        found = merged.pred_panoptic_seg.sem_seg[0] == segment['id']
        assert torch.equal(found, expected.ids == number)
    assert torch.equal(merged.pred_sem_seg.sem_seg[0], total.argmax(0).int())
    assert merged.seg_map_path == 'panoptic/a.png'


@torch.no_grad()
def test_one_panoptic_view_gives_the_scores_of_no_augmentation():
    detector, tta = make_panoptic_tta(semantic=dict())
    data = panoptic_views((False,))
    plain = detector.test_step(dict(inputs=data['inputs'][0], data_samples=[data['data_samples'][0][0].clone()]))[0]
    assert torch.equal(tta.test_step(data)[0].pred_sem_seg.sem_seg, plain.pred_sem_seg.sem_seg)


def test_results_without_test_time_augmentation_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"has \['detr', 'instance'\].*--cfg-options model.test_cfg.detr=None"):
        make_panoptic_tta(detr=dict(), instance=dict())


def test_a_view_mirrored_upside_down_is_refused():
    _, tta = make_panoptic_tta()
    views = panoptic_views((True,), img_path='a.jpg')
    views['data_samples'][0][0].set_metainfo(dict(flip_direction='vertical'))
    with pytest.raises(ValueError, match="a.jpg: a view is flipped 'vertical'; expected 'horizontal'"):
        tta.test_step(views)
