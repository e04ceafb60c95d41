"""Each known conflict in a simulated stack, and one run in the real environment."""

import dataclasses
import subprocess
import sys

import pytest
from helpers.fresh import ROOT, run_python

from mmmaskformer.apis import cli
from mmmaskformer.doctor.__main__ import main, report, table
from mmmaskformer.doctor.rules import LITE, Finding, diagnose, release
from mmmaskformer.doctor.stack import Stack, try_imports

GOOD = {
    'torch': '2.14.1+cpu',
    'torchvision': '0.29.1',
    'numpy': '2.4.6',
    'scipy': '1.17.1',
    'pillow': '13.0.0',
    'safetensors': '0.8.0',
    'filelock': '4.3.1',
    'timm': '1.0.31',
    'pycocotools': '2.0.11',
    'matplotlib': '3.11.2',
    'opencv-python': '5.0.0.93',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'ftfy': '6.3.1',
    'regex': '2026.11.15',
    'openmim': '0.3.7',
    'rich': '15.0.0',
    'setuptools': '80.8.0',
    'panopticapi-lite': '0.2.0',
}
FORKS = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
}
UPSTREAM = ('mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation')


def stack(without=(), python=(3, 11, 7), **fields) -> Stack:
    """The good stack without some distributions; ``versions`` adds or replaces others."""
    versions = {name: version for name, version in GOOD.items() if name not in without}
    fields['versions'] = {**versions, **fields.get('versions', {})}
    return Stack(python=python, **{'torchvision_needs': '2.14.1', **fields})


def only_finding(found: Stack) -> Finding:
    findings = diagnose(found)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_working_stack_prints_no_problems():
    assert diagnose(stack()) == []


def test_forks_are_a_working_stack():
    assert diagnose(stack(without=UPSTREAM, versions=FORKS)) == []


def test_full_mmcv_is_a_working_stack():
    assert diagnose(stack(without=['mmcv-lite'], versions={'mmcv': '2.1.0'}, compiled_ops=True)) == []


