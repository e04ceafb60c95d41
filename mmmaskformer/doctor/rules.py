"""The known conflicts between installed packages, each with the command that repairs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mmmaskformer.doctor.stack import PROVIDERS, Stack
from mmmaskformer.doctor.versions import fits, in_words, release
from mmmaskformer.requirements import requirements

SUPPORTED = requirements()
LITE = f"pip install '{SUPPORTED['mmcv-lite']}'"
NEW_ENVIRONMENT = 'python3.11 -m venv env && . env/bin/activate && pip install -e ".[lite]"'

# checked by separate rules, since one host may be missing
OWN_RULES = ('torch', 'setuptools', 'mmcv', 'openmim', 'click')

# clicks with which openmim 0.3.7 cannot search for models, and the first with which it cannot start slurm jobs
BROKEN_CLICK = '8.3.0'
FIRST_BROKEN_CLICK = '8.3.1'

# first transformers that lacks what mmpretrain 1.2 imports from it
FIRST_BROKEN_TRANSFORMERS = '4.56'

# first release that works with numpy 2; older ones were compiled for numpy 1
FIRST_WITH_NUMPY_2 = {
    'torch': '2.3',
    'scipy': '1.13',
    'pycocotools': '2.0.8',
    'matplotlib': '3.9',
    'opencv-python': '4.10',
    'opencv-python-headless': '4.10',
}

# part of an import error → meaning and repair
IMPORT_HINTS = {
    'libGL.so': (
        'OpenCV needs a graphics library that servers lack',
        'pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless',
    ),
    'mmcv/_ext': (
        'mmcv was compiled for another torch; MaskFormer does not need its ops',
        f'pip uninstall -y mmcv && {LITE}',
    ),
    'torchvision::nms': ('torchvision was built for another torch', 'pip install --force-reinstall torchvision'),
    'numpy.dtype size changed': ('a package was compiled for numpy 1', "pip install 'numpy<2'"),
    '_ARRAY_API': ('a package was compiled for numpy 1', "pip install 'numpy<2'"),
}


class Finding(NamedTuple):
    """One finding. Only errors prevent training from starting."""

    level: Literal['error', 'warning', 'note']
    problem: str
    repair: str


def diagnose(stack: Stack) -> list[Finding]:
    """Compare a stack with the known conflicts.

    Args:
        stack: what is installed.

    Returns:
        Errors first, then warnings, then notes; empty if there are no findings.
    """
    rules = (
        _python,
        _missing,
        _torch,
        _torchvision,
        _numpy,
        _mmcv,
        _duplicates,
        _ranges,
        _hosts,
        _tools,
        _mmpretrain,
        _imports,
    )
    findings = [finding for rule in rules for finding in rule(stack)]
    return sorted(findings, key=lambda finding: ('error', 'warning', 'note').index(finding.level))


def _python(stack: Stack) -> Iterator[Finding]:
    found = '.'.join(map(str, stack.python))
    limits = SUPPORTED['python']
    if release(found) < release(limits.oldest):
        yield Finding('error', f'Python {found} is too old; expected {limits.oldest} or newer.', NEW_ENVIRONMENT)
    if release(found) >= release(limits.too_new) and 'mmengine' in stack.versions:
        problem = f'Python {found} lacks pkgutil.find_loader, which mmengine 0.10 calls; expected a Python from '
        problem += f'{limits.oldest} on and below {limits.too_new}.'
        yield Finding('error', problem, NEW_ENVIRONMENT)


def _missing(stack: Stack) -> Iterator[Finding]:
    missing = [name for name in needed() if name not in stack.versions]
    missing += [PROVIDERS[name][0] for name in ('mmengine', 'cv2') if not stack.providers(name)]
    if missing:
        yield Finding('error', f'not installed: {", ".join(missing)}.', f'pip install {" ".join(missing)}')


def needed() -> list[str]:
    """Required distributions, except those in `PROVIDERS` and those that other rules check."""
    provided = {name for names in PROVIDERS.values() for name in names}
    others = provided | {'python', 'setuptools', 'ftfy', 'regex'}
    return [name for name, requirement in SUPPORTED.items() if requirement.extra is None and name not in others]


def _torch(stack: Stack) -> Iterator[Finding]:
    version, oldest = stack.versions.get('torch'), SUPPORTED['torch'].oldest
    if version and release(version)[:2] < release(oldest):
        problem = f'torch {version} is too old; expected {oldest} or newer.'
        yield Finding('error', problem, 'pip install -U torch torchvision')


def _torchvision(stack: Stack) -> Iterator[Finding]:
    torch, vision, needs = stack.versions.get('torch'), stack.versions.get('torchvision'), stack.torchvision_needs
    if torch and vision and needs and release(needs) != release(torch):
        problem = f'torchvision {vision} was built for torch {needs}; found torch {torch}.'
        yield Finding('error', problem, f"pip install -U 'torch=={torch}' torchvision")


def _numpy(stack: Stack) -> Iterator[Finding]:
    version = stack.versions.get('numpy')
    if not version or release(version) < (2,):
        return
    old = [
        f'{name} {stack.versions[name]}'
        for name, first in FIRST_WITH_NUMPY_2.items()
        if name in stack.versions and release(stack.versions[name]) < release(first)
    ]
    if old:
        problem = f'numpy {version} is too new for {", ".join(old)}, compiled for numpy 1.'
        yield Finding('error', problem, "pip install 'numpy<2'")


def _mmcv(stack: Stack) -> Iterator[Finding]:
    if not stack.providers('mmcv'):
        problem = 'neither mmcv-lite (enough for MaskFormer, no compiler needed) nor full mmcv is installed.'
        yield Finding('error', problem, LITE)
    if stack.providers('mmcv') == ['mmcv-full']:
        problem = f'mmcv-full {stack.versions["mmcv-full"]} is mmcv 1; expected mmcv-lite 2.1 or mmcv 2.0 to 2.1.'
        yield Finding('error', problem, f'pip uninstall -y mmcv-full && {LITE}')


def _duplicates(stack: Stack) -> Iterator[Finding]:
    for import_name in ('mmengine', 'mmcv', 'mmdet', 'mmseg'):
        found = stack.providers(import_name)
        if len(found) < 2:
            continue
        # the user chose the fork; its upstream counterpart was installed as a requirement of another package
        fork = next((name for name in found if name.startswith('onedl-')), None)
        again = f'pip install --no-deps {fork or PROVIDERS[import_name][0]}'
        if import_name == 'mmcv' and fork is None:
            again = LITE
        problem = f'{" and ".join(found)} are both installed and overwrite each other in the folder {import_name}.'
        yield Finding('error', problem, f'pip uninstall -y {" ".join(found)} && {again}')


def _ranges(stack: Stack) -> Iterator[Finding]:
    for name, limits in SUPPORTED.items():
        version = stack.versions.get(name)
        if name in OWN_RULES or version is None or fits(version, limits):
            continue
        # only upstream mmdet and mmsegmentation refuse newer mmcv and mmengine
        upstream = any(host in stack.versions for host in ('mmdet', 'mmsegmentation'))
        if name == 'mmcv-lite' and release(version) >= release(limits.too_new) and not upstream:
            continue
        problem = f'{name} {version} does not fit; expected {in_words(limits)}'
        problem += ', the range that mmdet and mmsegmentation accept.' if name == 'mmcv-lite' else '.'
        yield Finding('error', problem, f"pip install '{limits}'")
    yield from _full_mmcv(stack)


def _full_mmcv(stack: Stack) -> Iterator[Finding]:
    version, limits = stack.versions.get('mmcv'), SUPPORTED['mmcv']
    if version is None or fits(version, limits):
        return
    upstream = any(host in stack.versions for host in ('mmdet', 'mmsegmentation'))
    if release(version) >= release(limits.too_new) and not upstream:
        return
    problem = (
        f'mmcv {version} does not fit; expected {in_words(limits)}, the range that mmdet and mmsegmentation accept. '
        'MaskFormer does not need its ops: the repair installs mmcv-lite.'
    )
    yield Finding('error', problem, f'pip uninstall -y mmcv && {LITE}')


def _hosts(stack: Stack) -> Iterator[Finding]:
    seg, det = stack.providers('mmseg'), stack.providers('mmdet')
    if seg == ['mmseg']:
        problem = f"mmseg {stack.versions['mmseg']} is a segmenter of Chinese text; MMSegmentation is 'mmsegmentation'."
        yield Finding('error', problem, f"pip uninstall -y mmseg && pip install '{SUPPORTED['mmsegmentation']}'")
        return
    if not seg and not det:
        problem = 'neither mmsegmentation (semantic) nor mmdet (panoptic, instance) is installed.'
        repair = f"pip install '{SUPPORTED['mmsegmentation']}' '{SUPPORTED['mmdet']}'"
        yield Finding('error', problem, repair)
    elif not seg:
        repair = f"pip install '{SUPPORTED['mmsegmentation']}'"
        yield Finding('note', 'mmsegmentation is not installed: no semantic configs.', repair)
    elif not det:
        repair = f"pip install '{SUPPORTED['mmdet']}'"
        yield Finding('note', 'mmdet is not installed: no panoptic and no instance configs.', repair)
    undeclared = [name for name in ('ftfy', 'regex') if name not in stack.versions]
    if seg and undeclared:
        problem = f'mmseg imports {" and ".join(undeclared)} without declaring it, not installed here.'
        yield Finding('error', problem, f'pip install {" ".join(undeclared)}')


def _tools(stack: Stack) -> Iterator[Finding]:
    yield from _setuptools(stack)
    openmim, click = stack.versions.get('openmim'), stack.versions.get('click')
    if openmim and not fits(openmim, SUPPORTED['openmim']):
        problem = f'openmim {openmim} requires a package that pins setuptools 60, which new releases of torch refuse.'
        yield Finding('warning', problem, "pip install 'openmim<0.3.8'")
    elif openmim and click and release(click) == release(BROKEN_CLICK):
        problem = f'click {click} makes `mim search` of openmim {openmim} fail: "\'Sentinel\' object is not iterable".'
        yield Finding('note', problem, f"pip install '{SUPPORTED['click']}'")
    elif openmim and click and release(click) >= release(FIRST_BROKEN_CLICK):
        problem = (
            f"click {click} makes openmim {openmim} fail with `--launcher slurm`: \"'Sentinel' object has no attribute "
            "'split'\", unless --srun-args '' is added. (huggingface_hub 2 requires a newer click.)"
        )
        yield Finding('note', problem, f"pip install '{SUPPORTED['click']}' 'huggingface_hub<1'")
    if stack.providers('mmdet') and not stack.providers('panopticapi'):
        problem = (
            "panopticapi is not installed. Only MMDetection's own CocoPanopticMetric and LoadPanopticAnnotations need "
            'it; those of mmmaskformer do not. (--no-deps: its package requires numpy 1 but works with 2.)'
        )
        yield Finding('note', problem, 'pip install --no-deps panopticapi-lite')


def _setuptools(stack: Stack) -> Iterator[Finding]:
    setuptools, openmim = stack.versions.get('setuptools'), stack.versions.get('openmim')
    repair = f"pip install '{SUPPORTED['setuptools']}'"
    if setuptools is None or release(setuptools) >= (82,):
        found = f'setuptools {setuptools} has no pkg_resources' if setuptools else 'setuptools is not installed'
        users = "mmengine needs its pkg_resources for configs that inherit 'mmseg::…' or 'mmdet::…'"
        users += f', openmim {openmim} for everything.' if openmim else '.'
        yield Finding('error', f'{found}; {users}', repair)
    elif release(setuptools) >= (81,):
        problem = f'setuptools {setuptools} is the last that has pkg_resources, which mmengine and openmim need.'
        yield Finding('warning', problem, repair)
    elif not fits(setuptools, SUPPORTED['setuptools']):
        problem = (
            f'setuptools {setuptools} prints a warning about pkg_resources, which mmengine and openmim import, in '
            'every process. It is harmless.'
        )
        yield Finding('note', problem, repair)


def _mmpretrain(stack: Stack) -> Iterator[Finding]:
    mmpretrain, transformers = stack.versions.get('mmpretrain'), stack.versions.get('transformers')
    if mmpretrain and transformers and release(transformers) >= release(FIRST_BROKEN_TRANSFORMERS):
        problem = (
            f'mmpretrain {mmpretrain} cannot be imported with transformers {transformers}, which removed names that it '
            'uses; mmseg.models and mmdet.models import mmpretrain where it is installed, and fail with it '
            "('NoneType takes no arguments')."
        )
        yield Finding('error', problem, f"pip install 'transformers<{FIRST_BROKEN_TRANSFORMERS}'")


def _imports(stack: Stack) -> Iterator[Finding]:
    for module, error in stack.import_errors.items():
        if _is_explained(error, stack):
            continue
        meaning, repair = next(
            (hint for part, hint in IMPORT_HINTS.items() if part in error),
            ('repair what is named above first; this shows the whole traceback', f"python -c 'import {module}'"),
        )
        yield Finding('error', f'import {module} fails: {error} ({meaning}).', repair)


def _is_explained(error: str, stack: Stack) -> bool:
    """Whether another rule explains a failed import."""
    if not stack.providers('mmcv') and 'mmmaskformer needs mmcv' in error:
        return True
    if 'NoneType takes no arguments' in error and any(_mmpretrain(stack)):
        return True
    match = re.search(r"No module named '(\w+)", error)
    if match is None:
        return False
    installed = stack.providers(match[1]) if match[1] in PROVIDERS else match[1] in stack.versions
    return not installed and (match[1] in PROVIDERS or match[1] in needed())
