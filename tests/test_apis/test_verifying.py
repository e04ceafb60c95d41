"""Conversions that change the computation are detected, and nothing is written."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.foreign import CLASSES, NETS, SETTINGS, architecture, weights_of, write_official
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from safetensors.torch import save_file

from mmmaskformer.apis import converting
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.model_configs import host_config
from mmmaskformer.apis.sources import read_source
from mmmaskformer.apis.verifying import build
from mmmaskformer.checkpoints.classes import class_lists
from mmmaskformer.checkpoints.convert import convert
from mmmaskformer.checkpoints.preprocessors import hub_preprocessor
from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.transformers_files import hub_config
from mmmaskformer.checkpoints.writers import write_transformers

transformers = pytest.importorskip('transformers')  # of the extra [test]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('hub') / 'model'
    weights = convert(weights_of('mmseg'), 'mmseg', 'transformers').weights
    write_transformers(path, weights, hub_config(architecture(), SETTINGS), hub_preprocessor(SETTINGS))
    return path


def changed_folder(folder, tmp_path, file, *path, value):
    """A copy with another value of one setting."""
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
@pytest.mark.parametrize('change, message', [(0.1, 'more than rounding'), (float('nan'), 'inf or NaN|than rounding')])
def test_one_wrong_weight_fails_the_comparison(tmp_path, monkeypatch, folder, package, change, message):
    if package == 'official':
        source = write_official(tmp_path / 'a.pkl', weights_of('official'))
    else:
        source = mmseg_file(tmp_path / 'a.pth') if package == 'mmseg' else folder

    def damaged(*args, **kwargs):
        found = convert(*args, **kwargs)
        name = 'decode_head.classifier.class_embed.bias'
        return found._replace(weights=found.weights | {name: found.weights[name] + change})

    monkeypatch.setattr(converting, 'convert', damaged)
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer', verify=True, num_heads=4)
    assert not (tmp_path / 'b.pth').exists()


def test_the_heads_that_a_folder_names_are_those_of_its_comparison(tmp_path, folder):
    """The library reads the folder itself; with 8 heads instead of 4 it computes something else."""
    with pytest.raises(ValueError, match='more than rounding'):
        convert_checkpoint(folder, tmp_path / 'b.pth', 'mmmaskformer', verify=True, num_heads=8)


@pytest.mark.parametrize(
    'path, value, message',
    [
        (('decoder_config', 'activation_function'), 'gelu', "activation_function is 'gelu', expected 'relu'"),
        (('backbone_config', 'hidden_act'), 'gelu', "hidden_act is 'gelu', expected 'relu'"),
        (('backbone_config', 'downsample_in_bottleneck'), True, 'downsample_in_bottleneck is True, expected False'),
        (('decoder_config', 'decoder_attention_heads'), '8', "decoder_attention_heads is '8', expected a whole number"),
        (('decoder_config',), [1], 'decoder_config is a list, expected an object'),
        (('no_object_weight',), float('nan'), 'no_object_weight is nan, expected a number above 0'),
        (('no_object_weight',), {'a': 1}, "no_object_weight is {'a': 1}, expected a number above 0"),
        (('id2label',), {'x': 'y'}, 'id2label must hold the name of each label'),
        (('id2label',), [1, 2], 'id2label must hold the name of each label'),
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


def test_the_result_is_read_back_from_the_disk(tmp_path, monkeypatch):
    """This includes files of the published code, which cannot be run here."""
    source = mmseg_file(tmp_path / 'a.pth')
    report = convert_checkpoint(source, tmp_path / 'b.pkl', 'official', verify=True)
    assert report.lines()[-1].endswith('weights written, read back and compared bit for bit')
    assert 'read back' not in convert_checkpoint(source, tmp_path / 'c.pkl', 'official').lines()[-1]
    write = converting.write_official

    def damaged(path, weights):
        name = 'sem_seg_head.predictor.class_embed.bias'
        write(path, weights | {name: weights[name] + 1e-7})

    monkeypatch.setattr(converting, 'write_official', damaged)
    with pytest.raises(OSError, match=r'b\.pkl: read back, 1 of its .*not those that were written .*class_embed.bias'):
        convert_checkpoint(source, tmp_path / 'b.pkl', 'official', verify=True, force=True)


def test_models_with_groups_in_the_backbone_give_the_same_outputs(tmp_path):
    weights = weights_of('mmseg', 'resnext')
    cfg = host_config('mmseg', architecture('resnext'), SETTINGS).pretty_text
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=CLASSES), cfg=cfg)), tmp_path / 'a.pth')
    for to in ('mmmaskformer', 'mmdet'):
        report = convert_checkpoint(tmp_path / 'a.pth', tmp_path / f'{to}.pth', to, verify=True)
        assert [difference.what for difference in report.differences] == ['class logits', 'mask logits']
        assert all(difference.scale > 0.01 for difference in report.differences)
    assert 'ResNeXt-50, 4 groups of 4 channels' in report.lines()[0]
    convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'a.pkl', 'official', verify=True)
    convert_checkpoint(tmp_path / 'a.pkl', tmp_path / 'b.pth', 'mmseg', num_heads=4, verify=True)
    back = torch.load(tmp_path / 'b.pth', weights_only=True)
    assert all(torch.equal(back['state_dict'][name], value) for name, value in weights.items())
    assert "type='mmseg.ResNeXt'" in back['meta']['cfg']
    with pytest.raises(
        ValueError, match='transformers supports Swin and ResNet with a plain stem, but the model has ResNeXt-50'
    ):
        convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'hub', 'transformers')


@pytest.mark.parametrize('net', NETS)
def test_a_model_for_mmdetection_needs_no_mmsegmentation(net):
    cfg = host_config('mmdet', architecture(net), SETTINGS)
    assert 'mmseg' not in cfg.pretty_text
    models = build(cfg).eval(), build(host_config('mmseg', architecture(net), SETTINGS)).eval()
    theirs, same = (model.backbone for model in models)
    for value in same.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.0) if value.dim() == 1 else value.normal_(std=0.05)
    theirs.load_state_dict(same.state_dict())
    image = torch.randn(1, 3, 70, 52, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found, expected in zip(theirs(image), same(image), strict=True):
            assert torch.equal(found, expected) and 1e-3 < expected.std() < 1e6


def test_a_model_matched_by_boxes_is_converted_without_its_box_head(tmp_path):
    weights = convert(weights_of('mmseg'), 'mmseg', 'mmmaskformer').weights
    weights['decode_head.classifier.box_embed.layers.0.bias'] = torch.ones(32)
    torch.save(dict(state_dict=weights, meta=dict(num_heads=4)), tmp_path / 'a.pth')
    for to, name in (('mmmaskformer', 'b.safetensors'), ('mmseg', 'c.pth'), ('official', 'd.pkl')):
        report = convert_checkpoint(tmp_path / 'a.pth', tmp_path / name, to, verify=True)
        (line,) = [line for line in report.lines() if 'box head' in line]
        assert line.startswith('1 dropped: the box head, which only matching by boxes reads, in training (decode_head.')
        assert len(report.differences) == (1 if to == 'official' else 2)


@pytest.mark.parametrize(
    'transform, expected',
    [
        (dict(type='Resize', scale=(1333, 800), keep_ratio=True), (800, 1333, None)),
        (dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True), (800, 1333, None)),
        (dict(type='Resize', scale=(640, 480)), (512, 2048, (480, 640))),
        (dict(type='ResizeShortestEdge', scale=640, max_size=2560), (640, 2560, None)),
        (dict(type='mmmaskformer.ResizeShortestEdge', short_edge=640, max_size=2560), (640, 2560, None)),
    ],
)
def test_the_size_of_images_is_that_of_the_source(tmp_path, transform, expected):
    def change(cfg):
        cfg.test_dataloader.dataset.pipeline[1] = transform

    source = mmseg_file(tmp_path / 'a.pth', change)
    report = convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer')
    found = report.settings
    assert (found.short_edge, found.max_size, found.image_size) == expected
    assert not any('does not state to which size' in line for line in report.lines())
    for to in ('mmseg', 'mmdet'):  # and again from the config that was written
        convert_checkpoint(tmp_path / 'b.pth', tmp_path / f'{to}.pth', to)
        again = convert_checkpoint(tmp_path / f'{to}.pth', tmp_path / f'{to}_own.pth', 'mmmaskformer').settings
        assert (again.short_edge, again.max_size, again.image_size) == expected


@pytest.mark.parametrize(
    'classes, task, expected',
    [
        ('coco_panoptic', 'panoptic', (800, 1333)),
        ('ade20k_panoptic', 'semantic', (512, 2048)),
        ('ade20k_panoptic', 'panoptic', (640, 2560)),
        ('cityscapes', 'semantic', (1024, 2048)),
    ],
)
def test_an_unknown_image_size_is_that_of_the_published_models_and_is_reported(tmp_path, classes, task, expected):
    shape = architecture(classes=len(class_lists()[classes]['classes']))
    weights = build(host_config('mmseg', shape, replace(SETTINGS, classes=(), dataset_meta={}))).state_dict()
    source = write_official(tmp_path / 'a.pkl', convert(dict(weights), 'mmseg', 'official').weights)
    report = convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer', num_heads=4, task=task, classes=classes)
    assert (report.settings.short_edge, report.settings.max_size) == expected
    (line,) = [line for line in report.lines() if 'does not state to which size' in line]
    assert f'a short edge of {expected[0]} and a long edge of at most {expected[1]} pixels are assumed' in line


@pytest.mark.parametrize(
    'change, expected',
    [
        (dict(size=dict(height=100, width=130)), dict(image_size=(128, 160))),
        (dict(size=dict(height=100, width=130), size_divisor=10), dict(image_size=(100, 130), size_divisor=10)),
        (dict(size=dict(shortest_edge=320, longest_edge=640)), dict(short_edge=320, max_size=640)),
        (dict(size=320, max_size=700), dict(short_edge=320, max_size=700)),  # as in the published files
        (dict(size=320), dict(short_edge=320, max_size=1333)),
        (dict(size=None), dict(short_edge=800, max_size=1333)),
        (dict(do_resize=False), dict(resize=False)),
    ],
)
def test_images_are_resized_as_in_the_folders_config(tmp_path, folder, change, expected):
    """The images of the library's processor have the edges that ours have after padding."""
    shutil.copytree(folder, tmp_path / 'hub')
    path = tmp_path / 'hub/preprocessor_config.json'
    content = {key: value for key, value in (json.loads(path.read_text()) | change).items() if value is not None}
    path.write_text(json.dumps(content))
    report = convert_checkpoint(tmp_path / 'hub', tmp_path / 'b.pth', 'mmmaskformer')
    assert {key: getattr(report.settings, key) for key in expected} == expected
    cfg = Config.fromstring(torch.load(tmp_path / 'b.pth', weights_only=True)['meta']['cfg'], '.py')
    image = torch.randint(0, 256, (64, 96, 3), generator=torch.Generator().manual_seed(0)).numpy().astype('uint8')
    processor = transformers.MaskFormerImageProcessor.from_pretrained(tmp_path / 'hub')
    values = processor(image, return_tensors='pt').pixel_values[0]
    results = dict(img=image[..., ::-1].copy(), img_shape=(64, 96), ori_shape=(64, 96))
    with DefaultScope.overwrite_default_scope('mmseg'):
        for transform in cfg.test_pipeline[1:-1]:
            results = TRANSFORMS.build(transform)(results)
    divisor = report.settings.size_divisor
    assert tuple(-(-edge // divisor) * divisor for edge in results['img'].shape[:2]) == tuple(values.shape[1:])
    if 'image_size' in expected:  # then all pixels are equal, up to rounding to integers
        mean, std = (torch.tensor(x)[:, None, None] for x in (report.settings.mean, report.settings.std))
        ours = (torch.from_numpy(results['img'][..., ::-1].copy()).permute(2, 0, 1) - mean) / std
        torch.testing.assert_close(ours, values, rtol=0, atol=1.1 / 57)
    convert_checkpoint(tmp_path / 'b.pth', tmp_path / 'back', 'transformers')  # and back
    again = transformers.MaskFormerImageProcessor.from_pretrained(tmp_path / 'back')
    assert again.size == processor.size or 'image_size' in expected
    torch.testing.assert_close(again(image, return_tensors='pt').pixel_values[0], values, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(size=dict(shortest_edge=320)), r"size is \{'shortest_edge': 320\}, expected a number, or an object with"),
        (dict(size=dict(height=0, width=5)), "size is {'height': 0"),
        (dict(size='large'), "size is 'large', expected a number"),
        (dict(size_divisor=-1), 'size_divisor is -1, expected a whole number of at least 0'),
        (dict(image_std=[0.2, 0, 0.2]), 'image_std is .*expected a number, or a list of three'),
        (dict(image_mean='grey'), "image_mean is 'grey', expected"),
        (dict(image_mean=[0.5] * 4), 'image_mean is .*expected'),
        (dict(rescale_factor=0), 'rescale_factor is 0, expected a number above 0'),
    ],
)
def test_invalid_settings_of_images_are_refused(tmp_path, folder, change, message):
    shutil.copytree(folder, tmp_path / 'hub')
    path = tmp_path / 'hub/preprocessor_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f'hub: preprocessor_config.json: {message}.* Fix: correct it'):
        convert_checkpoint(tmp_path / 'hub', tmp_path / 'b.pth', 'mmmaskformer')


