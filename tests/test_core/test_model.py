"""The core as a standalone library."""

import math
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from helpers import toy
from helpers.fresh import ROOT, run_python_before_hosts
from torch import nn

from mmmaskformer import core
from mmmaskformer.core.fast_paths import FAST_PATHS

PAGE = (ROOT / 'docs' / 'core.md').read_text(encoding='utf-8')


def test_the_example_of_the_docs_runs_without_openmmlab():
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    done = run_python_before_hosts(code, hide=('mmengine', 'mmcv', 'mmseg', 'mmdet'))
    assert re.fullmatch(r'\(128, 192\) \(128, 192\) \d+ segments\n', done.stdout), done.stderr


def test_a_typed_program_runs():
    """`mypy` checks the same program strictly."""
    spec = spec_from_file_location('typed_program', Path(__file__).with_name('typed_program.py'))
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    losses, shapes = program.main()
    assert losses['pairs'] == 6 * 6 and all(math.isfinite(value) for value in losses.values())
    assert shapes == [(40, 50), (3, 40, 50), (40, 50), (5, 4)]


def test_the_docs_name_every_export_and_every_switch():
    named = set(re.findall(r'`(\w+)`', PAGE))
    assert set(core.__all__) <= named and set(FAST_PATHS) <= named
    assert all(callable(getattr(core, name)) for name in core.__all__)
    with pytest.raises(AttributeError, match="'mmmaskformer.core' has no attribute 'nonsense'"):
        core.nonsense  # noqa: B018


@pytest.mark.parametrize('encoder_layers', [0, 2])
def test_a_built_model_equals_its_parts(encoder_layers):
    settings = dict(num_queries=7, channels=16, num_heads=4, ffn_channels=24, dropout=0.0, norm_groups=4)
    torch.manual_seed(0)
    backbone = torch.nn.Module()
    backbone.forward = lambda images: toy.make_features(images.shape[2:], batch=len(images))
    model = core.build_maskformer(
        backbone=backbone, in_channels=toy.IN_CHANNELS, num_classes=5, decoder_layers=2, encoder_layers=encoder_layers,
        class_weight=[1.0] * 5, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    classifier = toy.make_classifier(encoder_layers=encoder_layers)
    classifier.load_state_dict(model.classifier.state_dict())
    images, targets = torch.zeros(2, 3, 64, 96), [toy.make_target(3, (64, 96)), toy.make_target(0, (64, 96))]
    losses = model.loss(images, targets)
    expected = toy.make_criterion()(classifier(toy.make_features(), all_layers=True), targets)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)
    with torch.no_grad():
        before = model.eval()(images, all_layers=False)[-1].masks.features
    results = model.predict(images, image_sizes=[(64, 96), (50, 70)], out_sizes=[(64, 96), (75, 105)])
    with torch.no_grad():
        assert torch.equal(model(images, all_layers=False)[-1].masks.features, before)
    prediction = classifier.eval()(toy.make_features(), all_layers=False)[0]
    class_logits, masks = results[1]
    torch.testing.assert_close(class_logits, prediction.class_logits[1], rtol=1e-4, atol=1e-5)
    whole = core.QueryMasks.of_logits(prediction.mask_logits(1), (64, 96), (50, 70), (75, 105))
    torch.testing.assert_close(masks.logits(), whole.logits(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('encoder_layers', [0, 1])
def test_inputs_that_do_not_fit_are_named(encoder_layers):
    backbone = torch.nn.Module()
    backbone.forward = lambda images: toy.make_features(images.shape[2:], batch=len(images))[:levels]
    model = core.build_maskformer(
        backbone=backbone, in_channels=toy.IN_CHANNELS, num_classes=5, decoder_layers=1, encoder_layers=encoder_layers,
        channels=16, num_heads=4, ffn_channels=24, norm_groups=4,
    ).eval()  # fmt: skip
    images, levels = torch.zeros(2, 3, 64, 96), 4
    for wrong in (images[0], images.to(torch.uint8)):
        with pytest.raises(ValueError, match=r'images are \(.*expected \(B, 3, H, W\) float'):
            model(wrong)
    with pytest.raises(ValueError, match=r'found 1 image_sizes and 1 out_sizes for 2 images'):
        model.predict(images, image_sizes=[(64, 96)])
    levels = 3
    with pytest.raises(ValueError, match=r'PixelDecoder: features have the shapes .*expected 4 levels'):
        model(images)
    levels = 4
    images[0, 0, 0, 0] = float('nan')
    backbone.forward = lambda images: [x + images.sum() for x in toy.make_features(images.shape[2:], batch=len(images))]
    [(class_logits, masks), _] = model.predict(images)
    for function in (core.semantic_labels, core.semantic_inference):
        with pytest.raises(ValueError, match=rf'{function.__name__}: inf or NaN in class logits and mask embeddings'):
            function(class_logits, masks)


@pytest.mark.parametrize(
    'key, value',
    [('num_classes', 0), ('num_queries', 2.5), ('dropout', float('nan')), ('no_object_weight', -1), ('norm_groups', 0),
     ('class_weight', [1.0, float('inf')]), ('loss_weights', {'cls': -1}), ('ignore_in_loss', 1)],
)  # fmt: skip
def test_settings_of_a_model_are_named(key, value):
    with pytest.raises(ValueError, match=rf'\.{key}(\.cls)?: found '):  # for a dict, the invalid value
        core.build_maskformer(**dict(backbone=torch.nn.Identity(), in_channels=(8, 8), num_classes=2) | {key: value})


def test_a_misspelt_argument_is_named_with_the_closest_one():
    with pytest.raises(
        TypeError, match="build_maskformer does not take the key 'num_querys'. Did you mean 'num_queries'"
    ):
        core.build_maskformer(backbone=nn.Identity(), in_channels=(32, 64), num_classes=2, num_querys=3)
    with pytest.raises(TypeError, match="'ignore_in_los'. Did you mean 'ignore_in_loss'"):
        core.build_maskformer(backbone=nn.Identity(), in_channels=(32, 64), num_classes=2, ignore_in_los=True)


@pytest.mark.parametrize('dtype, limit', [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_what_was_predicted_under_autocast_is_used_after_it(dtype, limit):
    backbone = nn.Module()
    backbone.forward = lambda images: [x.to(images) for x in toy.make_features(images.shape[2:], batch=len(images))]
    torch.manual_seed(0)
    model = core.build_maskformer(
        backbone=backbone, in_channels=toy.IN_CHANNELS, num_classes=5, num_queries=7, channels=32, decoder_layers=2
    ).eval()
    images = torch.zeros(2, 3, 64, 96)
    exact = [core.semantic_inference(*image) for image in model.double().predict(images.double())]
    with torch.autocast('cpu', dtype=dtype):
        predicted = model.float().predict(images)
    for image, scores in zip(predicted, exact, strict=True):
        assert image[1].masks.conv.x.dtype == dtype
        torch.testing.assert_close(core.semantic_inference(*image).double(), scores, rtol=0, atol=limit)
        assert len(core.panoptic_inference(*image, is_thing=torch.ones(5, dtype=torch.bool)).ids) == 64