# (changes of the good stack, level, words of the problem, the fix)
CONFLICTS = {
    'no mmcv': (dict(without=['mmcv-lite']), 'error', ['mmcv-lite', 'full mmcv'], LITE),
    'mmcv 1': (
        dict(without=['mmcv-lite'], versions={'mmcv-full': '1.7.2'}),
        'error',
        ['mmcv-full 1.7.2', '2.0 to 2.1'],
        f'pip uninstall -y mmcv-full && {LITE}',
    ),
    'both mmcv': (
        dict(versions={'mmcv': '2.1.0'}),
        'error',
        ['mmcv-lite and mmcv', 'overwrite each other'],
        f'pip uninstall -y mmcv-lite mmcv && {LITE}',
    ),
    'fork and upstream': (
        dict(versions={'onedl-mmdetection': '3.5.1'}),
        'error',
        ['mmdet and onedl-mmdetection', 'overwrite each other'],
        'pip uninstall -y mmdet onedl-mmdetection && pip install --no-deps onedl-mmdetection',
    ),
    'two engines': (
        dict(versions={'mmengine-lite': '0.10.7'}),
        'error',
        ['mmengine and mmengine-lite'],
        'pip uninstall -y mmengine mmengine-lite && pip install --no-deps mmengine',
    ),
    'mmcv too new': (
        dict(without=['mmcv-lite'], versions={'mmcv': '2.2.0'}),
        'error',
        ['mmcv 2.2.0', 'at least 2.0 and below 2.2', 'mmdet and mmsegmentation'],
        f'pip uninstall -y mmcv && {LITE}',
    ),
    'mmcv-lite too new': (dict(versions={'mmcv-lite': '2.2.0'}), 'error', ['mmcv-lite 2.2.0', 'below 2.2'], LITE),
    'mmdet 2': (dict(versions={'mmdet': '2.28.2'}), 'error', ['mmdet 2.28.2'], "pip install 'mmdet>=3.0,<4'"),
    'mmengine old': (
        dict(versions={'mmengine': '0.7.4'}),
        'error',
        ['mmengine 0.7.4', 'at least 0.10'],
        "pip install 'mmengine>=0.10,<0.11'",
    ),
    'mmseg 0.x': (
        dict(versions={'mmsegmentation': '0.30.0'}),
        'error',
        ['mmsegmentation 0.30.0'],
        "pip install 'mmsegmentation>=1.0,<2'",
    ),
    'setuptools 81': (
        dict(versions={'setuptools': '81.0.0'}),
        'warning',
        ['setuptools 81.0.0', 'pkg_resources'],
        "pip install 'setuptools>=64,<80.9'",
    ),
    'setuptools 82': (
        dict(versions={'setuptools': '82.0.1'}),
        'error',
        ['setuptools 82.0.1', 'pkg_resources', 'openmim 0.3.7'],
        "pip install 'setuptools>=64,<80.9'",
    ),
    'no setuptools': (
        dict(without=['setuptools', 'openmim']),
        'error',
        ['setuptools is not installed', "'mmseg::…'"],
        "pip install 'setuptools>=64,<80.9'",
    ),
    'setuptools 80.10': (
        dict(versions={'setuptools': '80.10.2'}),
        'note',
        ['setuptools 80.10.2', 'pkg_resources', 'harmless'],
        "pip install 'setuptools>=64,<80.9'",
    ),
    'click with which mim cannot search': (
        dict(versions={'click': '8.3.0'}),
        'note',
        ['click 8.3.0', 'openmim 0.3.7', 'mim search'],
        "pip install 'click<8.3'",
    ),
    'click too new for slurm': (
        dict(versions={'click': '8.5.1'}),
        'note',
        ['click 8.5.1', 'openmim 0.3.7', '--launcher slurm', "--srun-args ''"],
        "pip install 'click<8.3' 'huggingface_hub<1'",
    ),
    'timm too old': (
        dict(versions={'timm': '0.9.16'}),
        'error',
        ['timm 0.9.16', 'at least 1.0.'],
        "pip install 'timm>=1.0'",
    ),
    'transformers too new for mmpretrain': (
        dict(
            versions={'mmpretrain': '1.2.0', 'transformers': '5.24.0'},
            import_errors={'mmseg.models': 'TypeError: NoneType takes no arguments [in mmpretrain.models.x]'},
        ),
        'error',
        ['mmpretrain 1.2.0', 'transformers 5.24.0'],
        "pip install 'transformers<4.56'",
    ),
    'openmim too new': (
        dict(versions={'openmim': '0.3.9'}),
        'warning',
        ['openmim 0.3.9', 'setuptools 60'],
        "pip install 'openmim<0.3.8'",
    ),
    'no torchvision': (
        dict(without=['torchvision'], torchvision_needs=None),
        'error',
        ['not installed: torchvision'],
        'pip install torchvision',
    ),
    'no engine, no cv2': (
        dict(without=['mmengine', 'opencv-python']),
        'error',
        ['not installed: mmengine, opencv-python'],
        'pip install mmengine opencv-python',
    ),
    'torchvision of another torch': (
        dict(torchvision_needs='2.13.0'),
        'error',
        ['torchvision 0.29.1', 'torch 2.13.0', 'torch 2.14.1+cpu'],
        "pip install -U 'torch==2.14.1+cpu' torchvision",
    ),
    'torchvision does not import': (
        dict(import_errors={'torchvision': 'RuntimeError: operator torchvision::nms does not exist'}),
        'error',
        ['import torchvision fails', 'operator torchvision::nms does not exist'],
        'pip install --force-reinstall torchvision',
    ),
    'ops of another torch': (
        dict(import_errors={'mmdet.models': 'ImportError: /x/mmcv/_ext.cpython-311.so: undefined symbol: _ZN3c10'}),
        'error',
        ['import mmdet.models fails', 'undefined symbol', 'another torch'],
        f'pip uninstall -y mmcv && {LITE}',
    ),
    'no libGL': (
        dict(import_errors={'mmmaskformer.registry': 'ImportError: libGL.so.1: cannot open shared object file'}),
        'error',
        ['libGL.so.1', 'servers'],
        'pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless',
    ),
    'unknown import error': (
        dict(import_errors={'mmseg.models': 'KeyError: 7'}),
        'error',
        ['import mmseg.models fails: KeyError: 7'],
        "python -c 'import mmseg.models'",
    ),
    'no panopticapi': (
        dict(without=['panopticapi-lite']),
        'note',
        ['CocoPanopticMetric'],
        'pip install --no-deps panopticapi-lite',
    ),
    'torch compiled for numpy 1': (
        dict(versions={'torch': '2.2.2'}, torchvision_needs='2.2.2'),
        'error',
        ['numpy 2.4.6', 'torch 2.2.2'],
        "pip install 'numpy<2'",
    ),
    'more compiled for numpy 1': (
        dict(versions={'pycocotools': '2.0.7', 'matplotlib': '3.8.4'}),
        'error',
        ['pycocotools 2.0.7', 'matplotlib 3.8.4'],
        "pip install 'numpy<2'",
    ),
    'torch too old': (
        dict(versions={'torch': '2.0.1', 'numpy': '1.26.4'}, torchvision_needs='2.0.1'),
        'error',
        ['torch 2.0.1', '2.1 or newer'],
        'pip install -U torch torchvision',
    ),
    'Python too new': (dict(python=(3, 14, 0)), 'error', ['Python 3.14.0', 'find_loader', '3.10', 'below 3.14'], None),
    'Python too old': (dict(python=(3, 9, 18)), 'error', ['Python 3.9.18', '3.10 or newer'], None),
    'undeclared imports': (
        dict(without=['ftfy', 'regex']),
        'error',
        ['ftfy and regex'],
        'pip install ftfy regex',
    ),
    'no mmseg': (
        dict(without=['mmsegmentation', 'ftfy']),
        'note',
        ['mmsegmentation is not installed', 'no semantic'],
        "pip install 'mmsegmentation>=1.0,<2'",
    ),
    'no mmdet': (
        dict(without=['mmdet', 'panopticapi-lite']),
        'note',
        ['mmdet is not installed', 'no panoptic'],
        "pip install 'mmdet>=3.0,<4'",
    ),
    'no host': (
        dict(without=['mmdet', 'mmsegmentation']),
        'error',
        ['neither mmsegmentation', 'nor mmdet'],
        "pip install 'mmsegmentation>=1.0,<2' 'mmdet>=3.0,<4'",
    ),
    'the other mmseg': (
        dict(without=['mmsegmentation'], versions={'mmseg': '1.3.0'}),
        'error',
        ['mmseg 1.3.0', 'Chinese', "'mmsegmentation'"],
        "pip uninstall -y mmseg && pip install 'mmsegmentation>=1.0,<2'",
    ),
}