def test_classes_with_one_name_keep_their_order(tmp_path):
    """Equal names do not determine an order. If another order is required, the classes are refused."""
    meta = dict(classes=['a', 'a', 'b', 'c', 'd'], isthing=[False, True, True, False, False])
    torch.save(dict(state_dict=weights_of('mmseg'), meta=dict(dataset_meta=meta, num_heads=4)), tmp_path / 'a.pth')
    found = convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth', 'mmmaskformer').conversion.weights
    name = 'decode_head.classifier.class_embed.bias'
    assert torch.equal(found[name], weights_of('mmseg')['decode_head.cls_embed.bias'])
    with pytest.raises(ValueError, match='have to be reordered, but two have the same name. Fix: use a different'):
        convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'c.pth', 'mmdet')


def test_another_filter_for_resizing_is_reported(tmp_path, folder):
    source = changed_folder(folder, tmp_path, 'preprocessor_config.json', 'resample', value=3)
    report = convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer')
    assert any('images are resized with resample=3 there, here always bilinearly' in line for line in report.lines())


@pytest.mark.parametrize('num_heads', [0, -1, 5])
def test_attention_heads_that_do_not_divide_the_channels_are_refused(tmp_path, num_heads):
    source = write_official(tmp_path / 'a.pkl', weights_of('official'))
    with pytest.raises(ValueError, match=f'found {num_heads} attention heads for 32 channels, expected .* --num-heads'):
        convert_checkpoint(source, tmp_path / 'b.pth', 'mmmaskformer', num_heads=num_heads)


