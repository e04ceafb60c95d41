"""The list of public weights is complete, agrees with the published names and values, and can be read without torch."""

import json
import re
from collections import Counter

import pytest
import yaml
from helpers.fresh import ROOT, run_python

from mmmaskformer.apis import cli
from mmmaskformer.checkpoints import zoo
from mmmaskformer.checkpoints.classes import class_lists

MODELS = zoo.zoo_models()
METAFILES = [
    entry for path in (ROOT / 'configs').glob('*/metafile.yml') for entry in yaml.safe_load(path.read_text())['Models']
]


def test_every_public_model_is_listed():
    found = Counter(model.package for model in MODELS.values())
    assert found == {'official': 30, 'mmdet': 2, 'mmseg': 4, 'transformers': 15, 'backbone': 1}
    assert len({model.address for model in MODELS.values()}) == len(MODELS)
    assert {model.licence for model in MODELS.values() if model.package == 'official'} == {'CC BY-NC 4.0'}


@pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)
def test_an_entry_of_the_list(model):
    """Config, class list and checksum; the checksum begins with the digits in the file name."""
    assert (ROOT / 'configs' / model.config).is_file() and model.address.startswith('https://')
    assert model.classes is None or model.classes in class_lists()
    assert (model.classes is not None) == (model.package == 'official')
    digits = re.search(r'[_-]([0-9a-f]{6}|[0-9a-f]{8})\.(pkl|pth)$', model.address)
    kind = {'official': 'md5', 'mmdet': 'sha256', 'mmseg': 'sha256'}.get(model.package)
    assert model.checksum == (f'{kind}:{digits[1]}' if kind else '')
    if model.package == 'official':
        assert f'/{model.released_as}/' in model.address
    if model.package in ('mmdet', 'mmseg'):
        assert model.address.count(model.released_as.partition('/')[2]) == 2


@pytest.mark.parametrize('model', [m for m in MODELS.values() if m.package == 'official'], ids=lambda m: m.name)
def test_configs_and_results_are_those_of_the_metafiles(model):
    """The results were typed from the paper; its test-server run uses the weights of another entry."""
    entries = [entry for entry in METAFILES if entry['Metadata'].get('Zoo Name') == model.released_as]
    (entry,) = [entry for entry in entries if entry['Config'] == f'configs/{model.config}']
    metrics = entry['Results'][0]['Metrics']
    names = {'mIoU': 'mIoU', 'mIoU, several scales': 'multi-scale mIoU', 'PQ': 'PQ'}
    assert {names[key]: value for key, value in model.result.items()} == {
        key: metrics[f'{key} of the paper'] for key in names.values() if f'{key} of the paper' in metrics
    }


