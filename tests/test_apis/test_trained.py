"""The common loader of trained models."""

import pytest
import torch
from helpers.exports import small_segmentor
from helpers.hosts import PREPROCESSOR, TINY_RESNET, head_config, make_segmentor

from mmmaskformer.apis.trained import building, load_trained

CONFIG = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor={preprocessor},
    backbone={backbone},
    decode_head={head},
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=96, max_size=288)
test_dataloader = dict(dataset=dict(pipeline=[dict(type='mmcv.LoadImageFromFile'), resize]))
"""
META = dict(classes=tuple('abcde'), palette=[[label, 0, 0] for label in range(5)])


@pytest.fixture
def trained(tmp_path):
    """Paths of a config and a checkpoint."""
    config, checkpoint = tmp_path / 'config.py', tmp_path / 'model.pth'
    config.write_text(CONFIG.format(preprocessor=PREPROCESSOR, backbone=TINY_RESNET, head=head_config()))
    torch.save(dict(state_dict=make_segmentor().state_dict(), meta=dict(dataset_meta=META)), checkpoint)
    return config, checkpoint


def test_weights_that_are_nan_are_refused(trained):
    content = torch.load(trained[1], weights_only=True)
    content['state_dict']['decode_head.classifier.class_embed.bias'][0] = float('inf')
    torch.save(content, trained[1])
    with pytest.raises(ValueError, match='model.pth: 1 of its .* weights hold inf or NaN'):
        load_trained(*trained)


def test_a_classifier_that_is_reinitialised_is_not_trained(trained):
    """A config for fine-tuning with the checkpoint that it starts from: draw and export would show random classes."""
    options = {'model.decode_head.num_classes': 4, 'model.decode_head.on_class_mismatch': 'reinit'}
    with pytest.raises(
        ValueError, match=r'lacks 2 of the \d+ weights of the head.*class_embed\.bias, classifier.class'
    ):
        load_trained(*trained, options)


def test_weights_and_facts(trained):
    model, facts = load_trained(*trained)
    expected = make_segmentor().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert facts == dict(
        classes=list('abcde'), palette=META['palette'], isthing=[False] * 5, short_edge=96, max_size=288
    )


def test_other_class_lists_are_not_used(trained):
    content = torch.load(trained[1])
    content['meta']['dataset_meta'] = dict(classes=('a', 'b'))
    torch.save(content, trained[1])
    facts = load_trained(*trained).facts
    assert facts['classes'] == [f'class {label}' for label in range(5)] and facts['palette'] == []


def test_weights_must_fit(trained):
    torch.save(dict(state_dict=small_segmentor().state_dict()), trained[1])
    with pytest.raises(ValueError, match='does not fit the model of the config: .* Fix: use the config'):
        load_trained(*trained)


@pytest.mark.parametrize('missing', [0, 1])
def test_files_must_exist(trained, missing):
    trained[missing].unlink()
    expected = ('^config .*config.py: no such file. Fix: ', '^checkpoint: .* does not exist; expected')[missing]
    with pytest.raises(FileNotFoundError, match=expected):
        load_trained(*trained)


def test_config_must_have_a_model(trained):
    trained[0].write_text('x = 1')
    with pytest.raises(ValueError, match="found no 'model', expected the config of a training run"):
        load_trained(*trained)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'model.decode_head.num_querys': 3},
            "model cannot be built: MaskFormerHead does not take the key 'num_querys'",
        ),
        (
            {'model.decode_head.matcher.type': 'Mine'},
            "model cannot be built: model.decode_head.matcher: type='Mine' is",
        ),
        ({'model.backbone.type': 'Mine'}, 'model cannot be built: Mine is not in the'),
        ({'model.backbone.deepth': 3}, 'model cannot be built: .*deepth'),
        (
            {'resize.short_edge': 48},
            "hosts read 'resize.short_edge'.*Fix: set test_dataloader.dataset.pipeline.1.sh",
        ),
        ({'modl.test_cfg': 3}, "hosts read 'modl.test_cfg'.*Fix: set model.test_cfg"),
        (
            {'test_dataloader.dataset.pipeline.7.scale': 3},
            "found .'test_dataloader.dataset.pipeline.7.scale'.: Index 7",
        ),
    ],
)
def test_wrong_options_raise_a_value_error(trained, options, message):
    with pytest.raises(ValueError, match=message):
        load_trained(*trained, options)


@pytest.mark.parametrize('error', [TypeError('no'), KeyError('no'), RuntimeError('no'), AssertionError('no')])
def test_a_part_that_cannot_be_built_is_named(error):
    with pytest.raises(ValueError, match='^model cannot be built: no$'), building('model'):
        raise error
    with pytest.raises(ValueError, match=f'^model cannot be built: {type(error).__name__}$'), building('model'):
        raise type(error)()
