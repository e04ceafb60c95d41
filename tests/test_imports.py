"""Allowed imports: `core` imports no OpenMMLab package, heads import no host, and functions import nothing."""

import ast
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.fresh import ROOT, run_python_before_hosts
from helpers.package_files import FILES_OF

PACKAGE = ROOT / 'mmmaskformer'
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))
OPENMMLAB = ('mmengine', 'mmcv', 'mmseg', 'mmdet')

# Modules shared by modeling, training and inference, which do not import one another.
CORE_BASE = {
    f'mmmaskformer.core.{path.stem}'
    for path in (PACKAGE / 'core').glob('*.py')
    if path.stem not in ('__init__', 'model')
}

# file → what it may import besides the standard library; or folder → what those of its files may import that
# `helpers/package_files.py` lists
ARROWS = {
    'core/training/one_pass_triton.py': {'torch', 'triton', *CORE_BASE, 'mmmaskformer.core.training'},
    'core/training/': {'torch', 'numpy', 'scipy', *CORE_BASE, 'mmmaskformer.core.training'},
    'core/modeling/': {'torch', *CORE_BASE, 'mmmaskformer.core.modeling'},
    'core/inference/': {'torch', 'numpy', 'scipy', *CORE_BASE, 'mmmaskformer.core.inference'},
    'core/quality/': {'numpy', 'mmmaskformer.core.quality', 'mmmaskformer.core.segments'},
    'core/__init__.py': {'mmmaskformer.core'},
    'core/model.py': {'torch', 'mmmaskformer.core'},
    'core/': {'torch', 'numpy', *CORE_BASE},
    'analysis/': {'torch', 'numpy', 'mmmaskformer.analysis', 'mmmaskformer.core', 'mmmaskformer.formats'},
    'formats/mmdet_codes.py': {'torch', 'numpy', 'mmmaskformer.core'},
    'formats/coco_instances.py': {'numpy', 'pycocotools', 'mmmaskformer.formats'},
    'formats/': {'numpy', 'PIL', 'cv2', 'mmengine.fileio', 'mmmaskformer.core', 'mmmaskformer.formats'},
    'checkpoints/shapes.py': {'torch', 'mmmaskformer.checkpoints', 'mmmaskformer.core.modeling'},
    'checkpoints/writers.py': {'torch', 'safetensors', 'mmmaskformer.checkpoints', 'mmmaskformer.formats'},
    'checkpoints/zoo.py': {'mmmaskformer.__version__'},
    'checkpoints/downloads.py': {'mmmaskformer.checkpoints.transfers', 'mmmaskformer.formats'},
    'checkpoints/transfers.py': set(),
    'checkpoints/readers.py': {'torch', 'numpy', 'safetensors', 'mmmaskformer.checkpoints', 'mmmaskformer.formats'},
    'checkpoints/': {'torch', 'numpy', 'mmmaskformer.checkpoints', 'mmmaskformer.formats'},
    'catalog.py': {'mmmaskformer.core', 'mmmaskformer.heads', 'mmmaskformer.hosts', 'mmmaskformer.registry'},
    'heads/': {
        'torch',
        'numpy',
        'mmengine',
        'mmmaskformer.checkpoints',
        'mmmaskformer.compat',
        'mmmaskformer.core',
        'mmmaskformer.formats',
        'mmmaskformer.heads',
        'mmmaskformer.registry',
    },
    'registry.py': {'mmengine', 'mmmaskformer.compat'},
    'requirements.py': set(),
    'compat.py': {
        'torch',
        'numpy',
        'mmengine',
        'mmmaskformer.formats',
        'mmmaskformer.requirements',
        'mmmaskformer.run_settings',
        'mmmaskformer.safe_loading',
        'mmmaskformer.without_gpu',
    },
    'run_settings.py': {'mmengine', 'mmmaskformer.core.checks', 'mmmaskformer.formats.whole_files'},
    'without_gpu.py': {'torch', 'mmengine'},
    'safe_loading.py': {
        'torch',
        'mmengine',
        'mmmaskformer.apis.zoo_files',
        'mmmaskformer.checkpoints',
        'mmmaskformer.compat',
        'mmmaskformer.formats',
    },
    'startup.py': {'mmmaskformer.compat', 'mmmaskformer.launcher'},
    'launcher.py': set(),
    'datasets/transforms/packing.py': {
        'torch',
        'numpy',
        'mmcv',
        'mmengine',
        'mmdet',
        'mmmaskformer.datasets',
        'mmmaskformer.registry',
        'mmmaskformer.core.checks',
        'mmmaskformer.core.structures',
    },
    'datasets/transforms/': {
        'torch',
        'numpy',
        'PIL',
        'cv2',
        'mmcv',
        'mmengine',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
        'mmmaskformer.core.checks',
    },
    'datasets/samplers.py': {'torch', 'numpy', 'mmengine', 'mmmaskformer.core.checks', 'mmmaskformer.registry'},
    'datasets/seg.py': {
        'numpy',
        'mmengine',
        'mmseg',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
        'mmmaskformer.core.checks',
    },
    'datasets/instance.py': {
        'mmmaskformer.core.checks',
        'mmengine',
        'mmdet',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
    },
    'datasets/panoptic.py': {
        'mmengine',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
        'mmmaskformer.core.checks',
    },
    'evaluation/instance_metric.py': {
        'mmengine',
        'mmdet',
        'mmmaskformer.core.checks',
        'mmmaskformer.evaluation',
        'mmmaskformer.formats',
        'mmmaskformer.heads.results',
        'mmmaskformer.registry',
    },
    'datasets/benchmarks.py': {'mmmaskformer.datasets', 'mmmaskformer.formats', 'mmmaskformer.registry'},
    'datasets/panoptic_benchmarks.py': {'mmmaskformer.datasets', 'mmmaskformer.registry'},
    'datasets/settings.py': {'mmmaskformer.core.checks'},
    'datasets/converters/': {
        'numpy',
        'PIL',
        'cv2',
        'scipy',
        'h5py',
        'rich',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
    },
    'datasets/': {
        'numpy',
        'PIL',
        'mmengine',
        'rich',
        'mmmaskformer.core.segments',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
    },
    'evaluation/': {
        'numpy',
        'cv2',
        'mmengine',
        'mmmaskformer.core',
        'mmmaskformer.evaluation',
        'mmmaskformer.formats',
        'mmmaskformer.heads.results',
        'mmmaskformer.registry',
    },
    'visualization/': {
        'torch',
        'pycocotools',
        'mmmaskformer.core',
        'numpy',
        'PIL',
        'mmengine',
        'matplotlib',
        'rich',
        'mmmaskformer.registry',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.heads.results',
        'mmmaskformer.visualization',
    },
    'hosts/mmseg.py': {
        'torch',
        'mmengine',
        'mmseg',
        'mmmaskformer.core',
        'mmmaskformer.hosts',
        'mmmaskformer.heads.settings',
    },
    'hosts/mmseg_preprocessor.py': {'torch', 'mmseg', 'mmmaskformer.hosts', 'mmmaskformer.core.checks'},
    'hosts/mmdet.py': {'torch', 'mmdet', 'mmmaskformer.hosts', 'mmmaskformer.core.checks'},
    'hosts/data_check.py': {
        'mmmaskformer.core.checks',
        'mmengine',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
    },
    'hosts/mmseg_visualizer.py': {
        'numpy',
        'mmseg',
        'mmmaskformer.core.checks',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
    },
    'hosts/mmdet_visualizer.py': {
        'mmmaskformer.core.checks',
        'torch',
        'numpy',
        'mmengine',
        'mmdet',
        'mmmaskformer.formats',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
    },
    'hosts/image_check.py': {'cv2', 'torch', 'mmengine', 'mmmaskformer.core.checks', 'mmmaskformer.registry'},
    'hosts/vis_backends.py': {
        'numpy',
        'mmengine',
        'PIL',
        'mmmaskformer.core.checks',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
    },
    'hosts/mmseg_drawing.py': {'mmseg', 'mmmaskformer.core.checks', 'mmmaskformer.registry'},
    'hosts/tta.py': {'torch', 'mmengine', 'mmmaskformer.core', 'mmmaskformer.heads'},
    'hosts/checkpoint_checks.py': {
        'mmmaskformer.core.checks',
        'torch',
        'mmengine',
        'mmmaskformer.checkpoints',
        'mmmaskformer.formats.messages',
        'mmmaskformer.heads.checkpoint_layouts',
        'mmmaskformer.heads.conversion',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
    },
    'hosts/hooks.py': {
        'torch',
        'numpy',
        'mmengine',
        'mmmaskformer.checkpoints',
        'mmmaskformer.datasets',
        'mmmaskformer.core.checks',
        'mmmaskformer.core.training.points',
        'mmmaskformer.formats',
        'mmmaskformer.heads.settings',
        'mmmaskformer.heads.panoptic_head',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
    },
    'hosts/resumed_settings.py': {
        'torch',
        'mmengine',
        'mmmaskformer.checkpoints.config_text',
        'mmmaskformer.formats.messages',
        'mmmaskformer.hosts',
    },
    'hosts/': {
        'torch',
        'numpy',
        'mmengine',
        'mmmaskformer.datasets',
        'mmmaskformer.core.checks',
        'mmmaskformer.formats',
        'mmmaskformer.heads.settings',
        'mmmaskformer.hosts',
        'mmmaskformer.registry',
        'mmmaskformer.run_settings',
    },
    'apis/cli/__init__.py': {'mmmaskformer.__version__', 'mmmaskformer.apis.cli', 'mmmaskformer.apis.scripts'},
    'apis/cli/': {
        'mmmaskformer.analysis',
        'mmmaskformer.apis',
        'mmmaskformer.checkpoints.zoo',
        'mmmaskformer.datasets.scenes',
        'mmmaskformer.doctor',
        'mmmaskformer.visualization',
    },
    'apis/zoo_downloads.py': {'filelock', 'mmengine', 'mmmaskformer.checkpoints'},
    'apis/model_size.py': {
        'torch',
        'mmengine',
        'mmmaskformer.core.inference',
        'mmmaskformer.export',
        'mmmaskformer.registry',
    },
    'apis/analysis/': {
        'torch',
        'mmengine',
        'rich',
        'mmmaskformer.analysis',
        'mmmaskformer.apis',
        'mmmaskformer.core',
        'mmmaskformer.datasets',
        'mmmaskformer.evaluation',
        'mmmaskformer.export.modules',
        'mmmaskformer.formats',
        'mmmaskformer.heads',
        'mmmaskformer.hosts.hooks',
        'mmmaskformer.visualization',
    },
    'apis/sweeping.py': {
        'mmengine',
        'mmmaskformer.analysis',
        'mmmaskformer.apis',
        'mmmaskformer.formats',
        'mmmaskformer.visualization',
    },
    'apis/drawing.py': {
        'torch',
        'mmengine',
        'rich',
        'mmmaskformer.apis',
        'mmmaskformer.datasets',
        'mmmaskformer.formats',
        'mmmaskformer.hosts.hooks',
        'mmmaskformer.visualization',
    },
    'apis/settings_of_model.py': {'mmengine', 'mmmaskformer.core.training.parts', 'mmmaskformer.registry'},
    'apis/': {
        'torch',
        'mmengine',
        'rich',
        'mmmaskformer.__version__',
        'mmmaskformer.checkpoints',
        'mmmaskformer.compat',
        'mmmaskformer.safe_loading',
        'mmmaskformer.apis',
        'mmmaskformer.datasets',
        'mmmaskformer.export',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
        'mmmaskformer.run_settings',
        'mmmaskformer.visualization',
        'mmmaskformer.heads.checkpoint_layouts',
        'mmmaskformer.heads.source_settings',
    },
    '__main__.py': {'mmmaskformer.apis.cli'},
    'doctor/': {'mmmaskformer.__version__', 'mmmaskformer.doctor', 'mmmaskformer.requirements'},
    'export/': {
        'torch',
        'onnx',
        'onnxruntime',
        'numpy',
        'mmengine',
        'mmmaskformer.__version__',
        'mmmaskformer.core',
        'mmmaskformer.datasets.scenes.scenes',
        'mmmaskformer.export',
        'mmmaskformer.formats',
        'mmmaskformer.registry',
    },
    '__init__.py': set(),
}

