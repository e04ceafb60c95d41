"""No checkpoint runs code when mmengine reads it, with the defaults of every torch version."""

import functools
import pickle
import threading
import urllib.error
from collections import OrderedDict
from types import SimpleNamespace

import mmengine.runner.checkpoint as host
import numpy as np
import pytest
import torch
from helpers.checkpoints import Attack, content
from mmengine.runner import CheckpointLoader, load_checkpoint

import mmmaskformer.registry  # noqa: F401  makes mmengine's loader safe
from mmmaskformer import compat, safe_loading
from mmmaskformer.safe_loading import read_safely

OLD_TORCH = '2.3.1'


@pytest.fixture(params=['default', 'old default', 'old torch'])
def torch_default(request, monkeypatch):
    """The behaviour of ``torch.load`` without ``weights_only``."""
    if request.param == 'old default':
        monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    if request.param == 'old torch':
        monkeypatch.setattr(torch, '__version__', OLD_TORCH)
    return request.param


@pytest.mark.parametrize('zipped', [True, False])
def test_files_of_a_run_are_read(tmp_path, torch_default, zipped):
    torch.save(content(), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    found = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), map_location='cpu')
    assert torch.equal(found['state_dict']['weight'], torch.arange(6.0).reshape(2, 3))
    assert found['state_dict']['half'].dtype == torch.float16
    assert found['message_hub']['log_scalars']['train/loss'].mean() == 1.5
    assert found['message_hub']['runtime_info']['best_score'] == 40.5
    assert found['meta']['palette'].tolist() == np.eye(3).tolist()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('key', ['meta', 'state_dict', 'optimizer'])
def test_code_in_a_file_is_not_run(tmp_path, torch_default, key, zipped):
    path = tmp_path / 'a.pth'
    torch.save(content(**{key: Attack(tmp_path / 'executed')}), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'checkpoint .*a.pth: it .* would execute code, and is not read.*mkdir'):
        load_checkpoint(torch.nn.Linear(3, 2), str(path))
    assert not (tmp_path / 'executed').exists()


def test_a_stored_config_with_code_is_ignored(tmp_path, monkeypatch):
    """mmengine executes the text when it resumes a run and in its inferencers."""
    messages = []
    monkeypatch.setattr(safe_loading, 'print_log', lambda text, **_: messages.append(text))
    meta = dict(cfg='a = 1', config=f'b = __import__("os").mkdir({str(tmp_path / "executed")!r})')
    torch.save(content(meta=meta), tmp_path / 'a.pth')
    assert CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))['meta'] == dict(cfg='a = 1')
    (line,) = messages
    assert 'a.pth: a config in it is more than values' in line and "(meta.config, line 1: __import__('os')" in line


def test_a_raw_pickle_is_not_run(tmp_path, torch_default):
    path = tmp_path / 'a.pth'
    path.write_bytes(pickle.dumps(Attack(tmp_path / 'executed')))
    with pytest.raises(ValueError, match=r'checkpoint .*a.pth: it '):
        CheckpointLoader.load_checkpoint(str(path))
    assert not (tmp_path / 'executed').exists()


def test_a_downloaded_file_is_not_run(tmp_path, torch_default, monkeypatch):
    """torch's downloader passes ``weights_only=False`` in every version."""
    torch.save(content(meta=Attack(tmp_path / 'executed')), tmp_path / 'a.pth')
    loader = functools.partial(torch.hub.load_state_dict_from_url, model_dir=str(tmp_path))
    monkeypatch.setattr(host, 'load_url', lambda url, model_dir=None, **kwargs: loader(url, **kwargs))
    with pytest.raises(ValueError, match='checkpoint https://example.org/a.pth: it .*would execute code'):
        CheckpointLoader.load_checkpoint('https://example.org/a.pth')
    assert not (tmp_path / 'executed').exists()


def test_the_attack_works_without_the_check(tmp_path):
    """Shows that the tests above can fail."""
    torch.save(content(meta=Attack(tmp_path / 'executed')), tmp_path / 'a.pth')
    torch.load(tmp_path / 'a.pth', weights_only=False)
    assert (tmp_path / 'executed').is_dir()


@pytest.mark.parametrize('kept', [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, torch_default, kept):
    path = tmp_path / 'a.pth'
    torch.save(content(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ValueError, match=r'checkpoint .*a.pth: it .*Fix'):
        CheckpointLoader.load_checkpoint(str(path))


def test_a_missing_file_raises_its_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'none.pth'))


@pytest.mark.parametrize('name', ['torchvision://resnet50', 'https://models.example/resnet.pth'])
def test_a_failed_download_names_the_checkpoint_and_the_fix(tmp_path, monkeypatch, name):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError('Name or service not known')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'urlopen', no_network)
    with pytest.raises(OSError, match=f'checkpoint {name}: .* not known.* Fix: .*init_cfg=None') as raised:
        CheckpointLoader.load_checkpoint(name, 'cpu')
    assert f'{tmp_path}/hub/checkpoints' in str(raised.value)


def test_torch_is_restored_and_other_threads_are_not_affected(tmp_path):
    original, seen = torch.load, []

    def in_another_thread():
        seen.append(torch.load(tmp_path / 'own.pth', weights_only=False).x)

    torch.save(SimpleNamespace(x=3), tmp_path / 'own.pth')
    with safe_loading._safe_torch_load('a.pth'):
        assert torch.load is not original
        thread = threading.Thread(target=in_another_thread)
        thread.start()
        thread.join()
    assert torch.load is original and seen == [3]


def test_installing_again_changes_nothing():
    before = CheckpointLoader.load_checkpoint.__func__
    compat.allow_mmengine_checkpoints()
    assert CheckpointLoader.load_checkpoint.__func__ is before


class Larger:
    """Is unpickled as a tensor whose shape does not match its two values."""

    def __init__(self, function, shape):
        self.function, self.shape = function, shape

    def __reduce__(self):
        more = (False, OrderedDict()) if self.function is torch._utils._rebuild_tensor_v2 else ()
        return self.function, (torch.zeros(2)._typed_storage(), 0, self.shape, (1,) * len(self.shape), *more)


@pytest.mark.parametrize('function', [torch._utils._rebuild_tensor, torch._utils._rebuild_tensor_v2])
@pytest.mark.parametrize('zipped', [True, False])
def test_a_tensor_larger_than_what_is_stored_is_refused(tmp_path, function, zipped):
    """torch would allocate the memory and use its uninitialised contents."""
    path = tmp_path / 'a.pth'
    for shape in ((10**15,), (3,), (2, 2)):
        torch.save({'weight': Larger(function, shape)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ValueError, match=rf'a\.pth: it is damaged.* tensor of shape .{shape[0]},.* and stores 2'
        ) as error:
            read_safely(path, 'cpu', name=str(path))
        assert 'Allocator' not in str(error.value)
    for shape in ((2,), (1, 1), (0, 10**15)):
        torch.save({'weight': Larger(function, shape)}, path, _use_new_zipfile_serialization=zipped)
        assert tuple(read_safely(path, 'cpu', name=str(path))['weight'].shape) == shape
