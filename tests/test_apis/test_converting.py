"""The command and function that convert checkpoints: what they write, report and refuse."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.foreign import CLASSES, SETTINGS, THINGS, architecture, host_model, weights_of, write_official
from mmengine.config import Config
from safetensors import safe_open

from mmmaskformer.apis import cli
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.model_configs import host_config, own_config
from mmmaskformer.apis.sources import read_source
from mmmaskformer.apis.verifying import build
from mmmaskformer.checkpoints import writers
from mmmaskformer.checkpoints.convert import convert

COLOURS = [[label, 0, 0] for label in range(5)]
META = dict(classes=CLASSES, palette=COLOURS, isthing=THINGS)
# MMDetection's order of CLASSES.
THINGS_FIRST = ['person', 'car', 'wall', 'sky', 'tree']


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Checkpoints of every package, in the packages' own formats."""
    root = tmp_path_factory.mktemp('foreign')
    state = host_model('mmseg').state_dict()
    cfg = host_config('mmseg', architecture(), SETTINGS).pretty_text
    more = dict(meta=dict(dataset_meta=META), message_hub=dict(runtime_info=dict(cfg=cfg)))
    run = dict(
        optimizer=dict(state={}, param_groups=[]), param_schedulers=[{}], ema_state_dict={'steps': torch.ones(1)}
    )
    torch.save(dict(state_dict=state, **more, **run), root / 'mmseg.pth')
    first = dict(classes=THINGS_FIRST, thing_classes=THINGS_FIRST[:2])
    torch.save(dict(state_dict=weights_of('mmdet', encoder=True), meta=dict(dataset_meta=first)), root / 'mmdet.pth')
    write_official(root / 'official.pkl', weights_of('official'))
    return root


def test_a_converted_checkpoint_needs_no_config(files, tmp_path):
    report = convert_checkpoint(files / 'official.pkl', tmp_path / 'a.pth', 'mmmaskformer', num_heads=4)
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert content['state_dict'].keys() == report.conversion.weights.keys()
    meta = content['meta']
    assert meta['licence'] == 'CC BY-NC 4.0' and meta['source']['package'] == 'official'
    assert meta['source']['file'] == 'official.pkl' and len(meta['source']['sha256']) == 64
    assert "type='mmmaskformer.MaskFormerHead'" in meta['cfg'] and 'dataset_meta' not in meta
    text = '\n'.join(report.lines())
    assert 'the source does not store its class names' in text and "detectron2's MaskFormer" in text
    assert f'{len(weights_of("official")) - 1} of its {len(weights_of("official"))} weights are used' in text
    assert '1 dropped: class weights of the loss' in text


def test_optimisers_and_averages_are_dropped_and_reported(files, tmp_path, capsys):
    out = tmp_path / 'a.safetensors'
    assert cli.main(['convert', str(files / 'mmseg.pth'), str(out), '--to', 'mmmaskformer']) == 0
    text = capsys.readouterr().out
    for name in ('optimizer', 'param_schedulers', 'ema_state_dict', 'message_hub'):
        assert f'left out: {name}, a ' in text
    with safe_open(out, 'pt') as opened:
        meta = json.loads(opened.metadata()['mmmaskformer'])['meta']
        assert len(opened.keys()) == len(torch.load(files / 'mmseg.pth', weights_only=True)['state_dict'])
    expected = dict(classes=list(CLASSES), palette=COLOURS, isthing=THINGS)
    assert meta['dataset_meta'] == expected and meta['num_heads'] == 4 and 'num_heads=4' in meta['cfg']


def test_an_average_is_used_if_requested(files, tmp_path):
    raw, mean = weights_of('official'), {k: v + 1 for k, v in weights_of('official').items()}
    torch.save(dict(model=raw, model_ema={f'module.{k}': v for k, v in mean.items()}), tmp_path / 'run.pth')
    for averaged, expected in ((False, raw), (True, mean)):
        out = tmp_path / f'{averaged}.pth'
        found = convert_checkpoint(tmp_path / 'run.pth', out, 'official', averaged=averaged).conversion.weights
        name = 'sem_seg_head.predictor.query_embed.weight'
        assert torch.equal(found[name], expected[name])
    # mmengine's hook swaps them when it saves, so state_dict is the average
    found = convert_checkpoint(files / 'mmseg.pth', tmp_path / 'swapped.pth', 'mmseg', averaged=True).conversion.weights
    name = 'decode_head.query_embed.weight'
    assert torch.equal(found[name], torch.load(files / 'mmseg.pth', weights_only=True)['state_dict'][name])
    with pytest.raises(ValueError, match='--averaged: found none of model_ema'):
        convert_checkpoint(files / 'official.pkl', tmp_path / 'b.pth', 'official', averaged=True)


