import torch
from helpers import hosts
from mmengine.registry import MODELS


def views_of(model, image, sample, flips):
    """The inputs of `BaseTTAModel`: per view the image, flipped or not, and its sample."""
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
