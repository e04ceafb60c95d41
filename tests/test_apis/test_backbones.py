"""Backbones of other packages, converted to those of the hosts, give the same features; every name is accounted for."""

import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import official
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.apis import cli
from mmmaskformer.apis.backbones import convert_backbone
from mmmaskformer.checkpoints.backbone_maps import CLASSIFIER_REASON, MASK_REASON
from mmmaskformer.checkpoints.backbones import NORM_REASON, convert_backbone_weights
from mmmaskformer.checkpoints.vit import SCALE_REASON

import mmdet.models  # noqa: F401  # isort: skip
import mmseg.models  # noqa: F401  # isort: skip

SWIN = dict(embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), num_classes=3)
HOST_SWIN = dict(type='mmseg.SwinTransformer', embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=4)


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """The model in evaluation mode with random values in all parameters and statistics."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not name.endswith('attn_mask'):
            value.normal_(std=0.2)
            if value.dim() == 1:
                value.abs_().add_(0.5)
    return model.eval()


def host_model(settings: dict, weights: dict) -> torch.nn.Module:
    """A backbone of MMSegmentation with converted weights, which may lack only counters and index tables."""
    model = MODELS.build(settings)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith(('position_index', 'num_batches_tracked')) for name in missing)
    model.eval()
    return model


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * max(1, float(other.abs().max())))


def resnet_of_torchvision(image):
    model = randomised(torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, (2, 2, 2, 2), num_classes=3))
    x = model.maxpool(model.relu(model.bn1(model.conv1(image))))
    features = [x := stage(x) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    return model.state_dict(), features, {CLASSIFIER_REASON: 2}


def resnet_of_timm(image):
    model = randomised(timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, (2, 2, 2, 2), num_classes=3))
    return model.state_dict(), model.forward_intermediates(image, intermediates_only=True)[1:], {CLASSIFIER_REASON: 2}


def swin_of_timm(image):
    model = randomised(timm.models.swin_transformer.SwinTransformer(img_size=256, window_size=4, **SWIN))
    weights = model.state_dict()
    features = model.forward_intermediates(image, intermediates_only=True)
    assert any('layers.1.downsample' in name for name in weights)
    return weights, features, {CLASSIFIER_REASON: 4, NORM_REASON: 8}


def swin_of_the_authors(image):
    """The timm model under the names used in the authors' files, which also contain masks."""
    weights, features, _ = swin_of_timm(image)
    theirs = {}
    for name, value in weights.items():
        head, _, rest = name.partition('.downsample.')
        name = f'layers.{int(head.removeprefix("layers.")) - 1}.downsample.{rest}' if rest else name
        theirs[name.replace('head.fc.', 'head.')] = value
    theirs |= {'layers.0.blocks.1.attn_mask': torch.zeros(16, 16, 16)}
    return theirs, features, {CLASSIFIER_REASON: 4, NORM_REASON: 8, MASK_REASON: 1}


def swin_of_torchvision(image):
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in SWIN.items()}
    model = torchvision.models.SwinTransformer(patch_size=[4, 4], window_size=[4, 4], **settings)
    model = randomised(model)
    x, features = image, []
    for index, part in enumerate(model.features):
        x = part(x)
        features += [x.permute(0, 3, 1, 2)] if index % 2 else []
    return model.state_dict(), features, {CLASSIFIER_REASON: 4, NORM_REASON: 8}


def detectron2_names(weights):
    """The names that detectron2's conversion script gives to files of torchvision."""
    found = {}
    for name, value in weights.items():
        if name.endswith('num_batches_tracked'):
            continue
        for number in range(1, 5):
            name = name.replace(f'layer{number}', f'res{number + 1}').replace(f'bn{number}', f'conv{number}.norm')
        name = name.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
        found[name if name.startswith('res') else f'stem.{name}'] = value.numpy()
    return found