# (file, top-level package) → why it is imported inside a function
IMPORTS_IN_FUNCTIONS = {
    ('catalog.py', 'mmmaskformer'): 'importing MMDetection takes seconds, which semantic models need not pay',
    ('compat.py', 'torch'): 'the doctor imports this file on a machine that has nothing but Python',
    ('compat.py', 'numpy'): 'the same',
    ('compat.py', 'mmengine'): 'the same',
    ('compat.py', 'mmmaskformer'): 'the same',
    **{
        (f'apis/cli/{name}.py', 'mmmaskformer'): 'so that --help answers at once'
        for name in (
            '__init__',
            'analyze',
            'audit',
            'convert',
            'curve',
            'data',
            'doctor',
            'draw',
            'export',
            'models',
            'scenes',
            'sweep',
        )
    },
    ('datasets/converters/coco_stuff.py', 'h5py'): 'is needed for one old release of one dataset only',
    ('safe_loading.py', 'mmmaskformer'): 'zoo:// converts files, which imports this file and more',
    ('startup.py', 'mmmaskformer'): 'every Python program in the environment imports this file',
    ('export/files.py', 'onnx'): 'comes with the extra [export]',
    ('export/files.py', 'onnxruntime'): 'the same',
    ('export/quantise.py', 'onnxruntime'): 'the same',
}

