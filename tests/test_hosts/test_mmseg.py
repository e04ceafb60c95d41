"""Our segmentor gives the labels of MMSegmentation's stock segmentor, without scores."""

import pickle

import pytest
import torch
from helpers import hosts
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope

NAMES = ('EncoderDecoder', 'mmmaskformer.EncoderDecoder')
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(40, 48))


def make_pair(test_cfg=None, num_classes=5):
    """The stock segmentor and ours with the same weights; the queries differ from each other."""
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
def test_inference_that_needs_scores_uses_the_hosts_code(change):
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


FCN = dict(
    type='FCNHead',
    in_channels=4,
    in_index=0,
    channels=8,
    num_convs=1,
    num_classes=5,
    norm_cfg=dict(type='BN'),
    dropout_ratio=0,
    loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
)


def make_fcn(segmentor, test_cfg):
    """A segmentor with a head of MMSegmentation."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    settings = dict(backbone=hosts.TINY_RESNET, decode_head=FCN, data_preprocessor=hosts.PREPROCESSOR)
    model = MODELS.build(ConfigDict(type=segmentor, train_cfg=dict(), test_cfg=test_cfg, **settings)).eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    return model


@torch.no_grad()
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
@pytest.mark.parametrize('augmented', [False, True])
def test_another_head_uses_the_hosts_code(test_cfg, augmented):
    results = []
    for name in NAMES:
        model = make_fcn(name, test_cfg)
        image, sample = hosts.make_sample((75, 100), ori_shape=(150, 210), img_path='a.jpg')
        data = dict(inputs=[image], data_samples=[sample])
        if augmented:
            model = MODELS.build(dict(type='SegTTAModel', module=model))
            data = {key: [value, value] for key, value in data.items()}
        results.append(model.test_step(data)[0])
    stock, ours = results
    assert torch.equal(ours.pred_sem_seg.data, stock.pred_sem_seg.data)
    assert len(ours.pred_sem_seg.data.unique()) > 1
    assert augmented or torch.equal(ours.seg_logits.data, stock.seg_logits.data)


def test_another_head_is_trained_as_in_the_host():
    stock, ours = (make_fcn(name, dict(mode='whole')).train() for name in NAMES)
    image, sample = hosts.make_sample((64, 96))
    expected, found = (
        model.loss(**model.data_preprocessor(dict(inputs=[image] * 2, data_samples=[sample.clone(), sample]), True))
        for model in (stock, ours)
    )
    assert expected.keys() == found.keys() and torch.equal(expected['decode.loss_ce'], found['decode.loss_ce'])


@torch.no_grad()
@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
def test_stock_test_time_augmentation_gets_the_scores(test_cfg):
    results = []
    for model in make_pair(test_cfg):
        inputs, samples = [], []
        for size, flip in (((75, 100), False), ((60, 80), True)):
            image, sample = hosts.make_sample(size, ori_shape=(90, 120), flip=flip, img_path='a.jpg')
            sample.set_metainfo(dict(flip_direction='horizontal' if flip else None))
            inputs.append([image])
            samples.append([sample])
        model.double().data_preprocessor.double()
        tta = MODELS.build(dict(type='SegTTAModel', module=model))
        results.append(tta.test_step(dict(inputs=inputs, data_samples=samples))[0])
    stock, ours = results
    torch.testing.assert_close(ours.seg_logits.data, stock.seg_logits.data, atol=1e-9, rtol=0)
    assert torch.equal(ours.pred_sem_seg.data, stock.pred_sem_seg.data) and len(ours.pred_sem_seg.data.unique()) > 1


@torch.no_grad()
def test_scores_are_those_of_the_last_prediction():
    _, model = make_pair()
    _, sample = hosts.make_sample((64, 96), flip=False)
    scores = []
    for seed in (0, 1, 0):
        image, _ = hosts.make_sample((64, 96), seed=seed)
        (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
        scores.append(found.seg_logits.data)
    assert torch.equal(scores[0], scores[2]) and not torch.equal(scores[0], scores[1])


@torch.no_grad()
def test_scores_of_a_plain_result_lead_to_the_stock_class():
    _, model = make_pair()
    image, sample = hosts.make_sample((64, 96), img_path='a.jpg')
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    with pytest.raises(AttributeError, match="a.jpg: the data sample has no 'seg_logits'.*model.type='EncoderDecoder'"):
        found.seg_logits  # noqa: B018
    assert not hasattr(found, 'seg_logits') and set(found.to_dict()) >= {'pred_sem_seg', 'gt_sem_seg'}
    again = pickle.loads(pickle.dumps(found.clone()))
    assert torch.equal(again.pred_sem_seg.data, found.cpu().pred_sem_seg.data)


@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE])
@pytest.mark.parametrize('augmented', [False, True])
def test_labels_are_the_same_where_gradients_are_recorded(test_cfg, augmented):
    _, model = make_pair(test_cfg)
    results = []
    for recorded in (False, True):
        image, sample = hosts.make_sample((75, 100))
        data = dict(inputs=[image], data_samples=[sample])
        wrapped = model
        if augmented:
            wrapped = MODELS.build(dict(type='mmmaskformer.SemanticTTAModel', module=model))
            data = {key: [value, value] for key, value in data.items()}
        with torch.set_grad_enabled(recorded):
            data = data if augmented else model.data_preprocessor(data)
            found = wrapped.test_step(data) if augmented else wrapped.predict(**data)
        results.append(found[0].pred_sem_seg.data)
    assert torch.equal(*results) and len(results[0].unique()) > 1


@torch.no_grad()
def test_inputs_padded_at_the_left_use_the_hosts_code():
    stock, ours = make_pair()
    image, sample = hosts.make_sample((64, 96), ori_shape=(60, 80), img_padding_size=(10, 6, 3, 1))
    inputs = stock.data_preprocessor(dict(inputs=[image], data_samples=[sample.clone()]))['inputs']
    expected, found = (model.predict(inputs, [sample.clone()])[0] for model in (stock, ours))
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)
    torch.testing.assert_close(found.seg_logits.data, expected.seg_logits.data)


@pytest.mark.parametrize('with_samples', [True, False])
@pytest.mark.parametrize('name', ['channel_conversion', '_channel_conversion'])
def test_images_of_different_sizes_are_normalised_alike_in_both_stacks(name, with_samples):
    """The maintained fork of MMSegmentation uses the attribute name of mmengine's `ImgDataPreprocessor`."""
    preprocessor = make_fcn(NAMES[1], dict(mode='whole')).data_preprocessor
    for found in ('channel_conversion', '_channel_conversion'):
        vars(preprocessor).pop(found, None)
    setattr(preprocessor, name, True)
    pairs = [hosts.make_sample(size) for size in ((40, 60), (50, 30))]
    images, samples = zip(*pairs, strict=True)
    data = dict(inputs=list(images)) | (dict(data_samples=list(samples)) if with_samples else {})
    found = preprocessor(data)
    assert found['inputs'].shape == (2, 3, 64, 64)
    mean, std = (torch.tensor(hosts.PREPROCESSOR[key]).view(3, 1, 1) for key in ('mean', 'std'))
    for batched, image in zip(found['inputs'], images, strict=True):
        height, width = image.shape[1:]
        torch.testing.assert_close(batched[:, :height, :width], (image.flip(0).float() - mean) / std)
        assert not batched[:, height:].any() and not batched[:, :, width:].any()
    if with_samples:
        assert [sample.img_padding_size for sample in found['data_samples']] == [(0, 4, 0, 24), (0, 34, 0, 14)]


def test_a_label_map_of_another_size_than_its_image_is_named():
    preprocessor = MODELS.build(hosts.PREPROCESSOR)
    image, sample = hosts.make_sample((50, 70), img_path='images/a.jpg')
    data = dict(inputs=[image[:, :40]], data_samples=[sample])
    with pytest.raises(ValueError, match=r'image images/a.jpg is \(40, 70\) .*, but its label map is \(50, 70\)'):
        preprocessor(data, training=True)
    # In tests, labels keep the size of the file.
    assert preprocessor(data, training=False)['inputs'].shape == (1, 3, 64, 96)


def test_a_batch_that_no_transform_packed_is_refused():
    model = hosts.make_segmentor(segmentor='mmmaskformer.EncoderDecoder')
    detector = hosts.make_detector()
    detector.data_preprocessor = MODELS.build(hosts.DET_PREPROCESSOR | dict(type='mmmaskformer.DetDataPreprocessor'))
    for kind in (model, detector):
        with pytest.raises(KeyError, match=r"keys \['img'\], but no 'inputs'.*Fix: end the pipeline with"):
            kind.data_preprocessor(dict(img=[1]), False)