@pytest.mark.parametrize('name', CONFLICTS)
def test_conflict(name):
    changes, level, words, repair = CONFLICTS[name]
    finding = only_finding(stack(**changes))
    assert finding.level == level
    assert all(word in finding.problem for word in words), finding.problem
    assert repair in (finding.repair, None)
    assert '\n' not in finding.repair


def test_compatible_versions_are_not_mentioned():
    assert not diagnose(stack(versions={'click': '8.2.1', 'mmpretrain': '1.2.0', 'transformers': '4.55.4'}))


def test_forks_may_have_newer_mmcv_but_upstream_hosts_may_not():
    with_upstream_host = stack(without=['mmcv-lite'], versions={'mmcv': '2.2.0'})
    no_upstream_host = stack(without=UPSTREAM, versions={**FORKS, 'mmcv': '2.2.0'})
    assert any('mmcv 2.2.0' in finding.problem for finding in diagnose(with_upstream_host))
    assert not any('mmcv 2.2.0' in finding.problem for finding in diagnose(no_upstream_host))


def test_errors_come_first_and_forbid_training():
    findings = diagnose(stack(without=['mmcv-lite', 'panopticapi-lite'], versions={'openmim': '0.3.9'}))
    assert [finding.level for finding in findings] == ['error', 'warning', 'note']
    assert report(findings).splitlines()[-1] == 'Training cannot start: 1 to repair.'
    assert report(findings[1:]).splitlines()[-1] == 'Training can start.'


@pytest.mark.parametrize(
    ('without', 'error'),
    [
        (['timm'], "ModuleNotFoundError: No module named 'timm'"),
        (['mmcv-lite'], "ModuleNotFoundError: No module named 'mmcv.cnn'"),
        (['mmcv-lite'], 'ImportError: mmmaskformer needs mmcv and found none.'),
    ],
)
def test_a_missing_package_is_reported_once(without, error):
    failed = {'mmmaskformer.registry': error}
    assert not only_finding(stack(without=without, import_errors=failed)).problem.startswith('import')
    assert only_finding(stack(import_errors=failed)).problem.startswith('import mmmaskformer.registry fails')


