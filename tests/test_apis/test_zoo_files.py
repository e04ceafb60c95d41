"""Weights by name: fetched once, converted, kept whole; by one process at a time; with and without a network."""

import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from helpers import official
from helpers.file_server import serving
from helpers.foreign import weights_of, write_official
from helpers.zoo import Zoo
from mmengine.logging import MMLogger

from mmmaskformer import __version__
from mmmaskformer.apis import cli
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.zoo_files import converted_file, original_file
from mmmaskformer.checkpoints import writers

CHILD = 'from mmmaskformer.apis.zoo_files import converted_file; print(converted_file("toy"))'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A released file of the published code, and a folder of transformers."""
    root = tmp_path_factory.mktemp('released')
    write_official(root / 'model_final.pkl', weights_of('official'))
    convert_checkpoint(root / 'model_final.pkl', root / 'hub', 'transformers')
    return root


@pytest.fixture
def zoo(files, tmp_path, monkeypatch):
    with serving() as server:
        found = Zoo(server, tmp_path / 'cache', tmp_path / 'zoo.json')
        found.add('toy', files / 'model_final.pkl')
        found.use(monkeypatch)
        yield found


@pytest.fixture
def said():
    """Lines of mmengine's logger."""
    lines: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def names_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()} - {'.lock'}


def test_a_model_is_downloaded_once_and_cached_converted(zoo):
    path = converted_file('zoo://toy')
    assert path == zoo.cache / f'toy/toy-{__version__}.pth' and names_in(path.parent) == {path.name, 'model_final.pkl'}
    content = torch.load(path, weights_only=True)
    assert content['meta']['licence'] == 'a licence for tests' and content['meta']['source']['package'] == 'official'
    query = 'transformer_decoder.query_embed.weight'
    expected = weights_of('official')['sem_seg_head.predictor.query_embed.weight']
    assert torch.equal(content['state_dict'][f'decode_head.classifier.{query}'], expected)
    assert converted_file('toy') == path and len(zoo.server.requests) == 1
    path.unlink()  # as another release finds it
    assert converted_file('toy') == path and len(zoo.server.requests) == 1


def test_the_licence_is_named_each_time(zoo, said):
    for _ in range(2):
        said.clear()
        converted_file('toy')
        (line,) = [line for line in said if 'licence of the weights: a licence for tests' in line]
        assert line.startswith('toy: ') and 'published: mIoU 12.5' in line


def test_a_folder_of_transformers(zoo, files):
    zoo.add('hub', files / 'hub')
    del zoo.server.files['hub/preprocessor_config.json']
    path = converted_file('hub')
    assert names_in(path.parent) == {path.name, 'original/config.json', 'original/model.safetensors'}
    assert torch.load(path, weights_only=True)['meta']['source']['package'] == 'transformers'
    old = files / 'old'
    shutil.copytree(files / 'hub', old)
    state = torch.load(path, weights_only=True)['state_dict']
    (old / 'model.safetensors').unlink()
    torch.save(weights_of('transformers'), old / 'pytorch_model.bin')
    zoo.add('old', old)
    found = torch.load(converted_file('old'), weights_only=True)['state_dict']
    assert found.keys() == state.keys()


def test_a_backbone(zoo, tmp_path):
    case = official.load('backbones')['cases']['resnet50_basic']
    arrays = {key: value.numpy() for key, value in case['state_dict'].items()} | {'stem.fc.bias': np.zeros(3)}
    (tmp_path / 'R.pkl').write_bytes(pickle.dumps({'model': arrays}))
    zoo.add('r50', tmp_path / 'R.pkl', package='backbone', task='backbone')
    content = torch.load(converted_file('r50'), weights_only=True)
    assert torch.equal(content['state_dict']['conv1.weight'], case['state_dict']['stem.conv1.weight'])
    assert content['meta']['licence'] == 'a licence for tests'


def test_offline(zoo, monkeypatch, files):
    monkeypatch.setenv('MMMASKFORMER_OFFLINE', '1')
    place = zoo.cache / 'toy/model_final.pkl'
    message = rf'{zoo.server.address}toy/model_final.pkl cannot .*MMMASKFORMER_OFFLINE is set.* save it as {place}'
    with pytest.raises(OSError, match=message):
        converted_file('toy')
    place.write_bytes(b'another file')
    with pytest.raises(OSError, match=f'{place}: .*has sha256 .*expected .* Fix: remove it, or download http'):
        converted_file('toy')
    shutil.copy(files / 'model_final.pkl', place)
    assert converted_file('toy').is_file() and not zoo.server.requests
    place.unlink()
    assert converted_file('toy').is_file()


def test_the_commands_and_their_option(zoo, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('MMMASKFORMER_OFFLINE', '0')
    arguments = ['convert', 'zoo://toy', str(tmp_path / 'out.pth'), '--to', 'mmseg', '--num-heads', '4']
    assert cli.main([*arguments, '--offline']) == 2 and 'MMMASKFORMER_OFFLINE is set' in capsys.readouterr().err
    monkeypatch.setenv('MMMASKFORMER_OFFLINE', '0')
    assert cli.main(['models', 'toy', '--fetch']) == 0
    assert f'zoo://toy: {zoo.cache}/toy/toy-' in capsys.readouterr().out
    assert cli.main(['models', 'toy']) == 0 and 'a licence for tests, in the cache' in capsys.readouterr().out
    assert cli.main([*arguments, '--offline']) == 0
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['meta']['licence'] == 'a licence for tests'
    assert original_file('toy').name == 'model_final.pkl' and len(zoo.server.requests) == 1


def test_incomplete_conversions_are_removed(zoo, monkeypatch):
    def fail(*arguments):
        raise OSError('the disk is full')

    monkeypatch.setattr(writers.torch, 'save', fail)
    with pytest.raises(OSError, match='the disk is full'):
        converted_file('toy')
    assert names_in(zoo.cache / 'toy') == {'model_final.pkl'}


def test_a_model_that_differs_from_the_config(zoo, files):
    config = 'ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
    zoo.add('wrong', files / 'model_final.pkl', config=config)
    with pytest.raises(ValueError, match='weights do not fit the model of .*maskformer_r50-d32.* Fix: the config of'):
        converted_file('wrong')
    assert names_in(zoo.cache / 'wrong') == {'model_final.pkl'}


def test_a_cache_that_cannot_be_used(zoo, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMMASKFORMER_CACHE', str(tmp_path / 'file'))
    with pytest.raises(OSError, match='the cache folder cannot be used .* Fix: set MMMASKFORMER_CACHE'):
        converted_file('toy')


def test_two_processes_download_once(zoo, said):
    """One process has begun to fetch when this one asks for the same model."""
    zoo.server.faults['toy/model_final.pkl'] = ['stall']
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    child = subprocess.Popen([sys.executable, '-c', CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not zoo.server.requests and child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert zoo.server.requests, 'the other process has not asked'
    threading.Timer(0.5, zoo.server.gate.set).start()
    path = converted_file('toy')
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0 and out.splitlines()[-1] == str(path) and len(zoo.server.requests) == 1
    assert 'toy: another process is downloading it; waiting' in said