def test_the_command_lists_and_filters(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv('MMMASKFORMER_CACHE', str(tmp_path))
    assert cli.main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(MODELS) + 1 and lines[-1] == f'{len(MODELS)} models; cache: {tmp_path}'
    assert cli.main(['models', 'SWIN-T', 'official', '--details']) == 0
    out = capsys.readouterr().out
    assert 'zoo://maskformer_swin-t_ade20k' in out and 'mIoU 46.7, mIoU, several scales 48.8  [CC BY-NC 4.0]' in out
    assert 'model_final_8657a5.pkl' in out and 'md5:8657a5' in out and '2 models' in out
    assert cli.main(['models', 'nothing']) == 2 and "no model contains all of 'nothing'" in capsys.readouterr().err


def test_the_list_needs_only_python():
    hidden = ('torch', 'numpy', 'mmengine', 'filelock')
    done = run_python("from mmmaskformer.apis.cli import main; main(['models'])", hide=hidden)
    assert done.returncode == 0 and f'{len(MODELS)} models' in done.stdout, done.stderr


def test_names_are_found_or_similar_ones_are_suggested():
    assert zoo.find_model('zoo://maskformer_r50_ade20k').checksum == 'md5:d8dbeb'
    assert zoo.find_model('semantic-ade20k/maskformer_R50_bs16_160k').name == 'maskformer_r50_ade20k'
    with pytest.raises(ValueError, match=r'zoo://maskformer_r50_ade: .* such as .*maskformer_r50_ade20k.*Fix: choose'):
        zoo.find_model('zoo://maskformer_r50_ade')


ENTRY = dict(package='official', task='semantic', address='http://a/b.pkl', licence='mine')


def test_lists_of_your_own(monkeypatch, tmp_path):
    path = tmp_path / 'ours.json'
    monkeypatch.setenv('MMMASKFORMER_ZOO', str(path))
    with pytest.raises(FileNotFoundError, match='MMMASKFORMER_ZOO=.*no such file. Fix'):
        zoo.zoo_models()
    path.write_text(json.dumps({'models': {'ours': ENTRY}}))
    assert zoo.zoo_models().keys() == MODELS.keys() | {'ours'}
    assert zoo.find_model('ours').describe_result() == '–'
    wrong = {
        "ours has no key 'licence'": {key: value for key, value in ENTRY.items() if key != 'licence'},
        "ours has the unknown key 'adress'": ENTRY | dict(adress='x'),
        "package='detectron', expected one of official": ENTRY | dict(package='detectron'),
        "task='instance', expected one of semantic": ENTRY | dict(task='instance'),
        "address='nonsense', expected scheme": ENTRY | dict(address='nonsense'),
        "address='http://a/b.pkl', expected": ENTRY | dict(package='transformers'),
        "checksum='abc', expected md5": ENTRY | dict(checksum='abc'),
        "checksum='md5:', expected md5": ENTRY | dict(checksum='md5:'),
        "checksum='md5:D8DBEB', .* with lower-case": ENTRY | dict(checksum='md5:D8DBEB'),
        "address='http://a/..', expected": ENTRY | dict(address='http://a/..'),
        'address=3, expected a string': ENTRY | dict(address=3),
        'config=7, expected a string': ENTRY | dict(config=7),
        'result=3, expected an object of metrics': ENTRY | dict(result=3),
        "result={'mIoU': 'high'}, expected an object": ENTRY | dict(result={'mIoU': 'high'}),
        'ours is a list, expected an object': [ENTRY],
    }
    for message, entry in wrong.items():
        path.write_text(json.dumps({'models': {'ours': entry}}))
        with pytest.raises(ValueError, match=message):
            zoo.zoo_models()
    for content in (b'[]', b'{', b'{"models": {"../x": {}}}', b'{"models": 3}', b'\xff\xfe{', b'{"models": {"": {}}}'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=str(path)):
            zoo.zoo_models()


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv('MMMASKFORMER_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert zoo.cache_folder() == tmp_path / 'mmmaskformer'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert zoo.cache_folder() == tmp_path / '.cache/mmmaskformer'
    monkeypatch.setenv('MMMASKFORMER_CACHE', '~/weights')
    assert zoo.cache_folder() == tmp_path / 'weights'


@pytest.mark.parametrize('value', ['1', 'true', 'yes', 'ON'])
def test_offline_follows_the_environment_variable(monkeypatch, value):
    monkeypatch.setenv('MMMASKFORMER_OFFLINE', value)
    assert zoo.is_offline()
    for other in ('', '0', 'False', 'no', 'off'):
        monkeypatch.setenv('MMMASKFORMER_OFFLINE', other)
        assert not zoo.is_offline()


def test_the_page_counts_what_the_list_has():
    found = Counter(model.package for model in MODELS.values())
    text = ' '.join((ROOT / 'docs/checkpoints.md').read_text().split())
    counts = (
        '{official} of the published zoo, {mmdet} of MMDetection, {mmseg} of MMSegmentation, {transformers} of transf'
    )
    assert counts.format(**found) in text and found['backbone'] == 1 and 'weights of ResNet-101c.' in text


def test_licences_that_are_not_stated_are_marked():
    """The ResNets of transformers have no model card, and no page states a licence for ResNet-101c."""
    unstated = {model.name for model in MODELS.values() if model.licence.startswith(('none stated', 'unverified'))}
    resnets = {model.name for model in MODELS.values() if 'facebook/maskformer-resnet' in model.released_as}
    assert unstated == resnets | {'deeplab_r103'}
