"""Names with the prefix ``mmmaskformer.`` resolve from every scope; names without prefix remain the host's."""

import pytest
from helpers.fresh import run_python_before_hosts

# With full mmcv, nothing of ours has to be imported. With mmcv-lite, a module replaces the compiled operators.
_FULL = """
import importlib.util, sys, types
from importlib.machinery import ModuleSpec
if importlib.util.find_spec('mmcv._ext') is None:
    class Ops(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith('__'):
                raise AttributeError(name)
            return print
    sys.modules['mmcv._ext'] = Ops('mmcv._ext')
    sys.modules['mmcv._ext'].__spec__ = ModuleSpec('mmcv._ext', loader=None)
from {package}.registry import MODELS, TRANSFORMS
ours = set(name for name in sys.modules if name.startswith('mmmaskformer'))
assert ours.issubset(['mmmaskformer', 'mmmaskformer.startup']), ours
"""
# With mmcv-lite, a host cannot import its models before our replacement is registered, by the config's custom_imports.
_LITE = """
from mmengine.utils import import_modules_from_strings
import_modules_from_strings(['mmmaskformer.registry'], allow_failed_imports=False)
from {package}.registry import MODELS, TRANSFORMS
"""
_LOOK_UP = """
for registry, name in ((MODELS, 'MaskFormerHead'), (TRANSFORMS, 'LoadSegAnnotations')):
    found = registry.get(f'mmmaskformer.{name}')
    print(found.__module__.split('.')[0], found.__name__)
"""
FOUND = ['mmmaskformer MaskFormerHead', 'mmmaskformer LoadSegAnnotations']


@pytest.mark.parametrize('package', ['mmengine', 'mmseg', 'mmdet'])
@pytest.mark.parametrize('before', [_FULL, _LITE], ids=['nothing imported', 'custom_imports'])
def test_prefixed_names_resolve_in_a_fresh_process(before, package):
    pytest.importorskip(package)
    done = run_python_before_hosts(before.format(package=package) + _LOOK_UP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == FOUND


@pytest.mark.parametrize('package', ['mmseg', 'mmdet', 'mmengine'])
def test_every_other_host_may_be_missing(package):
    pytest.importorskip(package)
    hidden = tuple({'mmseg', 'mmdet'} - {package})
    done = run_python_before_hosts(_LITE.format(package=package) + _LOOK_UP, hide=hidden)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == FOUND


@pytest.mark.parametrize('host', ['mmseg', 'mmdet'])
def test_plain_name_resolves_to_the_host(host):
    pytest.importorskip(host)
    code = (
        f'import mmmaskformer.catalog\nfrom {host}.registry import MODELS\n'
        "print(MODELS.get('MaskFormerHead').__module__.split('.')[0])"
    )
    done = run_python_before_hosts(code)
    assert done.stdout.splitlines()[-1:] == [host], done.stderr
