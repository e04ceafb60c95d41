"""Our segmentor finds the labels of MMSegmentation's stock segmentor, and no scores."""

import pytest
import torch
from helpers import hosts
from mmengine.registry import MODELS

NAMES = ('EncoderDecoder', 'mmmaskformer.EncoderDecoder')
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(40, 48))


def make_pair(test_cfg=None, num_classes=5):
    """The stock segmentor and ours with the same weights, and with queries that differ from each other."""
    stock, ours = (hosts.make_segmentor(None, test_cfg, segmentor=name, num_classes=num_classes) for name in NAMES)
    ours.load_state_dict(stock.state_dict())
    for model in (stock, ours):
        generator = torch.Generator().manual_seed(0)
        for name, width in (('class_embed', num_classes + 1), ('mask_embed', 16)):
            queries = 3 * torch.randn(7, width, generator=generator)
            add_to_output(getattr(model.decode_head.classifier, name), queries)
    return stock, ours


def add_to_output(module, value):
    module.register_forward_hook(lambda module, inputs, output: output + value.to(output))


def predict(model, image, samples):
    """Results of a batch of equal images in float64."""
    data = model.data_preprocessor(dict(inputs=[image] * len(samples), data_samples=samples))
    return model.double().predict(data['inputs'].double(), data['data_samples'])


@torch.no_grad()
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
@pytest.mark.parametrize('original', [(75, 100), (150, 210)])
@pytest.mark.parametrize('flip', [None, 'horizontal', 'vertical'])
def test_labels_equal_those_of_the_stock_class(test_cfg, original, flip):
    stock, ours = make_pair(test_cfg)
    meta = dict(ori_shape=original, flip=flip is not None, flip_direction=flip)
    image, _ = hosts.make_sample((75, 100))
    expected, found = (
        predict(model, image, [hosts.make_sample((75, 100), seed=i, **meta)[1] for i in range(2)])
        for model in (stock, ours)
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data.int())
        assert len(one.pred_sem_seg.data.unique()) > 1
        assert 'seg_logits' not in one
        assert one.gt_sem_seg.data is not None


@torch.no_grad()
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
def test_augmented_labels_equal_those_of_the_stock_class(test_cfg):
    results = []
    for model in make_pair(test_cfg):
        tta = MODELS.build(dict(type='mmmaskformer.SemanticTTAModel', module=model.double()))
        inputs, samples = [], []
        for size, flip in [((75, 100), False), ((75, 100), True), ((113, 150), True)]:
            image, sample = hosts.make_sample(size)
            sample.set_metainfo(dict(ori_shape=(90, 120), flip=flip, flip_direction='horizontal' if flip else None))
            inputs.append([image.double()])
            samples.append([sample])
        model.data_preprocessor.double()
        results.append(tta.test_step(dict(inputs=inputs, data_samples=samples))[0])
    assert torch.equal(results[1].pred_sem_seg.data, results[0].pred_sem_seg.data.int())
    assert len(results[1].pred_sem_seg.data.unique()) > 1
    assert results[1].seg_map_path == 'labels/a.png' and 'gt_sem_seg' in results[1]


@torch.no_grad()
@pytest.mark.parametrize('change', [dict(test_cfg=dict(mode='whole', inference='general')), dict(samples=None)])
def test_what_needs_scores_is_left_to_the_host(change):
    stock, ours = make_pair(change.get('test_cfg'))
    image, sample = hosts.make_sample((64, 96))
    data = stock.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    samples = change.get('samples', data['data_samples'])
    expected, found = (model.predict(data['inputs'], samples)[0].seg_logits.data for model in (stock, ours))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_847_classes():
    stock, ours = make_pair(num_classes=847)
    image, sample = hosts.make_sample((50, 70))
    expected, found = (predict(model, image, [sample.clone()])[0].pred_sem_seg.data for model in (stock, ours))
    assert torch.equal(found, expected.int())
    assert found.max() > 255


def test_a_label_map_of_another_size_than_its_image_is_named():
    preprocessor = MODELS.build(hosts.PREPROCESSOR)
    image, sample = hosts.make_sample((50, 70), img_path='images/a.jpg')
    data = dict(inputs=[image[:, :40]], data_samples=[sample])
    with pytest.raises(ValueError, match=r'image images/a.jpg is \(40, 70\) .*, its label map \(50, 70\)'):
        preprocessor(data, training=True)
    # For testing, labels keep the size of the file.
    assert preprocessor(data, training=False)['inputs'].shape == (1, 3, 64, 96)