def test_the_weight_of_no_object_is_kept(tmp_path):
    weights = weights_of('official')
    weights['criterion.empty_weight'][-1] = 0.25
    write_official(tmp_path / 'a.pkl', weights)
    convert_checkpoint(tmp_path / 'a.pkl', tmp_path / 'a.pth', 'mmmaskformer', num_heads=4)
    assert torch.load(tmp_path / 'a.pth', weights_only=True)['meta']['no_object_weight'] == 0.25
    found = convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pkl', 'official').conversion.weights
    assert all(torch.equal(value, found[name]) for name, value in weights.items())


def test_files_have_the_permissions_of_the_umask(files, tmp_path):
    (tmp_path / 'mine').touch()
    convert_checkpoint(files / 'official.pkl', tmp_path / 'a.safetensors', 'mmmaskformer', num_heads=4)
    assert (tmp_path / 'a.safetensors').stat().st_mode == (tmp_path / 'mine').stat().st_mode


def test_files_for_detectron2_have_the_keys_of_its_checkpointer(files, tmp_path):
    convert_checkpoint(files / 'mmseg.pth', tmp_path / 'a.pkl', 'official')
    content = pickle.loads((tmp_path / 'a.pkl').read_bytes())
    assert content['__author__'] == 'mmmaskformer' and content['model']['sem_seg_head.layer_4.weight'].shape[0] == 32
    convert_checkpoint(files / 'mmseg.pth', tmp_path / 'a.pth', 'official')
    state = torch.load(tmp_path / 'a.pth', weights_only=True)['model']
    assert all((state[name].numpy() == value).all() for name, value in content['model'].items())


def test_classes_are_put_into_the_order_of_the_target(files, tmp_path):
    (tmp_path / 'list.json').write_text(json.dumps(META))
    report = convert_checkpoint(
        files / 'mmdet.pth', tmp_path / 'a.pth', 'mmmaskformer', classes=str(tmp_path / 'list.json'), num_heads=4
    )
    assert '4 of the 5 classes have another label than in the source' in report.lines()
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    rows = torch.load(files / 'mmdet.pth', weights_only=True)['state_dict']['panoptic_head.cls_embed.weight']
    order = [2, 0, 3, 1, 4]
    assert content['meta']['label_in_source'] == order and content['meta']['dataset_meta']['isthing'] == THINGS
    assert torch.equal(content['state_dict']['panoptic_head.classifier.class_embed.weight'], rows[[*order, 5]])
    assert 'things=[\n            1,' in content['meta']['cfg'] or 'things=[1, 3]' in content['meta']['cfg']
    # and back: MMDetection requires things first
    convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth', 'mmdet')
    back = torch.load(tmp_path / 'b.pth', weights_only=True)
    assert back['meta']['dataset_meta']['classes'] == THINGS_FIRST
    assert torch.equal(back['state_dict']['panoptic_head.cls_embed.weight'], rows)


def test_published_files_have_no_class_names_and_mmdetection_puts_things_first(tmp_path):
    settings = replace(SETTINGS, classes=(), dataset_meta={})
    weights = dict(build(host_config('mmdet', architecture(classes=150), settings)).state_dict())
    weights['panoptic_head.cls_embed.bias'] = torch.arange(151.0)
    write_official(tmp_path / 'a.pkl', convert(weights, 'mmdet', 'official').weights)
    report = convert_checkpoint(tmp_path / 'a.pkl', tmp_path / 'a.pth', 'mmdet', num_heads=4)
    assert any('assumed to be those of ade20k_panoptic, by their number' in line for line in report.lines())
    content = torch.load(tmp_path / 'a.pth', weights_only=True)
    first = content['state_dict']['panoptic_head.cls_embed.bias']
    assert first[:3].tolist() == [7, 8, 10] and first[100:103].tolist() == [0, 1, 2] and first[150] == 150
    assert content['meta']['dataset_meta']['classes'][0] == 'bed'
    # and back to the published order
    convert_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth', 'mmmaskformer', num_heads=4)
    back = torch.load(tmp_path / 'b.pth', weights_only=True)
    assert torch.equal(back['state_dict']['panoptic_head.classifier.class_embed.bias'], torch.arange(151.0))
    assert back['meta']['dataset_meta']['classes'][:2] == ['wall', 'building']


