"""The replacement of mmcv's compiled operators, version checks, and checkpoints with ``weights_only=True``."""

import importlib
import importlib.util
import pickle
import re
import sys
import zipfile
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from helpers.fresh import run_python_before_hosts
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.utils.dl_utils.misc import mmcv_full_available
from torch import nn

from mmmaskformer import compat


@pytest.fixture
def no_ops_module(monkeypatch):
    """``mmcv._ext`` as if it had not been imported or replaced yet."""
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    monkeypatch.delitem(sys.modules, 'mmcv._ext')


class FindsOps:
    """A finder that claims that a compiled ``mmcv._ext`` exists."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, loader=object(), origin='_ext.so') if name == 'mmcv._ext' else None


@pytest.fixture
def lite(no_ops_module, monkeypatch):
    """Hide compiled operators of mmcv, whichever variant is installed; our replacement is still found."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name, package=None: (
            None if name == 'mmcv._ext' and name not in sys.modules else find_spec(name, package)
        ),
    )


class TestStandIn:
    def test_called_op_raises_with_its_name_and_the_fix(self, lite):
        assert compat.install_op_stand_in()
        op = importlib.import_module('mmcv._ext').deform_conv_forward
        with pytest.raises(RuntimeError, match=r"'deform_conv_forward'.*no compiled ops.*mim install"):
            op(torch.zeros(1), 3, stride=2)

    def test_mmengine_still_finds_mmcv_lite(self, lite):
        compat.install_op_stand_in()
        assert not mmcv_full_available()

    def test_special_attributes_are_absent(self, lite):
        compat.install_op_stand_in()
        assert not hasattr(sys.modules['mmcv._ext'], '__path__')

    def test_second_call_changes_nothing(self, lite):
        compat.install_op_stand_in()
        first = sys.modules['mmcv._ext']
        assert compat.install_op_stand_in()
        assert sys.modules['mmcv._ext'] is first


def test_the_replacement_keeps_a_real_module(no_ops_module, monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [FindsOps, *sys.meta_path])
    assert not compat.install_op_stand_in()
    assert 'mmcv._ext' not in sys.modules


def test_python_too_old():
    with pytest.raises(ImportError, match=r'needs Python 3\.10 or newer and found 3\.9\.18\. Fix: .*venv'):
        compat.require_versions((3, 9, 18), '2.4.0')


@pytest.mark.parametrize('version', ['2.0.1+cu118', '1.13.1'])
def test_torch_too_old(version):
    with pytest.raises(ImportError, match=rf'needs torch 2\.1 or newer and found {re.escape(version)}\. Fix: pip'):
        compat.require_versions((3, 11, 0), version)


@pytest.mark.parametrize('version', ['2.1.0', '2.10.0a0+gitabc', '2.14.1+cu130', '3.0.0.dev20270101'])
def test_supported_versions_pass(version):
    compat.require_versions((3, 10, 0), version)


def test_the_message_without_mmcv_names_what_to_install():
    done = run_python_before_hosts('import mmmaskformer.registry', hide=('mmcv',))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'ImportError: mmmaskformer needs mmcv and found none. Expected: mmcv-lite 2.1 (no compiler needed) or full '
        "mmcv 2.0 to 2.1. Fix: pip install 'mmcv-lite>=2.1,<2.2'"
    )


def test_a_folder_left_by_an_uninstall_is_not_mmcv(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: ModuleSpec(name, loader=None))
    with pytest.raises(ImportError, match='found none'):
        compat.require_mmcv()


class Points(BaseDataset):
    """Four constant points; the palette is an array, as in some datasets of the hosts."""

    METAINFO = dict(classes=('point',), palette=np.array([[7, 8, 9]], dtype=np.uint8))

    def load_data_list(self):
        return [dict(inputs=torch.ones(2)) for _ in range(4)]


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs, sample_idx=None, mode='tensor'):
        outputs = self.linear(torch.stack(list(inputs)))
        return dict(loss=outputs.square().mean()) if mode == 'loss' else [outputs]


class NumpyScore(BaseMetric):
    """Returns numpy scalars, as the hosts' metrics do."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(mIoU=np.float64(40.5), accuracy=np.float32(0.5))


def make_runner(work_dir, **kwargs) -> Runner:
    loader = dict(batch_size=2, dataset=Points(), sampler=dict(type='DefaultSampler', shuffle=False))
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=dict(loader),
        val_cfg=dict(),
        val_evaluator=Evaluator(NumpyScore()),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=dict(type='PolyLR', begin=0, end=4, by_epoch=False),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False, save_best='mIoU')),
        default_scope='mmengine',
        log_level='WARNING',
        **kwargs,
    )


def iterations(count: int) -> dict:
    return dict(by_epoch=False, max_iters=count, val_interval=2)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A file that mmengine's Runner wrote after two iterations and a validation."""
    work_dir = tmp_path_factory.mktemp('run')
    make_runner(work_dir, train_cfg=iterations(2), experiment_name='compat_write').train()
    return work_dir / 'iter_2.pth'