@pytest.mark.parametrize('source', ['torchvision', 'timm', 'detectron2'])
def test_features_of_a_resnext_are_equal(source, tmp_path):
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    model = timm.models.resnet.resnext50_32x4d if source == 'timm' else torchvision.models.resnext50_32x4d
    model = randomised(model())
    with torch.no_grad():  # torchvision and timm have the same modules
        x = model.maxpool(model.bn1(model.conv1(image)).relu())
        expected = [x := stage(x) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)]
    weights = model.state_dict()
    if source == 'detectron2':
        (tmp_path / 'X.pkl').write_bytes(pickle.dumps({'model': detectron2_names(weights)}))
    else:
        torch.save(weights, tmp_path / 'X.pkl')
    report = convert_backbone(tmp_path / 'X.pkl', tmp_path / 'out.pth')
    assert report.conversion.backbone == 'ResNeXt-50, 32 groups of 4 channels'
    assert set(report.conversion.dropped.values()) == {CLASSIFIER_REASON}
    for host in ('mmseg', 'mmdet'):
        settings = dict(type=f'{host}.ResNeXt', depth=50, groups=32, base_width=4)
        model = MODELS.build(settings | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'))))
        model.init_weights()
        model.eval()
        with torch.no_grad():
            assert_same(model(image), expected)


CASES = {resnet_of_torchvision: False, resnet_of_timm: False, swin_of_timm: True, swin_of_the_authors: True,
         swin_of_torchvision: True}  # fmt: skip


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.__name__)
def test_features_are_equal(case, tmp_path):
    torch.manual_seed(1)
    image = torch.randn(1, 3, 256, 256)  # smaller images have a single window, which timm does not shift
    with torch.no_grad():
        weights, expected, reasons = case(image)
    torch.save(weights if case is not swin_of_the_authors else {'model': weights}, tmp_path / 'source.pth')
    report = convert_backbone(tmp_path / 'source.pth', tmp_path / 'out.pth')
    conversion = report.conversion
    found = list(conversion.dropped.values()) + list(conversion.made.values())
    counts = {reason: found.count(reason) for reason in set(found) if 'index table' not in reason}
    assert counts == reasons
    assert len(conversion.weights) == len(weights) - len(conversion.dropped) + len(conversion.made)
    written = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    settings = HOST_SWIN if CASES[case] else dict(type='mmseg.ResNet', depth=18)
    model = host_model(settings, written)
    if CASES[case]:  # compare before the output norms
        for stage in range(4):
            setattr(model, f'norm{stage}', torch.nn.Identity())
    with torch.no_grad():
        assert_same(model(image), expected)


SETTINGS = dict(depth=50, base_channels=4)
PUBLISHED = {
    'resnet50_basic': dict(type='mmseg.ResNet', stem_channels=8, **SETTINGS),
    'resnet50_deeplab_multigrid': dict(type='mmseg.ResNetV1c', stem_channels=16, multi_grid=(1, 2, 4), **SETTINGS),
}


def write_detectron2(path, name: str, **more) -> dict:
    """A published case, and its weights as detectron2 stores them for the start of a training run."""
    case = official.load('backbones')['cases'][name]
    arrays = {key: value.numpy() for key, value in case['state_dict'].items()} | more
    path.write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone', 'matching_heuristics': True}))
    return case


@pytest.mark.parametrize('name', PUBLISHED)
def test_init_cfg_reads_files_of_detectron2_without_conversion(name, tmp_path):
    case = write_detectron2(tmp_path / 'R.pkl', name, **{'stem.fc.bias': np.zeros(3, np.float32)})
    model = MODELS.build(PUBLISHED[name] | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'R.pkl'))))
    model.init_weights()
    model.eval()
    with torch.no_grad():
        features = model(case['image'])
    for found, expected in zip(features, case['features'].values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize('scaled', [True, False], ids=['DINOv2', 'timm'])
def test_a_vit_gives_the_same_features(scaled, tmp_path):
    size = dict(img_size=56, patch_size=14, embed_dim=16, depth=2, num_heads=2, num_classes=0)
    source = randomised(timm.models.VisionTransformer(init_values=1e-5 if scaled else None, **size))
    weights = source.state_dict() | {'mask_token': torch.zeros(1, 16)}
    torch.save(weights, tmp_path / 'vit.pth')
    report = convert_backbone(tmp_path / 'vit.pth', tmp_path / 'out.safetensors')
    reasons = list(report.conversion.dropped.values())
    assert reasons.count(SCALE_REASON) == 4 * scaled and len(reasons) == 1 + 4 * scaled
    settings = dict(img_size=56, patch_size=14, embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1))
    norms = dict(norm_cfg=dict(type='LN', eps=1e-6), final_norm=True, patch_bias=True)
    model = MODELS.build(dict(type='mmseg.VisionTransformer', **settings, **norms))
    load_checkpoint(model, str(tmp_path / 'out.safetensors'), strict=True)
    model.eval()
    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        last = source.get_intermediate_layers(image, n=1, reshape=True, norm=True)
        first = source.get_intermediate_layers(image, n=[0], reshape=True, norm=False)
        assert_same(model(image), (*first, *last))