@pytest.mark.parametrize(
    'name, to', [('mmseg.pth', 'mmmaskformer'), ('mmdet.pth', 'mmmaskformer'), ('mmdet.pth', 'mmseg')]
)
def test_outputs_are_those_of_the_source_packages_own_model(files, tmp_path, name, to):
    """Without padding, MMDetection's head equals the published one."""
    report = convert_checkpoint(files / name, tmp_path / 'a.pth', to, verify=True, num_heads=4)
    assert [difference.what for difference in report.differences] == ['class logits', 'mask logits']
    assert all(difference.scale > 0.01 and difference.largest < 1e-5 for difference in report.differences)


def test_other_heads_give_other_outputs(files, tmp_path):
    """Shows that the test above can fail."""
    from mmmaskformer.apis.verifying import compare_outputs

    weights = weights_of('mmdet', encoder=True)
    conversion = convert(weights, 'mmdet', 'mmmaskformer')
    changed = conversion.weights | {'decode_head.classifier.class_embed.bias': torch.zeros(6)}
    pair = ('mmdet', weights), ('mmmaskformer', changed)
    classes, masks = compare_outputs(*pair, conversion.architecture, SETTINGS, None)
    assert classes.largest > 0.01 and masks.largest < 1e-5


def test_without_the_source_package_weights_are_compared(files, tmp_path):
    report = convert_checkpoint(files / 'official.pkl', tmp_path / 'a.pth', 'mmmaskformer', verify=True, num_heads=4)
    (difference,) = report.differences
    assert difference.largest == 0
    assert f'{len(weights_of("official")) - 1} weights, converted back' in difference.what


@pytest.mark.parametrize('kind', ['per pixel', 'per pixel plus'])
def test_per_pixel_baselines_go_to_the_published_code_and_back(tmp_path, kind):
    shape = architecture(kind=kind)
    torch.manual_seed(0)
    weights = dict(build(own_config(shape, SETTINGS, 'semantic')).state_dict())
    torch.save(dict(state_dict=weights, meta=dict(num_heads=4)), tmp_path / 'own.pth')
    report = convert_checkpoint(tmp_path / 'own.pth', tmp_path / 'a.pkl', 'official', verify=True)
    assert report.conversion.architecture == shape and report.differences[0].largest == 0
    convert_checkpoint(tmp_path / 'a.pkl', tmp_path / 'b.pth', 'mmmaskformer', num_heads=4)
    back = torch.load(tmp_path / 'b.pth', weights_only=True)
    assert back['state_dict'].keys() == weights.keys()
    assert all(torch.equal(value, back['state_dict'][name]) for name, value in weights.items())
    model = build(Config.fromstring(back['meta']['cfg'], '.py'))
    model.load_state_dict(back['state_dict'])
    refused(tmp_path / 'own.pth', tmp_path, 'has no per-pixel baseline.*Fix: convert to mmmaskformer or', to='mmdet')


def test_nothing_is_replaced_without_force(files, tmp_path, capsys):
    out = tmp_path / 'a.pth'
    out.write_text('mine')
    arguments = ['convert', str(files / 'official.pkl'), str(out), '--to', 'official']
    assert cli.main(arguments) == 2
    assert 'a.pth exists and is not replaced. Fix: choose another name, or add --force' in capsys.readouterr().err
    assert out.read_text() == 'mine'
    assert cli.main([*arguments, '--force']) == 0 and out.stat().st_size > 1000


def refused(source, tmp_path, message, to='mmmaskformer', name='out.pth', **options):
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises((ValueError, OSError), match=message):
        convert_checkpoint(source, tmp_path / name, to, **options)
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('to, name, message', [
    ('mmmaskformer', 'a.bin', 'expected .pth or .safetensors'),
    ('mmdet', 'a.safetensors', 'expected .pth, which mmdet reads'),
    ('transformers', 'a.pth', 'transformers reads folders'),
    ('official', 'none/a.pkl', 'the folder does not exist'),
    ('timm', 'a.pth', "--to: found 'timm', expected one of mmmaskformer"),
])  # fmt: skip
def test_impossible_outputs_are_refused(files, tmp_path, to, name, message):
    refused(files / 'official.pkl', tmp_path, message, to, name)


