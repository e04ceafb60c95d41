"""Invalid values in model configs raise an error that names the key as written, when the model is built."""

from types import SimpleNamespace

import pytest
import torch
from helpers import hosts
from helpers.saved_models import warnings_in_force
from mmengine.config import ConfigDict

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.heads import settings
from mmmaskformer.heads.results import result_kinds
from mmmaskformer.hosts.hooks import CheckClassesHook
from mmmaskformer.registry import MODELS

NAN = float('nan')
LOADER, EVALUATOR = SimpleNamespace(dataset=SimpleNamespace()), SimpleNamespace(metrics=[])


def encoder(**changes) -> dict:
    """Config of a pixel decoder with all its settings."""
    return dict(type='mmmaskformer.TransformerEncoderPixelDecoder', norm_groups=4, num_layers=1, num_heads=4) | changes


@pytest.mark.parametrize('output', result_kinds())
def test_every_setting_of_every_result_is_declared(output):
    kind = result_kinds()[output]
    assert kind.setting_names <= set(kind.checks)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(num_queries=7.5), r'num_queries: found 7.5, expected a whole number of at least 1'),
        (dict(num_queries=True), r'num_queries: found True'),
        (dict(num_classes='5'), r"num_classes: found '5'"),
        (dict(channels=0), r'channels: found 0'),
        (dict(feature_strides=[0, 8, 16, 32]), r'feature_strides: found \[0, 8, 16, 32\]'),
        (dict(in_channels=32), r'in_channels: found 32, expected a list, each a whole number of at least 1'),
        (dict(ignore_index=255.0), r'ignore_index: found 255.0'),
        (dict(pixel_decoder=encoder(dropout=1.5)), r'pixel_decoder.dropout: found 1.5, expected a number in \[0, 1\]'),
        (
            dict(pixel_decoder=encoder(norm_groups=3)),
            r'pixel_decoder.norm_groups: found 3, expected a divisor of .*=16',
        ),
        (dict(pixel_decoder=encoder(num_heads=3)), r'pixel_decoder.num_heads: found 3, expected a divisor'),
        (dict(matcher=dict(type='mmmaskformer.HungarianMatcher', weights=3)), r'matcher.weights: found 3'),
        (
            dict(matcher=dict(type='SetMatcher', assignment='Greedy')),
            r"matcher.assignment: found 'Greedy', expected a d",
        ),
        (dict(criterion=dict(type='SetCriterion', no_object_weight=NAN)), r'criterion.no_object_weight: found nan'),
        (dict(criterion=dict(type='SetCriterion', no_object_weight=-1)), r'criterion.no_object_weight: found -1'),
        (dict(criterion=dict(type='SetCriterion', no_object_weight='0.1')), r"criterion.no_object_weight: found '0.1'"),
        (dict(transformer_decoder=dict(type='TransformerDecoder', num_layers=2.0)), r'decoder.num_layers: found 2.0'),
    ],
)
def test_wrong_values_of_a_head_and_its_parts_are_named(changes, message):
    with pytest.raises(ValueError, match=rf'model.decode_head.{message}' if message[0] != 'd' else message):
        MODELS.build(ConfigDict(hosts.head_config(**changes)))


def test_a_panoptic_head_names_its_own_key():
    with pytest.raises(ValueError, match=r'model.panoptic_head.num_queries: found 0'):
        hosts.make_detector(num_queries=0)
    with pytest.raises(ValueError, match=r'model.panoptic_head.things=\[True\] must be different labels'):
        hosts.make_detector(things=[True])
    with pytest.raises(ValueError, match=r'model.panoptic_head.things=13 must be different labels'):
        hosts.make_detector(things=13)


@pytest.mark.parametrize(
    'test_cfg, error, message',
    [
        (
            dict(panoptic=dict(object_threshold=1.5)),
            ValueError,
            r'panoptic.object_threshold: found 1.5, expected a num',
        ),
        (dict(panoptic=dict(overlap_threshold=NAN)), ValueError, r'panoptic.overlap_threshold: found nan'),
        (dict(detr=dict(min_area=2.5)), ValueError, r'detr.min_area: found 2.5, expected a whole number of at least 0'),
        (dict(instance=dict(max_per_image=0)), ValueError, r'instance.max_per_image: found 0'),
        (dict(semantic=dict(resize_masks_first='yes')), ValueError, r"semantic.resize_masks_first: found 'yes'"),
        (dict(panoptic=True), TypeError, r'model.test_cfg.panoptic: found True, expected a dict of settings or None'),
        (dict(panoptic=dict(object_treshold=0.5)), TypeError, "Did you mean 'object_threshold'"),
    ],
)
def test_wrong_values_of_a_detectors_test_cfg_are_named(test_cfg, error, message):
    with pytest.raises(error, match=message):
        hosts.make_detector(test_cfg)


