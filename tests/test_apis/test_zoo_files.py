"""Weights by name: downloaded once, by one process at a time, converted, cached, with and without a network."""

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
from mmmaskformer.apis import cli, zoo_downloads
from mmmaskformer.apis.backbones import convert_backbone
from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.zoo_downloads import original_file
from mmmaskformer.apis.zoo_files import converted_file
from mmmaskformer.checkpoints import downloads, writers
from mmmaskformer.checkpoints.zoo import find_model

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
    """Messages of mmengine's logger."""
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
    assert path == find_model('toy').converted and names_in(path.parent) == {path.name, 'model_final.pkl'}
    assert path.parent == zoo.cache / 'toy' and path.name.startswith(f'toy-{__version__}-')
    content = torch.load(path, weights_only=True)
    assert content['meta']['licence'] == 'a licence for tests' and content['meta']['source']['package'] == 'official'
    query = 'transformer_decoder.query_embed.weight'
    expected = weights_of('official')['sem_seg_head.predictor.query_embed.weight']
    assert torch.equal(content['state_dict'][f'decode_head.classifier.{query}'], expected)
    assert converted_file('toy') == path and len(zoo.server.requests) == 1
    path.unlink()  # as for a later release, which looks for another name
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
    place.write_bytes(b'\x80\x02 another file')
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
    with pytest.raises(
        ValueError, match='weights do not match the model of .*maskformer_r50-d32.* Fix: use the config of'
    ):
        converted_file('wrong')
    assert names_in(zoo.cache / 'wrong') == {'model_final.pkl'}


def test_a_cache_that_cannot_be_used(zoo, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMMASKFORMER_CACHE', str(tmp_path / 'file'))
    with pytest.raises(OSError, match='the cache folder cannot be used .* Fix: set MMMASKFORMER_CACHE'):
        converted_file('toy')


@pytest.mark.parametrize('place', ['toy/model_final.pkl', 'hub/config.json', 'hub/model.safetensors'])
def test_a_web_page_in_place_of_the_file_is_not_kept(zoo, files, place):
    """Public networks may answer with an HTML page instead of the file; a later request gets the file."""
    zoo.add('hub', files / 'hub')
    zoo.server.faults[place] = ['page']
    name = place.partition('/')[0]
    what = 'is not a JSON object' if place.endswith('json') else 'is a web page'
    with pytest.raises(OSError, match=rf'{zoo.server.address}{place}: .* {what}.*; nothing is kept. Fix: try again'):
        converted_file(name)
    assert not any(part.name.startswith(place.rpartition('/')[2]) for part in (zoo.cache / name).rglob('*'))
    assert converted_file(name).is_file()


def test_the_error_for_a_truncated_download_names_what_to_remove(zoo, files):
    """Folders of transformers have no known checksum."""
    zoo.add('hub', files / 'hub')
    zoo.server.faults['hub/model.safetensors'] = ['short']
    folder = zoo.cache / 'hub/original'
    with pytest.raises(
        ValueError, match=rf'zoo://hub: the downloaded file is not .* cut off.* To download it again, remove {folder}'
    ):
        converted_file('hub')
    shutil.rmtree(folder)
    assert converted_file('hub').is_file()


def test_a_read_only_cache_serves_what_is_in_it(zoo, files, monkeypatch, tmp_path):
    zoo.add('hub', files / 'hub')
    for name in ('toy', 'hub'):
        converted_file(name)
    access = os.access  # root may write anywhere
    monkeypatch.setattr(os, 'access', lambda path, mode: str(zoo.cache) not in str(path) and access(path, mode))
    for name in ('toy', 'hub'):
        assert converted_file(name).is_file() and original_file(name).exists()
    convert_checkpoint('zoo://toy', tmp_path / 'a.pth', 'mmseg', num_heads=4)
    find_model('toy').converted.unlink()
    with pytest.raises(OSError, match='the cache folder cannot be used .*not writable.* Fix: set MMM'):
        converted_file('toy')


def test_a_disk_without_locks_is_named(zoo, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError('this disk knows no locks')

    monkeypatch.setattr(zoo_downloads.FileLock, 'acquire', acquire)
    with pytest.raises(OSError, match='the cache folder cannot be used .this disk knows no locks.* Fix: set MMM'):
        converted_file('toy')


def test_another_entry_of_the_same_name_is_converted_again(zoo, files):
    first = converted_file('toy')
    (files / 'classes.json').write_text('{"classes": ["a", "b", "c", "d", "e"]}')
    zoo.add('toy', files / 'model_final.pkl', classes=str(files / 'classes.json'))
    second = converted_file('toy')
    assert first != second and len(zoo.server.requests) == 1
    assert torch.load(second, weights_only=True)['meta']['dataset_meta']['classes'] == list('abcde')


def test_names_can_be_given_to_the_functions_and_wrong_arguments_fetch_nothing(zoo, tmp_path, files):
    out = tmp_path / 'a.pth'
    out.write_text('mine')
    for to, options, message in (
        ('mmseg', {}, 'exists and is not replaced'),
        ('caffe', dict(force=True), '--to: found'),
        ('mmseg', dict(force=True, task='instance'), '--task: found'),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            convert_checkpoint('zoo://toy', out, to, **options)
    with pytest.raises(FileExistsError):
        convert_backbone('zoo://toy', out)
    assert not zoo.server.requests and out.read_text() == 'mine'
    meta = torch.load(convert_checkpoint('zoo://toy', out, 'mmseg', force=True).out, weights_only=True)['meta']
    assert meta['licence'] == 'a licence for tests'
    with pytest.raises(ValueError, match='which is a whole model; expected only a backbone. Fix: init_cfg'):
        convert_backbone('zoo://toy', tmp_path / 'b.pth')
    assert not (tmp_path / 'b.pth').exists()


def test_only_converted_models_are_listed_as_in_the_cache(zoo, files, tmp_path, capsys):
    convert_checkpoint(files / 'model_final.pkl', tmp_path / 'released.pth', 'mmseg', num_heads=4)
    zoo.add('host', tmp_path / 'released.pth', package='mmseg')
    original_file('host')
    assert cli.main(['models', 'host']) == 0 and 'in the cache' not in capsys.readouterr().out
    converted_file('host')
    assert cli.main(['models', 'host']) == 0 and 'in the cache' in capsys.readouterr().out


def test_addresses_with_more_than_a_path(zoo, files):
    zoo.server.files['toy/model_final.pkl?download=1'] = zoo.server.files['toy/model_final.pkl']
    zoo.add('more', files / 'model_final.pkl', address=f'{zoo.server.address}toy/model_final.pkl?download=1')
    assert converted_file('more').is_file() and original_file('more').name == 'model_final.pkl'


def test_an_interrupted_download_continues_in_the_next_process(zoo, monkeypatch):
    monkeypatch.setattr(downloads, 'PAUSES', ())
    zoo.server.faults['toy/model_final.pkl'] = ['break']
    with pytest.raises(OSError, match='cannot be downloaded'):
        converted_file('toy')
    size = (zoo.cache / 'toy/model_final.pkl.part').stat().st_size
    assert converted_file('toy').is_file()
    assert zoo.server.requests[-1] == ('toy/model_final.pkl', f'bytes={size}-')


def test_two_processes_download_once(zoo, said):
    """One process is downloading when another one requests the same model."""
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
