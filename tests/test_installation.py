"""The package as installed from a wheel, without the clone: mim and mmengine find its configs and tools."""

import json
import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest
from helpers.fresh import ROOT

from mmmaskformer.datasets.scenes.files import write_scenes

SOURCES = ('setup.py', 'setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml')
FOLDERS = ('mmmaskformer', 'configs', 'tools')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder with the unpacked wheel, as in site-packages."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    command = ['-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', str(folder), str(source)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with ZipFile(next(folder.glob('*.whl'))) as wheel:
        wheel.extractall(folder / 'site')
    return folder / 'site'


def run(*arguments, site, cwd) -> str:
    """Run Python with the unpacked wheel first on the path; returns the output."""
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONPATH=str(site))
    command = [sys.executable, '-W', 'ignore', *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_holds_every_config_and_tool_and_its_types(site):
    for name in ('configs', 'tools'):
        expected = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob('*.*') if path.suffix != '.pyc'}
        found = site / 'mmmaskformer/.mim' / name
        assert {path.relative_to(found) for path in found.rglob('*.*')} == expected
    assert (site / 'mmmaskformer-startup.pth').is_file()
    assert all((site / 'mmmaskformer' / name).is_file() for name in ('py.typed', 'checkpoints/zoo.json'))


QUESTIONS = """
import json
from click.testing import CliRunner
from mim.commands.list import list_package
from mim.commands.search import cli as search, get_model_info
from mim.utils import get_installed_path
from mmengine.hub import get_config

models = get_model_info('mmmaskformer', to_dict=True)
searched = [
    CliRunner().invoke(search, ['mmmaskformer', *options])
    for options in (['--valid-config'], ['--dataset', 'ade20k'], ['--config', 'maskformer_tiny_1xb8-800_scenes'])
]
print(json.dumps(dict(
    path=get_installed_path('mmmaskformer'),
    listed='mmmaskformer' in [name for name, *_ in list_package()],
    configs=[model['config'] for model in models.values()],
    published=models['maskformer_swin-t_64xb1-554k_coco-panoptic']['coco panoptic/pq_of_the_paper'],
    searched=[done.output if done.exit_code == 0 else repr(done.exception) for done in searched],
    queries=get_config('mmmaskformer::scenes/maskformer_tiny_1xb8-800_scenes.py').model.decode_head.num_queries,
)))
"""


def test_mim_and_mmengine_find_the_configs(site, tmp_path):
    answers = json.loads(
        run('-c', 'import mmmaskformer.startup\n' + QUESTIONS, site=site, cwd=tmp_path).splitlines()[-1]
    )
    shipped = (path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py'))
    assert answers['path'] == str(site / 'mmmaskformer') and answers['listed']
    assert sorted(answers['configs']) == sorted(path for path in shipped if '_base_' not in path)
    by_name, by_dataset, by_config = answers['searched']
    assert 'maskformer_swin_ade20k' in by_name and 'swin-t_8xb2-160k_ade20k' in by_dataset and '82.5' in by_config
    assert answers['published'] == 47.7 and answers['queries'] == 20


def test_mim_trains_a_config_that_inherits_by_name(site, tmp_path):
    write_scenes(tmp_path / 'data/scenes', 4, 1)
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmmaskformer::scenes/maskformer_tiny_1xb8-800_scenes.py'\n"
        'train_cfg = dict(max_iters=1, val_interval=1)\n'
        'auto_scale_lr = dict(base_batch_size=2)\n'
        'train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,\n'
        '    dataset=dict(pipeline=_base_.train_pipeline))\n'
        'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
    )
    out = run('-m', 'mim', 'train', 'mmmaskformer', 'mine.py', '--work-dir', 'run', site=site, cwd=tmp_path)
    assert str(site / 'mmmaskformer/.mim/tools/train.py') in out and 'mIoU' in out
    assert (tmp_path / 'run/iter_1.pth').is_file()
    # So few scenes do not show every class, which the run reports; nothing else is worth a warning.
    assert [line for line in out.splitlines() if 'WARNING' in line and 'label maps' not in line] == []