SEGMENTOR_MISTAKES = [
    (
        dict(mode='Slide', crop_size=(32, 32), stride=(16, 16)),
        ValueError,
        "mode: found 'Slide', expected 'whole' or 's",
    ),
    (
        dict(mode='slide', crop_size=(32, 32), stride=(0, 16)),
        ValueError,
        r'stride: found \(0, 16\), expected \(height',
    ),
    (dict(mode='whole', infernce='general'), TypeError, "not take the key 'infernce'. Did you mean 'inference'"),
    (dict(mode='whole', inference='general', object_threshold=-1), ValueError, 'object_threshold: found -1'),
]


@pytest.mark.parametrize('test_cfg, error, message', SEGMENTOR_MISTAKES)
def test_our_segmentor_names_errors_in_test_cfg_when_it_is_built(test_cfg, error, message):
    with pytest.raises(error, match=f'model.test_cfg.*{message}'):
        hosts.make_segmentor(segmentor='mmmaskformer.EncoderDecoder', test_cfg=test_cfg)


@pytest.mark.parametrize('test_cfg', [dict(stride=(64, 64), crop_size=(32, 32)), dict(crop_size=(32, 32))])
def test_our_segmentor_refuses_windows_that_leave_pixels_out_when_it_is_built(test_cfg):
    with pytest.raises(ValueError, match="mode 'slide' with crop_size=.*stride="):
        hosts.make_segmentor(segmentor='mmmaskformer.EncoderDecoder', test_cfg=dict(mode='slide') | test_cfg)


@pytest.mark.parametrize('test_cfg, error, message', SEGMENTOR_MISTAKES)
def test_the_hosts_segmentor_is_checked_before_a_run_and_at_a_prediction(test_cfg, error, message):
    model = hosts.make_segmentor(test_cfg=test_cfg)
    with pytest.raises(error, match=f'model.test_cfg.*{message}'):
        CheckClassesHook().before_test(SimpleNamespace(model=model, test_dataloader=LOADER, test_evaluator=EVALUATOR))
    features = model.extract_feat(torch.zeros(1, 3, 64, 96))
    with pytest.raises(error, match=f'model.test_cfg.*{message}'), torch.no_grad():
        model.decode_head.predict(features, [dict(img_shape=(64, 96))], model.test_cfg)


@pytest.mark.parametrize(
    ('test_cfg', 'said'),
    [
        (dict(mode='whole', object_threshold=0.5), "object_threshold is read with inference='general' only"),
        (
            dict(mode='whole', crop_size=(64, 64), stride=(32, 32)),
            "crop_size and stride is read with mode='slide' only",
        ),
        (dict(mode='whole', inference='general', object_threshold=0.5), ''),
        (dict(mode='slide', crop_size=(64, 64), stride=(32, 32)), ''),
    ],
)
@pytest.mark.parametrize('segmentor', ['EncoderDecoder', 'mmmaskformer.EncoderDecoder'])
def test_settings_that_the_chosen_inference_does_not_read_are_reported_once(monkeypatch, segmentor, test_cfg, said):
    monkeypatch.setattr(settings, '_reported', set())
    with warnings_in_force() as found:
        model = hosts.make_segmentor(test_cfg=ConfigDict(test_cfg), segmentor=segmentor)
        image, sample = hosts.make_sample((64, 96))
        for _ in range(2):
            model.test_step(dict(inputs=[image], data_samples=[sample]))
    messages = [text for text in found if 'is read with' in text]
    assert len(messages) == bool(said) and all(said in text for text in messages)


def test_a_filled_train_cfg_of_our_segmentor_is_refused():
    config = ConfigDict(
        type='mmmaskformer.EncoderDecoder',
        backbone=hosts.TINY_RESNET,
        decode_head=hosts.head_config(),
        train_cfg=dict(assigner=dict()),
        test_cfg=dict(mode='whole'),
    )
    with pytest.raises(ValueError, match=r"model.train_cfg: found \['assigner'\], expected no keys"):
        MODELS.build(config)


@checked(reach=whole(1))
class OwnPixelDecoder(torch.nn.Module):
    """A user-defined part that declares its own settings."""

    def __init__(self, *, in_channels, reach: int = 1, num_layers: str = 'many'):
        super().__init__()


def test_a_custom_part_is_checked_by_its_own_declaration():
    part = dict(type=OwnPixelDecoder, reach=0, num_layers='few')
    with pytest.raises(ValueError, match='model.decode_head.pixel_decoder.reach: found 0'):
        MODELS.build(ConfigDict(hosts.head_config(pixel_decoder=part)))
