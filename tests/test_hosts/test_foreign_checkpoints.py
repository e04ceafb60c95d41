"""Weights of other packages, wherever a checkpoint is accepted, give the predictions of their original model."""

import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from helpers import runs
from helpers.file_server import serving
from helpers.host_tools import run_tool
from helpers.saved_models import decided_model
from helpers.zoo import Zoo
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.apis import cli
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.trained import load_trained
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.scenes.files import write_scenes

from mmdet.apis import DetInferencer, inference_detector, init_detector  # isort: skip
from mmseg.apis import MMSegInferencer, inference_model, init_model  # isort: skip

# A backbone and widths that every package supports.
MODEL = """
model['backbone'] = dict(
    _delete_=True, type='mmseg.ResNet', depth=18, base_channels=4, stem_channels=8, norm_eval=True,
)
model['{head}'].update(channels=32, pixel_decoder=dict(norm_groups=32))
"""
PANOPTIC = "model['test_cfg'] = dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.1))"
FORMATS = {
    'official.pkl': 'official',
    'host.pth': None,
    'transformers': 'transformers',
    'own.safetensors': 'mmmaskformer',
}
THINGS = [label for label, thing in enumerate(scenes.METAINFO['isthing']) if thing]
META = {key: scenes.METAINFO[key] for key in ('classes', 'palette', 'isthing')}


class Files(NamedTuple):
    """A config, its own checkpoint, the same weights in other packages' formats, and an image."""

    config: Path
    own: Path
    foreign: dict[str, Path]
    image: str


def write_files(root: Path, panoptic: bool) -> Files:
    head = 'panoptic_head' if panoptic else 'decode_head'
    write_scenes(root / 'scenes', 2, 1)
    more = MODEL.format(head=head) + (PANOPTIC if panoptic else '')
    config = runs.write_config(root / 'toy.py', root / 'scenes', panoptic=panoptic, iters=1, more=more)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=decided_model(cfg, 3).state_dict(), meta=dict(dataset_meta=META)), root / 'own.pth')
    host = 'mmdet' if panoptic else 'mmseg'
    formats = {name: to or host for name, to in FORMATS.items()}
    task = 'panoptic' if panoptic else 'semantic'
    for name, to in formats.items():
        convert_checkpoint(root / 'own.pth', root / name, to, num_heads=2, task=task)
    image = next((root / 'scenes').rglob('*val*/*.png'))
    return Files(config, root / 'own.pth', {name: root / name for name in formats}, str(image))


@pytest.fixture(scope='module')
def semantic(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('semantic'), panoptic=False)


@pytest.fixture(scope='module')
def panoptic(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('panoptic'), panoptic=True)


@pytest.fixture
def log():
    """Messages of mmengine's logger about conversions."""
    found: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [text for text in found if 'converted in memory' in text]
    logger.removeHandler(handler)


def labels_of(sample) -> np.ndarray:
    return sample.pred_sem_seg.data[0].numpy()


def codes_of(sample) -> np.ndarray:
    return sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()


@pytest.fixture(scope='module')
def labels(semantic):
    """The predictions with our own checkpoint."""
    found = labels_of(inference_model(init_model(str(semantic.config), str(semantic.own), 'cpu'), semantic.image))
    assert len(np.unique(found)) > 1
    return found


@pytest.fixture(scope='module')
def codes(panoptic):
    """The predictions with our own checkpoint."""
    model = init_detector(str(panoptic.config), str(panoptic.own), device='cpu')
    found = codes_of(inference_detector(model, panoptic.image))
    assert len(np.unique(found)) > 1
    return found


@pytest.mark.parametrize('name', FORMATS)
def test_init_model(semantic, labels, log, name):
    model = init_model(str(semantic.config), str(semantic.foreign[name]), 'cpu')
    np.testing.assert_array_equal(labels_of(inference_model(model, semantic.image)), labels)
    said = log()
    assert len(said) == (name != 'own.safetensors') and all(str(semantic.foreign[name]) in line for line in said)
    if name != 'official.pkl':
        assert list(model.dataset_meta['classes']) == list(scenes.METAINFO['classes'])


@pytest.mark.parametrize('name', ['official.pkl', 'transformers'])
def test_inferencer_of_mmseg(semantic, labels, name):
    inferencer = MMSegInferencer(str(semantic.config), str(semantic.foreign[name]), device='cpu')
    np.testing.assert_array_equal(inferencer(semantic.image)['predictions'], labels)


@pytest.mark.parametrize('name', FORMATS)
def test_init_detector(panoptic, codes, log, name):
    model = init_detector(str(panoptic.config), str(panoptic.foreign[name]), device='cpu')
    np.testing.assert_array_equal(codes_of(inference_detector(model, panoptic.image)), codes)
    assert len(log()) == (name != 'own.safetensors')
    if name != 'official.pkl':
        assert list(model.dataset_meta['classes']) == list(scenes.METAINFO['classes'])