# file → why it imports a module by a name that is computed, or runs code, which the table cannot check
IMPORTS_BY_NAME = {
    'apis/cli/__init__.py': 'each command is a file of its folder',
    'apis/model_size.py': "the host is that of the user's config",
    'apis/scripts.py': "runs a script of the host of the user's config",
    'apis/verifying.py': 'compares with the packages that are installed',
    'core/__init__.py': 'its names are loaded from its own modules when they are used',
}
BY_NAME = {'import_module', '__import__', 'import_modules_from_strings', 'get_object_from_string', 'exec_module'}
BY_NAME |= {'run_path', 'run_module', 'exec', 'eval'}


class Import(NamedTuple):
    module: str
    line: int
    in_function: bool


def imports_of(file: str) -> list[Import]:
    """Every imported module of a file; `from a.b import c` counts as a.b.c."""
    found = []
    pending = [(ast.parse((PACKAGE / file).read_text(encoding='utf-8')), False)]
    while pending:
        node, inside = pending.pop()
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{file}:{node.lineno}: relative import; expected an absolute one'
            found += [Import(f'{node.module}.{alias.name}', node.lineno, inside) for alias in node.names]
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


def calls_by_name(source: str) -> list[int]:
    """Lines that import a module by its name as text, or run code; methods such as `model.eval()` do neither."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [(getattr(call.func, 'id', getattr(call.func, 'attr', '')), call) for call in calls]
    return [call.lineno for name, call in names if name in BY_NAME and (call.args or call.keywords)]


def is_within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f'{package}.') for package in packages)


def allowed_imports(file: str) -> set[str]:
    """The row of a file: its own, or that of a folder whose list contains the file.

    Raises:
        AssertionError: the file has no row.
    """
    if file in ARROWS:
        return ARROWS[file]
    for folder, names in FILES_OF.items():
        if file in (f'{folder}{name}.py' for name in names.split()):
            return ARROWS[folder]
    raise AssertionError(
        f'{file} has no row in the table of allowed imports; expected a row of its own in ARROWS of '
        'tests/test_imports.py, or its name beside its folder in tests/helpers/package_files.py'
    )


def test_core_imports_without_openmmlab():
    files = [file for file in FILES if file.startswith('core/')]
    if find_spec('triton') is None:  # CPU builds of torch do not include it; the code that uses it checks first
        files = [file for file in files if 'triton' not in ARROWS.get(file, ())]
    modules = [Path(file).with_suffix('').as_posix().replace('/', '.') for file in files]
    code = '\n'.join(f'import mmmaskformer.{module.removesuffix(".__init__")}' for module in modules)
    assert 'import mmmaskformer.core.training.criterion' in code
    done = run_python_before_hosts(code, hide=OPENMMLAB)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('file', FILES)
def test_arrows(file):
    allowed = allowed_imports(file)
    wrong = [
        f'line {found.line}: {found.module}'
        for found in imports_of(file)
        if found.module.split('.')[0] not in sys.stdlib_module_names | {'__future__'}
        and not is_within(found.module, allowed)
    ]
    assert not wrong, f'{file} imports {wrong}; expected only {sorted(allowed)} and the standard library'


def test_every_row_has_its_files():
    listed = [f'{folder}{name}.py' for folder, names in FILES_OF.items() for name in names.split()]
    own = [row for row in ARROWS if row.endswith('.py')]
    twice = sorted({file for file in listed if listed.count(file) > 1 or file in own})
    assert not twice, f'{twice} have two rows; expected one, in ARROWS or in FILES_OF of tests/helpers/package_files.py'
    assert not (gone := set(listed + own) - set(FILES)), f'{sorted(gone)} have a row, but are not files of the package'
    assert not (new := set(FILES) - set(listed + own)), f'{sorted(new)} have no row in ARROWS or FILES_OF'
    assert set(FILES_OF) == {row for row in ARROWS if row.endswith('/')}


@pytest.mark.parametrize('file', ['core/training/new.py', 'apis/new.py', 'datasets/new/__init__.py', 'new/part.py'])
def test_a_new_file_without_a_row_fails(file):
    with pytest.raises(AssertionError, match=f'{file} has no row in the table'):
        allowed_imports(file)


@pytest.mark.parametrize('file', FILES)
def test_no_import_inside_a_function(file):
    wrong = [
        f'line {found.line}: {found.module}'
        for found in imports_of(file)
        if found.in_function and (file, found.module.split('.')[0]) not in IMPORTS_IN_FUNCTIONS
    ]
    assert not wrong, f'{file} imports inside a function: {wrong}'


def test_every_allowed_import_inside_a_function_is_there():
    there = {(file, found.module.split('.')[0]) for file in FILES for found in imports_of(file) if found.in_function}
    assert set(IMPORTS_IN_FUNCTIONS) <= there


@pytest.mark.parametrize('file', FILES)
def test_no_import_by_name(file):
    lines = calls_by_name((PACKAGE / file).read_text(encoding='utf-8'))
    assert bool(lines) == (file in IMPORTS_BY_NAME), (
        f'{file}: lines {lines} import by name or run code; expected an import statement, or a row in IMPORTS_BY_NAME'
    )


@pytest.mark.parametrize(
    'line',
    [
        "importlib.import_module('mmdet')",
        "import_module(name=f'{host}.models')",
        "__import__('mmseg')",
        "exec('import mmseg')",
        "mmengine.utils.import_modules_from_strings('mmseg')",
    ],
)
def test_an_import_by_name_is_found(line):
    assert calls_by_name(f'def f(host):\n    return {line}\n') == [2]
    assert not calls_by_name('model.eval()')


FORBIDDEN = {
    'in a function': 'def f():\n    import mmdet.models',
    'for type checkers only': 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmseg.models import X',
    'of the package itself': 'import mmmaskformer',
    'of a whole package': 'from mmmaskformer import heads',
    'of everything': 'from mmmaskformer import *',
    'in an exception': 'try:\n    import mmcv\nexcept ImportError:\n    mmcv = None',
}


@pytest.mark.parametrize('kind', FORBIDDEN)
def test_a_forbidden_import_is_found_wherever_it_stands(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
    (tmp_path / 'core/training').mkdir(parents=True)
    (tmp_path / 'core/training/targets.py').write_text(FORBIDDEN[kind])
    with pytest.raises(AssertionError, match=r"core/training/targets.py imports \['line \d: mm"):
        test_arrows('core/training/targets.py')


def test_a_relative_import_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
    (tmp_path / 'new.py').write_text('from . import heads')
    with pytest.raises(AssertionError, match='new.py:1: relative import'):
        imports_of('new.py')


def test_registry_repairs_the_stack_before_it_imports_anything_else():
    body = ast.parse((PACKAGE / 'registry.py').read_text(encoding='utf-8')).body
    repair = next(index for index, node in enumerate(body) if ast.unparse(node) == 'compat.apply()')
    before = [ast.unparse(node) for node in body[1:repair]]
    assert before == ['from importlib.util import find_spec', 'from mmmaskformer import compat']


def test_package_itself_imports_nothing():
    assert imports_of('__init__.py') == []
