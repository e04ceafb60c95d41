"""Backbones of the published code, converted to those of the hosts, give the same features."""

import pytest
import torch
from helpers import official
from mmengine.registry import MODELS

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.neutral import ConversionError, read_backbone

import mmseg.models  # noqa: F401  # isort: skip

SETTINGS = {
    'resnet50_basic': dict(type='mmseg.ResNet', depth=50, stem_channels=8, base_channels=4),
    'resnet50_deeplab_multigrid': dict(
        type='mmseg.ResNetV1c', depth=50, stem_channels=16, base_channels=4, multi_grid=(1, 2, 4)
    ),
    'swin_window4': dict(
        type='mmseg.SwinTransformer', embed_dims=8, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8), window_size=4
    ),
}


def case_of(name: str) -> tuple[dict, dict]:
    """A published case, and its weights under the names of a whole model."""
    case = official.load('backbones')['cases'][name]
    return case, {f'backbone.{key}': value for key, value in case['state_dict'].items()}


@pytest.mark.parametrize('name', SETTINGS)
def test_features_equal_the_published_ones(name):
    case, weights = case_of(name)
    converted, dropped, _ = read_backbone(weights, NAMES['official'])
    assert len(converted) + len(dropped) == len(weights)
    model = MODELS.build(SETTINGS[name])
    model.eval()
    state = {key.removeprefix('backbone.'): value for key, value in converted.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == [] and all(key.endswith(('position_index', 'num_batches_tracked')) for key in missing)
    with torch.no_grad():
        features = model(case['image'])
    for found, expected in zip(features, case['features'].values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize('change, message', [('remove', 'conv2.*is missing'), ('cut', 'has the shape .* instead of')])
def test_an_incomplete_backbone_is_refused(change, message):
    _, weights = case_of('resnet50_basic')
    name = 'backbone.res3.1.conv2.weight'
    value = weights.pop(name)
    if change == 'cut':
        weights[name] = value[1:]
    with pytest.raises(ConversionError, match=message):
        read_backbone(weights, NAMES['official'])