def test_mmdetection_has_the_things_first(panoptic, log):
    """Otherwise the tests above would not show that classes are reordered."""
    assert list(range(len(THINGS))) != THINGS
    own, theirs = (torch.load(file, weights_only=True) for file in (panoptic.own, panoptic.foreign['host.pth']))
    assert theirs['meta']['dataset_meta']['classes'] != list(scenes.METAINFO['classes'])
    name = 'panoptic_head.classifier.class_embed.bias'
    assert not torch.equal(theirs['state_dict']['panoptic_head.cls_embed.bias'], own['state_dict'][name])
    init_detector(str(panoptic.config), str(panoptic.foreign['host.pth']), device='cpu')
    assert 'classes reordered for the model' in log()[0]


@pytest.mark.parametrize('name', ['official.pkl', 'host.pth'])
def test_inferencer_of_mmdet(panoptic, name):
    own, other = (
        DetInferencer(str(panoptic.config), str(file), device='cpu')(panoptic.image)['predictions'][0]['panoptic_seg']
        for file in (panoptic.own, panoptic.foreign[name])
    )
    np.testing.assert_array_equal(other, own)


def test_the_test_script_of_mmseg(semantic, tmp_path):
    for name, file in (('own', semantic.own), ('foreign', semantic.foreign['official.pkl'])):
        out = run_tool(
            'mmseg', 'test.py', semantic.config, file, '--work-dir', name, '--out', f'{name}_png', cwd=tmp_path
        )
        assert len(re.findall('converted in memory', out)) == (name == 'foreign'), out[-2000:]
    for file in (tmp_path / 'own_png').iterdir():
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'foreign_png' / file.name)), cv2.imread(str(file)))


def test_load_from_in_training(panoptic, tmp_path):
    folder = panoptic.foreign['transformers']
    options = ['--cfg-options', f'load_from={folder}', 'train_cfg.val_interval=2']
    out = run_tool('mmdet', 'train.py', panoptic.config, '--work-dir', 'run', *options, cwd=tmp_path)
    assert len(re.findall(f'checkpoint {folder}: .*converted in memory', out)) == 1
    assert 'are not in it' not in out and (tmp_path / 'run/iter_1.pth').is_file()


def test_draw_and_the_loader_of_exports(semantic, tmp_path):
    for name in ('own', 'foreign'):
        file = semantic.own if name == 'own' else semantic.foreign['transformers']
        arguments = ['draw', str(semantic.config), str(file), '--out', str(tmp_path / name), '--num', '1']
        assert cli.main(arguments) == 0
    own, other = (cv2.imread(str(tmp_path / name / 'overview.png')) for name in ('own', 'foreign'))
    np.testing.assert_array_equal(own, other)
    own, other = (load_trained(semantic.config, file) for file in (semantic.own, semantic.foreign['official.pkl']))
    assert all(torch.equal(value, other.model.state_dict()[key]) for key, value in own.model.state_dict().items())


def config_in(file: Path) -> Config:
    return Config.fromstring(torch.load(file, weights_only=True)['meta']['cfg'], '.py')


def test_a_converted_checkpoint_needs_no_other_file(semantic, panoptic, tmp_path):
    """transformers' config resizes as published, so our weights predict with that config as well."""
    convert_checkpoint(semantic.foreign['host.pth'], tmp_path / 'a.pth', 'mmmaskformer', num_heads=2)
    inferencer = MMSegInferencer(None, str(tmp_path / 'a.pth'), device='cpu')
    assert list(inferencer.model.dataset_meta['classes']) == list(META['classes'])
    own = inference_model(init_model(config_in(tmp_path / 'a.pth'), str(semantic.own), 'cpu'), semantic.image)
    np.testing.assert_array_equal(inferencer(semantic.image)['predictions'], labels_of(own))
    # This package has no class list; without one, the result would also have things first.
    (tmp_path / 'list.json').write_text(json.dumps(META))
    settings = dict(num_heads=2, classes=str(tmp_path / 'list.json'))
    convert_checkpoint(panoptic.foreign['host.pth'], tmp_path / 'b.pth', 'mmmaskformer', **settings)
    other = DetInferencer(weights=str(tmp_path / 'b.pth'), device='cpu')
    own = init_detector(config_in(tmp_path / 'b.pth'), str(panoptic.own), device='cpu')
    assert list(other.model.dataset_meta['classes']) == list(META['classes'])
    expected, found = (codes_of(inference_detector(model, panoptic.image)) for model in (own, other.model))
    np.testing.assert_array_equal(found, expected)


def test_another_backbone_and_other_classes_are_refused(semantic, tmp_path):
    text = semantic.config.read_text()
    (tmp_path / 'deeper.py').write_text(text.replace('depth=18', 'depth=34'))
    message = r'official\.pkl: it is .*its backbone is ResNet-18, but the model has a ResNet of .* Fix: use a config'
    with pytest.raises(ValueError, match=message):
        init_model(str(tmp_path / 'deeper.py'), str(semantic.foreign['official.pkl']), 'cpu')
    (tmp_path / 'more.py').write_text(text + "\nmodel['decode_head'].update(num_classes=7)\n")
    classes = len(scenes.METAINFO['classes'])
    with pytest.raises(ValueError, match=f'is for {classes} classes, but the model has num_classes=7. Fix'):
        init_model(str(tmp_path / 'more.py'), str(semantic.foreign['official.pkl']), 'cpu')