def test_the_command_reports_every_weight(tmp_path, capsys):
    write_detectron2(tmp_path / 'R.pkl', 'resnet50_basic', **{'stem.fc.bias': np.zeros(3, np.float32)})
    out = tmp_path / 'new/r50.pth'
    arguments = ['convert', str(tmp_path / 'R.pkl'), str(out), '--to', 'backbone']
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "detectron2's ResNet, ResNet-50" in said and f'1 left out: {CLASSIFIER_REASON} (stem.fc.bias)' in said
    assert cli.main(arguments) == 2 and 'exists and is not replaced' in capsys.readouterr().err
    assert cli.main([*arguments, '--force', '--verify']) == 2 and 'found --verify' in capsys.readouterr().err


def test_a_refused_conversion_creates_and_replaces_nothing(tmp_path):
    path = tmp_path / 'R.pkl'
    write_detectron2(path, 'resnet50_basic')
    before = path.read_bytes()
    with pytest.raises(ValueError, match='expected .pth or .safetensors'):
        convert_backbone(path, path, force=True)
    path = path.rename(tmp_path / 'R.pth')
    with pytest.raises(FileExistsError, match='is the input, and is not replaced'):
        convert_backbone(path, path, force=True)
    assert path.read_bytes() == before
    torch.save({'x': torch.zeros(1)}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='none.pth: the backbone cannot be converted'):
        convert_backbone(tmp_path / 'none.pth', tmp_path / 'new/out.pth')
    with pytest.raises(FileNotFoundError, match='a folder, expected a file of weights'):
        convert_backbone(tmp_path, tmp_path / 'new/out.pth')
    assert not (tmp_path / 'new').exists()


def without(weights: dict, name: str) -> dict:
    return {key: value for key, value in weights.items() if key != name}


def test_incomplete_weights_are_refused():
    case = official.load('backbones')['cases']['resnet50_basic']['state_dict']
    vit = timm.models.VisionTransformer(img_size=28, patch_size=14, embed_dim=8, depth=1, num_heads=2, num_classes=0)
    vit = vit.state_dict()
    with torch.device('meta'):
        wide = torchvision.models.wide_resnet50_2().state_dict()
    wrong = {
        'layer2.1.conv2.weight is missing': without(case, 'res3.1.conv2.weight'),
        'not part of .*: extra': case | {'extra': torch.zeros(1)},
        'layers.0.ln1.weight: absent, expected': without(vit, 'blocks.0.norm1.weight'),
        'patches, positions or first block are missing': without(vit, 'pos_embed'),
        'not part of .*: register_tokens': vit | {'register_tokens': torch.zeros(1)},
        'blocks.0.mlp.fc2.weight is missing or does not match': vit | {'blocks.0.ls2.gamma': torch.zeros(3)},
        'ResNet of Caffe2': {'res2_0_branch2a_w': torch.zeros(1)},
        'expected detectron2.s ResNet, a ResNet of torchvision': {'conv1.weight': torch.zeros(1)},
        'ResNet-50, 128 channels inside its first blocks, which neither host has': wide,
        'has 4 positions, .* none for the class token': vit | {'pos_embed': torch.zeros(1, 4, 8)},
        'looks like MMSeg.*, which is a whole model; expected only a backbone': {
            'decode_head.cls_embed.weight': torch.zeros(1)
        },
    }
    for message, weights in wrong.items():
        with pytest.raises(ValueError, match=message):
            convert_backbone_weights(weights)