OTHERS = {
    "detectron2's Mask2Former": 'sem_seg_head.predictor.query_feat.weight',
    "MMDetection's Mask2Former": 'panoptic_head.query_feat.weight',
    "MMSegmentation's Mask2Former": 'decode_head.level_embed.weight',
    "transformers' Mask2Former": 'model.transformer_module.level_embed.weight',
    'DETR': 'class_embed.weight',
    'another decode head': 'decode_head.conv_seg.weight',
    'a bare backbone': 'layer1.0.conv1.weight',
}


@pytest.mark.parametrize('what', OTHERS)
def test_other_architectures_are_named(tmp_path, what):
    torch.save({OTHERS[what]: torch.zeros(1), 'class_predictor.weight'[: 99 * ('transf' in what)]: torch.zeros(1)},
               tmp_path / 'a.pth')  # fmt: skip
    refused(tmp_path / 'a.pth', tmp_path, rf'a\.pth: not a MaskFormer; it looks like .*{what}.*Fix')


def test_damaged_files_are_refused(files, tmp_path):
    whole = (files / 'official.pkl').read_bytes()
    (tmp_path / 'cut.pkl').write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / 'cut.pkl', tmp_path, r'cut\.pkl: it .*Fix')
    (tmp_path / 'page.pkl').write_text('<html>403 Forbidden</html>')
    refused(tmp_path / 'page.pkl', tmp_path, r'page\.pkl: it is a web page, not a checkpoint.*Fix: download')
    refused(tmp_path / 'none.pkl', tmp_path, r'none\.pkl: no such file')
    refused(tmp_path, tmp_path, 'a folder without config.json')


def test_missing_weights_and_backbones_are_refused(files, tmp_path):
    weights = weights_of('official')
    write_official(tmp_path / 'a.pkl', {k: v for k, v in weights.items() if k != 'backbone.res3.0.conv1.weight'})
    refused(tmp_path / 'a.pkl', tmp_path, r'a\.pkl: it is .* cannot be converted: .*res3\.0\.conv1\.weight is missing')
    write_official(tmp_path / 'b.pkl', {k: v for k, v in weights.items() if not k.startswith('backbone')})
    refused(tmp_path / 'b.pkl', tmp_path, 'it has no backbone. Fix: use the checkpoint of a whole model')


def test_a_config_of_another_model_is_refused(files, tmp_path):
    cfg = convert_checkpoint(files / 'official.pkl', tmp_path / 'a.pth', 'mmmaskformer', num_heads=4)
    text = torch.load(cfg.out, weights_only=True)['meta']['cfg']
    (tmp_path / 'right.py').write_text(text)
    (tmp_path / 'classes.py').write_text(text.replace('num_classes=5', 'num_classes=6'))
    (tmp_path / 'deeper.py').write_text(text.replace('depth=18', 'depth=34'))
    convert_checkpoint(files / 'official.pkl', tmp_path / 'b.pth', 'mmmaskformer', config=tmp_path / 'right.py')
    source = files / 'official.pkl'
    message = r'class_embed\.bias is \(6,\), expected \(7,\); the checkpoint is ResNet-18; 5 classes.*Fix'
    refused(source, tmp_path, message, config=tmp_path / 'classes.py')
    refused(source, tmp_path, r'is absent, expected .*the checkpoint is ResNet-18', config=tmp_path / 'deeper.py')


def test_class_lists_that_do_not_fit_are_refused(files, tmp_path):
    refused(
        files / 'official.pkl',
        tmp_path,
        '--classes coco_panoptic has 133 classes, but the model has 5',
        classes='coco_panoptic',
    )
    (tmp_path / 'a.json').write_text(json.dumps(dict(classes=list('vwxyz'))))
    refused(files / 'mmseg.pth', tmp_path, "class 0 is 'wall', expected 'v'", classes=str(tmp_path / 'a.json'))


@pytest.mark.parametrize('to, name', [('mmmaskformer', 'a.safetensors'), ('official', 'a.pkl'), ('transformers', 'a')])
def test_a_full_disk_leaves_nothing(files, tmp_path, monkeypatch, to, name):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writers.shutil, 'disk_usage', lambda path: usage._replace(free=1000))
    refused(files / 'official.pkl', tmp_path, 'MB are needed, 0 MB are free; nothing is written. Fix', to, name)
    monkeypatch.undo()

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    refused(files / 'official.pkl', tmp_path, 'No space left on device', to, name)


def test_a_source_is_read_once_and_recognised_by_its_content(files, tmp_path):
    shutil.copy(files / 'official.pkl', tmp_path / 'renamed.bin')
    found = read_source(tmp_path / 'renamed.bin')
    assert found.package == 'official' and found.rest == {'__author__': 'str, not weights of the model'}