def test_the_order_of_the_published_classes_comes_back_from_mmdetection(tmp_path):
    """MMDetection lists the things of ADE20K first; in files of the published code, nothing else would reveal this."""
    shape = architecture(classes=150)
    weights = dict(build(host_config('mmseg', shape, replace(SETTINGS, classes=(), dataset_meta={}))).state_dict())
    weights['decode_head.cls_embed.bias'] = torch.arange(151.0)
    source = write_official(tmp_path / 'a.pkl', convert(weights, 'mmseg', 'official').weights)
    convert_checkpoint(source, tmp_path / 'b.pth', 'mmdet', num_heads=4)
    for to, name in (('official', 'c.pkl'), ('mmseg', 'c.pth'), ('transformers', 'hub')):
        report = convert_checkpoint(tmp_path / 'b.pth', tmp_path / name, to)
        (bias,) = [
            value for key, value in report.conversion.weights.items() if value.shape == (151,) and value.sum() > 999
        ]
        assert torch.equal(bias, torch.arange(151.0)), to
        assert report.settings.classes[:2] == ('wall', 'building')


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
    found = read_source(tmp_path / 'b.pkl').weights
    assert all(torch.equal(v.float(), found[k].float()) for k, v in weights.items() if not k.startswith('criterion'))


def test_a_header_of_another_kind_is_refused(tmp_path):
    save_file({'x': torch.ones(1)}, tmp_path / 'a.safetensors', {'mmmaskformer': '[1, 2]'})
    with pytest.raises(ValueError, match='in its header is a list, expected an object'):
        convert_checkpoint(tmp_path / 'a.safetensors', tmp_path / 'b.pth', 'mmmaskformer')


@pytest.mark.parametrize(
    'source, task', [('official', 'panoptic'), ('transformers', 'panoptic'), ('ade20k', 'semantic')]
)
def test_models_of_coco_are_panoptic_without_an_encoder_too(tmp_path, source, task):
    """Published Swin models of COCO have no encoder, and no file lists the things."""
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