def test_runner_checkpoint_loads_with_the_check_on(checkpoint):
    compat.allow_mmengine_checkpoints()
    content = torch.load(checkpoint, weights_only=True)
    losses, counts = content['message_hub']['log_scalars']['train/loss'].data
    assert losses.dtype == np.float64 and losses.shape == counts.shape == (2,)
    assert content['meta']['dataset_meta']['palette'].tolist() == [[7, 8, 9]]


def test_runner_resumes(checkpoint, tmp_path):
    compat.allow_mmengine_checkpoints()
    resumed = make_runner(
        tmp_path, train_cfg=iterations(4), load_from=str(checkpoint), resume=True, experiment_name='compat_resume'
    )
    resumed.train()
    assert resumed.iter == 4
    losses, _ = resumed.message_hub.get_scalar('train/loss').data
    assert len(losses) == 4
    assert resumed.message_hub.get_info('best_score') == 40.5


def test_safe_globals_are_what_a_checkpoint_needs_and_no_more(checkpoint):
    """All registered names are used by a real file; the numeric dtypes are the only addition."""
    stored = set(torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint))
    code = (
        'import torch\n'
        'import mmengine.runner  # imports distributed tensors, which torch itself registers\n'
        'from mmmaskformer import compat\n'
        'from torch._weights_only_unpickler import _get_user_allowed_globals as allowed\n'
        'before = set(allowed())\n'
        'compat.allow_mmengine_checkpoints()\n'
        "print(*[name for name in set(allowed()) - before if not name.startswith('numpy.dtype')])\n"
    )
    done = run_python_before_hosts(code)
    assert done.returncode == 0, done.stderr
    registered = {name.replace('numpy.core', 'numpy._core') for name in done.stdout.split()}
    needed = {
        'mmengine.logging.history_buffer.HistoryBuffer',
        'builtins.getattr',
        'numpy.ndarray',
        'numpy._core.multiarray.scalar',
        'numpy._core.multiarray._reconstruct',
    }
    assert registered == needed
    assert stored <= needed | {'numpy.dtype'}


@pytest.mark.parametrize('package', [b'numpy.core', b'numpy._core'])
def test_files_of_both_numpy_generations_load(checkpoint, tmp_path, package):
    compat.allow_mmengine_checkpoints()
    rewritten = tmp_path / 'renamed.pth'
    replaced = 0
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(rewritten, 'w') as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith('data.pkl'):
                data, replaced = re.subn(rb'cnumpy\._?core\.', b'c' + package + b'.', data)
            target.writestr(entry, data)
    assert replaced == 2  # _reconstruct and scalar, each named once
    content = torch.load(rewritten, weights_only=True)
    assert content['message_hub']['runtime_info']['best_score'] == 40.5


class Attack:
    """Is pickled as a call of ``function`` with ``args``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ('attack', 'message'),
    [
        (Attack(exec, 'raise SystemExit'), 'Unsupported global'),
        (Attack(getattr, HistoryBuffer, '__init__'), "attribute '__init__' of .*HistoryBuffer"),
        (Attack(getattr, HistoryBuffer, 'register_statistics'), "attribute 'register_statistics'"),
        (Attack(getattr, np.ndarray, 'tofile'), "attribute 'tofile' of .*PlainArray"),
        (Attack(getattr, HistoryBuffer([1.0], [1]), 'mean'), "attribute 'mean' of"),
    ],
    ids=['exec', 'private', 'classmethod', 'other owner', 'instance'],
)
def test_unsafe_files_are_still_refused(tmp_path, attack, message):
    compat.allow_mmengine_checkpoints()
    path = tmp_path / 'unsafe.pth'
    torch.save(dict(state_dict={}, extra=attack), path)
    with pytest.raises(pickle.UnpicklingError, match=message):
        torch.load(path, weights_only=True)


def test_the_methods_of_a_buffer_cannot_be_called_by_a_file(tmp_path):
    compat.allow_mmengine_checkpoints()
    path = tmp_path / 'call.pth'
    torch.save(Attack(HistoryBuffer.mean, HistoryBuffer([1.0], [1])), path)
    with pytest.raises(pickle.UnpicklingError, match='unrecognized function'):
        torch.load(path, weights_only=True)


def test_older_torch_is_not_changed(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    monkeypatch.setattr(torch.serialization, 'add_safe_globals', lambda safe: pytest.fail('registered'))
    compat.allow_mmengine_checkpoints()
