"""Conversions that compute something else are found, and nothing is written."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.foreign import CLASSES, SETTINGS, architecture, weights_of, write_official
from safetensors.torch import save_file

from mmmaskformer.apis import converting
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.model_configs import host_config
from mmmaskformer.apis.verifying import build
from mmmaskformer.checkpoints.classes import class_lists
from mmmaskformer.checkpoints.convert import convert
from mmmaskformer.checkpoints.transformers_files import Settings, hub_config, hub_preprocessor
from mmmaskformer.checkpoints.writers import write_transformers


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('hub') / 'model'
    weights = convert(weights_of('mmseg'), 'mmseg', 'transformers').weights
    write_transformers(path, weights, hub_config(architecture(), SETTINGS), hub_preprocessor(SETTINGS))
    return path


def changed_folder(folder, tmp_path, file, *path, value):
    """A copy in which one setting has another value."""
    (tmp_path / 'hub').mkdir()
    for other in folder.iterdir():
        (tmp_path / 'hub' / other.name).write_bytes(other.read_bytes())
    content = json.loads((folder / file).read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / 'hub' / file).write_text(json.dumps(content))
    return tmp_path / 'hub'


def mmseg_file(path, change=lambda cfg: None, weights=None, **settings):
    cfg = host_config('mmseg', architecture(), replace(SETTINGS, **settings))
    change(cfg)
    meta = dict(dataset_meta=dict(classes=CLASSES), cfg=cfg.pretty_text)
    torch.save(dict(state_dict=weights or weights_of('mmseg'), meta=meta), path)
    return path


@pytest.mark.parametrize('package', ['mmseg', 'official', 'transformers'])
@pytest.mark.parametrize('change', [0.1, float('nan')])
def test_one_wrong_weight_fails_the_comparison(tmp_path, monkeypatch, folder, package, change):
    if package == 'official':
        source = write_official(tmp_path / 'a.pkl', weights_of('official'))
    else:
        source = mmseg_file(tmp_path / 'a.pth') if package == 'mmseg' else folder

    def damaged(*args, **kwargs):
        found = convert(*args, **kwargs)
        name = 'decode_head.classifier.class_embed.bias'
        return found._replace(weights=found.weights | {name: found.weights[name] + change})

    monkeypatch.setattr(converting, 'convert', damaged)
    with pytest.raises(ValueError, match='more than rounding: nothing is written'):
        convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer', verify=True, num_heads=4)
    assert not (tmp_path / 'b.pth').exists()


def test_the_heads_that_a_folder_names_are_those_of_its_comparison(tmp_path, folder):
    """The library reads the folder itself: with 8 heads instead of 4 it computes something else."""
    with pytest.raises(ValueError, match='more than rounding'):
        convert_checkpoint(folder, tmp_path / 'b.pth', 'mmmaskformer', verify=True, num_heads=8)


@pytest.mark.parametrize(
    'path, value, message',
    [
        (('decoder_config', 'activation_function'), 'gelu', "activation_function is 'gelu', expected 'relu'"),
        (('backbone_config', 'hidden_act'), 'gelu', "hidden_act is 'gelu', expected 'relu'"),
        (('backbone_config', 'downsample_in_bottleneck'), True, 'downsample_in_bottleneck is True, expected False'),
        (('decoder_config', 'decoder_attention_heads'), '8', "decoder_attention_heads is '8', expected a number"),
        (('decoder_config',), [1], 'decoder_config is a list, expected an object'),
        (('id2label',), {'x': 'y'}, 'id2label must give the name of each label'),
        (('id2label',), [1, 2], 'id2label must give the name of each label'),
    ],
)
def test_settings_of_transformers_that_no_other_package_has_are_refused(tmp_path, folder, path, value, message):
    with pytest.raises(ValueError, match=message):
        source = changed_folder(folder, tmp_path, 'config.json', *path, value=value)
        convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer')
    assert not (tmp_path / 'b.pth').exists()


@pytest.mark.parametrize(
    'key, value, mean, std',
    [
        ('image_mean', [0.5, 0.5, 0.5], (127.5,) * 3, Settings.std),
        ('image_mean', 0.5, (127.5,) * 3, Settings.std),
        ('do_rescale', False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ('rescale_factor', 1 / 127.5, (61.8375, 58.14, 51.765), (29.1975, 28.56, 28.6875)),
        ('do_normalize', False, (0.0,) * 3, (255.0,) * 3),
    ],
)
def test_images_are_normalised_as_in_the_folders_config(tmp_path, folder, key, value, mean, std):
    source = changed_folder(folder, tmp_path, 'preprocessor_config.json', key, value=value)
    settings = convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer').settings
    assert settings.mean == pytest.approx(mean, abs=1e-3) and settings.std == pytest.approx(std, abs=1e-3)
    transformers = pytest.importorskip('transformers')
    image = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0)).numpy().astype('uint8')
    processor = transformers.MaskFormerImageProcessor.from_pretrained(source)
    expected = processor(image, do_resize=False, return_tensors='pt').pixel_values[0]
    ours = (torch.from_numpy(image).permute(2, 0, 1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(ours.float(), expected[:, :64, :64], rtol=1e-3, atol=1e-3)


def strided(cfg):
    cfg.model.backbone.update(style='caffe')


def dilated(cfg):
    cfg.model.backbone.update(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))


def blue_first(cfg):
    cfg.model.data_preprocessor.update(bgr_to_rgb=False, mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    'change, expected, refusal',
    [
        (dilated, 'dilations=', 'dilations='),
        (strided, "style='caffe'", "style='caffe'"),
        (blue_first, 'bgr_to_rgb=False', 'BGR images'),
    ],
)
def test_settings_of_the_hosts_without_weights_are_kept_or_refused(tmp_path, change, expected, refusal):
    source = mmseg_file(tmp_path / 'a.pth', change)
    for to in ('mmmaskformer', 'mmdet'):
        report = convert_checkpoint(source, tmp_path / f'{to}.pth', to, verify=True)
        assert expected in torch.load(report.out, weights_only=True)['meta']['cfg']
        assert [difference.what for difference in report.differences] == ['class logits', 'mask logits']
    for to, name in (('official', 'a.pkl'), ('transformers', 'hub')):
        with pytest.raises(ValueError, match=f'{refusal}.*Fix: convert to another package'):
            convert_checkpoint(source, tmp_path / name, to)
        assert not (tmp_path / name).exists()


def test_dilations_of_the_last_stage_are_refused_where_unsupported(tmp_path):
    source = mmseg_file(tmp_path / 'a.pth', dilations=(1, 2, 4))
    for to, name in (('official', 'a.pkl'), ('transformers', 'hub')):
        with pytest.raises(ValueError, match=r'the model has \(1, 2, 4\)'):
            convert_checkpoint(source, tmp_path / name, to)


def test_a_config_with_other_heads_is_refused(tmp_path):
    source = mmseg_file(tmp_path / 'a.pth')
    convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer')
    text = torch.load(tmp_path / 'b.pth', weights_only=True)['meta']['cfg']
    (tmp_path / 'eight.py').write_text(text.replace('num_heads=4', 'num_heads=8'))
    with pytest.raises(ValueError, match=r'trained with num_heads=4, the model has num_heads=8.*Fix'):
        convert_checkpoint(source, tmp_path / 'c.pth', 'mmmaskformer', config=tmp_path / 'eight.py')
    assert not (tmp_path / 'c.pth').exists()


def test_the_input_is_not_replaced(tmp_path, folder):
    source = write_official(tmp_path / 'a.pkl', weights_of('official'))
    before = source.read_bytes()
    with pytest.raises(FileExistsError, match=r'a\.pkl is the input, and is not replaced'):
        convert_checkpoint(source, source, 'official', force=True)
    with pytest.raises(FileExistsError, match='is the input'):
        convert_checkpoint(folder, folder, 'transformers', force=True)
    assert source.read_bytes() == before


def test_dtypes_that_numpy_lacks_are_written_as_float32(tmp_path):
    weights = {k: v.bfloat16() if v.is_floating_point() else v for k, v in weights_of('official').items()}
    torch.save({'model': weights}, tmp_path / 'a.pth')
    convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pkl', 'official')
    found = converting.read_source(tmp_path / 'b.pkl').weights
    assert all(torch.equal(v.float(), found[k].float()) for k, v in weights.items() if not k.startswith('criterion'))


def test_a_header_of_another_kind_is_refused(tmp_path):
    save_file({'x': torch.ones(1)}, tmp_path / 'a.safetensors', {'mmmaskformer': '[1, 2]'})
    with pytest.raises(ValueError, match='in its header is a list, expected an object'):
        convert_checkpoint(tmp_path / 'a.safetensors', tmp_path / 'b.pth', 'mmmaskformer')


@pytest.mark.parametrize(
    'source, task', [('official', 'panoptic'), ('transformers', 'panoptic'), ('ade20k', 'semantic')]
)
def test_models_of_coco_are_panoptic_without_an_encoder_too(tmp_path, source, task):
    """Published Swin models of COCO have no encoder, and no file names the things."""
    listed = class_lists()['ade20k_panoptic' if source == 'ade20k' else 'coco_panoptic']['classes']
    shape = architecture('swin', classes=len(listed))
    settings = replace(SETTINGS, classes=tuple(listed), dataset_meta={})
    weights = dict(build(host_config('mmseg', shape, settings)).state_dict())
    if source == 'official':
        path = write_official(tmp_path / 'a.pkl', convert(weights, 'mmseg', 'official').weights)
    else:
        path = tmp_path / 'hub'
        found = convert(weights, 'mmseg', 'transformers').weights
        write_transformers(path, found, hub_config(shape, settings), hub_preprocessor(settings))
    report = convert_checkpoint(path, tmp_path / 'b.pth', 'mmmaskformer', num_heads=4)
    head = {'panoptic': 'panoptic_head', 'semantic': 'decode_head'}[task]
    assert any(name.startswith(f'{head}.') for name in report.conversion.weights)
