"""Files of every format are read without running code; unreadable ones are named."""

import io
import json
import pickle

import numpy as np
import pytest
import torch
from helpers.checkpoints import Attack, content
from safetensors.torch import save, save_file

from mmmaskformer.checkpoints.readers import UnreadableError, kind_of, read_pickle, read_special, weight_files
from mmmaskformer.safe_loading import read_folder, read_safely

ARRAYS = {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3),
    'half': np.ones(2, np.float16),
    'count': np.int64(3),
    'index': np.arange(4).reshape(2, 2),
    'swapped': np.arange(3, dtype='>f4'),
}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_pickles_of_arrays_are_read(tmp_path, protocol):
    path = tmp_path / 'model_final_123abc.pkl'
    path.write_bytes(pickle.dumps({'model': ARRAYS, '__author__': 'x', 'n': (1, 2.5, None, True)}, protocol))
    found = read_safely(path, name=str(path))
    assert found['n'] == (1, 2.5, None, True) and found['model']['count'] == 3
    for name in ('a', 'half', 'index', 'swapped'):
        np.testing.assert_array_equal(found['model'][name].numpy(), ARRAYS[name])
    found['model']['a'].add_(1)  # arrays of a pickle are read-only


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('place', ['author', 'weight', 'file'])
def test_code_in_a_pickle_is_not_run(tmp_path, place, protocol):
    attack = Attack(tmp_path / 'executed')
    harmful = {'author': {'model': ARRAYS, '__author__': attack}, 'weight': {'model': ARRAYS | {'x': attack}}}
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(harmful.get(place, attack), protocol))
    with pytest.raises(ValueError, match=r'a\.pkl: it is damaged or would execute code.*mkdir.*Fix'):
        read_safely(path, name=str(path))
    assert not (tmp_path / 'executed').exists()
    pickle.loads(path.read_bytes())  # this would have run it
    assert (tmp_path / 'executed').is_dir()


@pytest.mark.parametrize('function', [eval, getattr, __import__, np.load, np.lib.format.read_array])
def test_functions_that_could_reach_others_are_refused(function):
    class Call:
        def __reduce__(self):
            return function, ('x',)

    with pytest.raises(UnreadableError, match='would execute code'):
        read_pickle(io.BytesIO(pickle.dumps({'model': Call()})), 'a')


@pytest.mark.parametrize(
    'text, message',
    [
        (b'', 'has no bytes'),
        (b'<!DOCTYPE html><html><body>404</body></html>', 'is a web page'),
        (b'\xef\xbb\xbf\n <?xml version="1.0"?><Error>AccessDenied</Error>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'is a pointer of Git LFS'),
        (b'{"error": "Repository not found"}', 'is a text'),
    ],
)
@pytest.mark.parametrize('name', ['model.pkl', 'model.pth', 'model.safetensors'])
def test_files_other_than_checkpoints_are_named(tmp_path, text, message, name):
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf'{name}: it {message}.*Fix'):
        read_safely(path, name=str(path))


@pytest.mark.parametrize('kept', [10, 200, 0.5, 0.99])
@pytest.mark.parametrize('kind', ['pickle', 'safetensors'])
def test_a_truncated_file_is_named(tmp_path, kept, kind):
    whole = pickle.dumps({'model': ARRAYS}) if kind == 'pickle' else save({'a': torch.ones(100)})
    path = tmp_path / 'cut.bin'
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ValueError, match=r'cut\.bin: it .*Fix: .*(damaged|cut off|its publisher)'):
        read_safely(path, name=str(path))


def test_a_pickle_of_something_else_is_named():
    with pytest.raises(UnreadableError, match='it holds a list, expected a dict of weights'):
        read_pickle(io.BytesIO(pickle.dumps([1, 2])), 'a.pkl')


def test_safetensors_with_the_metadata_of_this_package(tmp_path):
    path = tmp_path / 'a.safetensors'
    more = {'meta': {'dataset_meta': {'classes': ['a', 'b']}}}
    save_file({'x': torch.ones(2)}, path, {'format': 'pt', 'mmmaskformer': json.dumps(more)})
    found = read_safely(path, name='a')
    assert found['state_dict']['x'].tolist() == [1, 1] and found['meta'] == more['meta']
    save_file({'x': torch.ones(2)}, path)
    assert list(read_safely(path, name='a')) == ['state_dict']


@pytest.mark.parametrize('zipped', [True, False])
def test_files_of_torch_are_left_to_torch(tmp_path, zipped):
    torch.save(content(), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    with open(tmp_path / 'a.pth', 'rb') as stream:
        assert kind_of(stream) == 'torch' and read_special(stream, 'a') is None and stream.tell() == 0
    assert read_safely(tmp_path / 'a.pth', name='a')['state_dict']['half'].dtype == torch.float16


def folder_of_hub(folder, **config):
    folder.mkdir()
    labels = {'0': 'a', '1': 'b'}
    (folder / 'config.json').write_text(json.dumps(dict(model_type='maskformer', id2label=labels) | config))
    return folder


def test_folders_with_weights_in_several_files(tmp_path):
    folder = folder_of_hub(tmp_path / 'hub')
    index = {'weight_map': {'x': 'one.safetensors', 'y': 'two.safetensors'}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
    save_file({'x': torch.ones(1)}, folder / 'one.safetensors')
    with pytest.raises(FileNotFoundError, match=r'two\.safetensors: .*index\.json names it, but it is missing'):
        weight_files(folder)
    save_file({'y': torch.zeros(1)}, folder / 'two.safetensors')
    found = read_folder(folder)
    assert set(found['state_dict']) == {'x', 'y'} and found['meta']['dataset_meta']['classes'] == ('a', 'b')


@pytest.mark.parametrize(
    'index', ['[]', '{', '{"weight_map": 3}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "../x"}}', '{}']
)
def test_a_damaged_index_is_named(tmp_path, index):
    (tmp_path / 'config.json').write_text('{"model_type": "maskformer"}')
    (tmp_path / 'model.safetensors.index.json').write_text(index)
    with pytest.raises(UnreadableError, match=r'model.safetensors.index.json: .*Fix: download it again'):
        read_folder(tmp_path)


def test_a_folder_whose_weights_are_something_else_is_named(tmp_path):
    (tmp_path / 'config.json').write_text('{"model_type": "maskformer"}')
    torch.save([torch.zeros(1)], tmp_path / 'pytorch_model.bin')
    with pytest.raises(ValueError, match='pytorch_model.bin: it holds a list, expected a dict of weights. Fix'):
        read_folder(tmp_path)


def test_older_folders_hold_a_file_of_torch(tmp_path):
    folder = folder_of_hub(tmp_path / 'hub')
    torch.save({'x': torch.ones(1)}, folder / 'pytorch_model.bin')
    (folder / 'preprocessor_config.json').write_text(json.dumps(dict(size=640, max_size=2560, image_mean=[0.5] * 3)))
    settings = read_folder(folder)['meta']['settings']
    assert settings['short_edge'] == 640 and settings['max_size'] == 2560 and settings['mean'] == (127.5,) * 3


def test_folders_of_other_models_and_without_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="model_type='mask2former', expected 'maskformer'.*other architectures"):
        read_folder(folder_of_hub(tmp_path / 'a', model_type='mask2former'))
    with pytest.raises(FileNotFoundError, match=r'found a config\.json but no weights'):
        read_folder(folder_of_hub(tmp_path / 'b'))
    (tmp_path / 'b/config.json').write_text('{"model_')
    with pytest.raises(ValueError, match=r'config\.json: it cannot be read as JSON'):
        read_folder(tmp_path / 'b')