def test_models_of_the_hosts_keep_their_own_checkpoints(semantic):
    """A stock MaskFormer in the same process loads its file as if this package were not installed."""
    cfg = Config.fromstring(torch.load(semantic.foreign['host.pth'], weights_only=True)['meta']['cfg'], '.py')
    model = init_model(cfg, str(semantic.foreign['host.pth']), 'cpu')
    state = torch.load(semantic.foreign['host.pth'], weights_only=True)['state_dict']
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.fixture
def zoo(semantic, panoptic, tmp_path, monkeypatch):
    """The models by name: a released file of the published code, and a folder of transformers."""
    with serving() as server:
        found = Zoo(server, tmp_path / 'cache', tmp_path / 'zoo.json')
        found.add('toy', semantic.foreign['official.pkl'], config=str(semantic.config))
        more = dict(task='panoptic', config=str(panoptic.config))
        found.add('things', panoptic.foreign['transformers'], **more)
        found.use(monkeypatch)
        yield found


def test_names_of_the_zoo_in_the_functions_of_mmseg(semantic, labels, zoo, tmp_path):
    model = init_model(str(semantic.config), 'zoo://toy', 'cpu')
    np.testing.assert_array_equal(labels_of(inference_model(model, semantic.image)), labels)
    inferencer = MMSegInferencer(str(semantic.config), 'zoo://toy', device='cpu')
    np.testing.assert_array_equal(inferencer(semantic.image)['predictions'], labels)
    alone = MMSegInferencer(None, 'zoo://toy', device='cpu')  # with the config stored in the converted file
    np.testing.assert_array_equal(alone(semantic.image)['predictions'], labels)
    for name, checkpoint in (('own', str(semantic.own)), ('zoo', 'zoo://toy')):
        arguments = ['draw', str(semantic.config), checkpoint, '--out', str(tmp_path / name), '--num', '1']
        assert cli.main(arguments) == 0
    own, other = (cv2.imread(str(tmp_path / name / 'overview.png')) for name in ('own', 'zoo'))
    np.testing.assert_array_equal(own, other)
    state = load_trained(semantic.config, semantic.own).model.state_dict()  # the loader of exports
    other = load_trained(semantic.config, 'zoo://toy').model.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in state.items())
    assert len(zoo.server.requests) == 1


def test_names_of_the_zoo_in_the_functions_of_mmdet(panoptic, codes, zoo):
    model = init_detector(str(panoptic.config), 'zoo://things', device='cpu')
    np.testing.assert_array_equal(codes_of(inference_detector(model, panoptic.image)), codes)
    alone = DetInferencer(weights='zoo://things', device='cpu')
    assert list(alone.model.dataset_meta['classes']) == list(META['classes'])
    np.testing.assert_array_equal(codes_of(inference_detector(alone.model, panoptic.image)), codes)


def test_names_of_the_zoo_in_the_scripts_of_the_hosts(semantic, panoptic, zoo, tmp_path, monkeypatch):
    """Test and training scripts of both hosts; at first one of them has no network."""
    out = run_tool('mmseg', 'test.py', semantic.config, 'zoo://toy', '--work-dir', 'a', '--out', 'png', cwd=tmp_path)
    assert out.count('licence of the weights: a licence for tests') == 1
    (file,) = (tmp_path / 'png').iterdir()
    image = next(semantic.config.parent.glob(f'scenes/images/val/{file.stem}.*'))
    own = inference_model(init_model(str(semantic.config), str(semantic.own), 'cpu'), str(image))
    np.testing.assert_array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), labels_of(own))
    options = ['--work-dir', 'run', '--cfg-options', 'load_from=zoo://things', 'train_cfg.val_interval=2']
    monkeypatch.setenv('MMMASKFORMER_OFFLINE', '1')
    failed = run_tool('mmdet', 'train.py', panoptic.config, *options, cwd=tmp_path, check=False)
    assert f'save it as {zoo.cache}/things/original/config.json' in failed
    monkeypatch.delenv('MMMASKFORMER_OFFLINE')
    out = run_tool('mmdet', 'train.py', panoptic.config, *options, cwd=tmp_path)
    assert 'are not in it' not in out and (tmp_path / 'run/iter_1.pth').is_file()
    options = ['--work-dir', 'b', '--cfg-options', 'load_from=zoo://toy', 'train_cfg.val_interval=2']
    out = run_tool('mmseg', 'train.py', semantic.config, *options, cwd=tmp_path)
    assert 'are not in it' not in out and (tmp_path / 'b/iter_1.pth').is_file()
    assert out.count('licence of the weights: a licence for tests') == 1
    out = run_tool('mmdet', 'test.py', panoptic.config, 'zoo://things', '--work-dir', 'c', cwd=tmp_path)
    assert 'are not in it' not in out and re.search(r'panoptic/PQ: [\d.]+', out)