def test_nothing_installed():
    findings = diagnose(Stack(python=(3, 11, 0), versions={}))
    assert {finding.level for finding in findings} == {'error'}
    assert any('not installed: torch, torchvision' in finding.problem for finding in findings)


@pytest.mark.parametrize(
    ('version', 'numbers'),
    [('2.10.0rc1+cu121', (2, 10)), ('2026.11.15', (2026, 11, 15)), ('1.0', (1,)), ('0.10', (0, 10)), ('0', ())],
)
def test_release(version, numbers):
    assert release(version) == numbers


def test_release_refuses_invalid_versions():
    with pytest.raises(ValueError, match="version 'main' was found; expected one that starts with a number"):
        release('main')


def test_table_shows_what_is_missing_once():
    lines = table(dataclasses.replace(stack(without=['mmcv-lite']), torch_device='no CUDA device')).splitlines()
    assert [line.split() for line in lines if line.startswith('mmcv')] == [['mmcv-lite', '-']]
    assert [line.split() for line in lines if line.startswith('panopticapi')] == [['panopticapi-lite', '0.2.0']]
    assert any(line.endswith('2.14.1+cpu (no CUDA device)') for line in lines)


@pytest.mark.parametrize(('ops', 'words'), [(True, 'with compiled ops'), (False, 'no compiled ops')])
def test_table_distinguishes_full_from_lite(ops, words):
    text = table(stack(without=['mmcv-lite'], versions={'mmcv': '2.1.0'}, compiled_ops=ops))
    assert any(line.startswith('mmcv ') and words in line for line in text.splitlines())


def test_failed_crashed_and_slow_imports_are_reported(tmp_path, monkeypatch):
    (tmp_path / 'fails.py').write_text('print("[noise")\nimport a_package_that_is_not_there')
    (tmp_path / 'dies.py').write_text('import os; os._exit(3)')
    (tmp_path / 'sleeps.py').write_text('import time; time.sleep(60)')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    assert try_imports(['json', 'fails', 'dies', 'ast'], time_limit=60) == (
        '',
        {
            'fails': "ModuleNotFoundError: No module named 'a_package_that_is_not_there' [in fails]",
            'dies': 'the process ended with status 3 during this import',
        },
    )
    assert try_imports(['json', 'sleeps'], time_limit=2)[1] == {'sleeps': 'the import did not finish within 2 s'}


def test_imports_that_never_started_are_reported(monkeypatch):
    """Otherwise a report without any trial import would say that training can start."""
    assert try_imports(['json', 'ast'], time_limit=1e-9)[1] == {'json': 'the import did not finish within 1e-09 s'}
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    assert try_imports(['json'], 60)[1] == {'json': 'the process ended with status 1 during this import'}


@pytest.mark.parametrize('limit', ['0', '-1', 'nan', 'inf'])
def test_a_time_limit_is_a_number_above_0(limit, monkeypatch, capsys):
    expected = rf'--time-limit: found {limit}, expected a number of seconds above 0'
    assert cli.main(['doctor', '--time-limit', limit]) == 2
    assert capsys.readouterr().err == f'error: {expected}\n'
    monkeypatch.setattr(sys, 'argv', ['doctor', '--time-limit', limit])
    with pytest.raises(SystemExit, match='2'):
        main()
    assert capsys.readouterr().err.endswith(f'error: {expected}\n')


def test_runs_for_real():
    done = subprocess.run(
        [sys.executable, '-m', 'mmmaskformer.doctor'], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == 'Training can start.'
    assert any(line.startswith('torch ') for line in done.stdout.splitlines())


def test_needs_only_python():
    """Without site-packages every package is missing, and the doctor reports this instead of failing."""
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', _BARE.format(root=str(ROOT))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert 'ERROR: not installed: torch' in done.stdout
    assert LITE in done.stdout


_BARE = """
import sys
sys.path.insert(0, {root!r})
sys.argv = ['doctor']
from mmmaskformer.doctor import stack
stack.try_imports = lambda modules, time_limit: ('', dict())
from mmmaskformer.doctor.__main__ import main
sys.exit(main())
"""


def test_imports_no_package_itself():
    done = run_python(
        "import sys, mmmaskformer.doctor.__main__\nprint({'torch', 'numpy', 'mmengine', 'mmcv'} & set(sys.modules))"
    )
    assert done.stdout.strip() == 'set()', done.stderr
