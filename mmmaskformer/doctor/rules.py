"""The known conflicts: what is wrong with a stack, and the one command that repairs each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mmmaskformer.compat import MIN_PYTHON, MIN_TORCH
from mmmaskformer.doctor.stack import PROVIDERS, Stack

LITE = "pip install 'mmcv-lite>=2.1,<2.2'"
NEW_ENVIRONMENT = 'python3.11 -m venv env && . env/bin/activate && pip install -e ".[lite]"'

# first Python on which mmengine 0.10 breaks: it calls pkgutil.find_loader, which is gone there
FIRST_BROKEN_PYTHON = (3, 14)

# beside those of PROVIDERS
NEEDED = ('torch', 'torchvision', 'numpy', 'scipy', 'pillow', 'timm', 'pycocotools')

# distribution → oldest and first too new version, both for upstream packages only; the forks count differently
SUPPORTED = {
    'mmengine': ('0.10', '0.11'),
    'mmcv-lite': ('2.1', '2.2'),
    'mmcv': ('2.0', '2.2'),
    'mmdet': ('3.0', '4'),
    'mmsegmentation': ('1.0', '2'),
}

# first release that works with numpy 2; older ones were compiled for numpy 1
FIRST_WITH_NUMPY_2 = {
    'torch': '2.3',
    'scipy': '1.13',
    'pycocotools': '2.0.8',
    'matplotlib': '3.9',
    'opencv-python': '4.10',
    'opencv-python-headless': '4.10',
}

# a part of an import's error → what it means, and the repair
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
    """One thing to tell. Only errors keep training from starting."""

    level: Literal['error', 'warning', 'note']
    problem: str
    repair: str


def diagnose(stack: Stack) -> list[Finding]:
    """Compare a stack with the known conflicts.

    Args:
        stack: what is installed.

    Returns:
        Errors first, then warnings, then notes; empty if there is nothing to say.
    """
    rules = (_python, _missing, _torch, _torchvision, _numpy, _mmcv, _duplicates, _ranges, _hosts, _tools, _imports)
    findings = [finding for rule in rules for finding in rule(stack)]
    return sorted(findings, key=lambda finding: ('error', 'warning', 'note').index(finding.level))


def _python(stack: Stack) -> Iterator[Finding]:
    found = '.'.join(map(str, stack.python))
    if stack.python[:2] < MIN_PYTHON:
        yield Finding('error', f'Python {found} is too old; expected 3.10 or newer.', NEW_ENVIRONMENT)
    if stack.python[:2] >= FIRST_BROKEN_PYTHON and 'mmengine' in stack.versions:
        problem = f'Python {found} lacks pkgutil.find_loader, which mmengine 0.10 calls; expected 3.10 to 3.13.'
        yield Finding('error', problem, NEW_ENVIRONMENT)


def _missing(stack: Stack) -> Iterator[Finding]:
    missing = [name for name in NEEDED if name not in stack.versions]
    missing += [PROVIDERS[name][0] for name in ('mmengine', 'cv2') if not stack.providers(name)]
    if missing:
        yield Finding('error', f'not installed: {", ".join(missing)}.', f'pip install {" ".join(missing)}')


def _torch(stack: Stack) -> Iterator[Finding]:
    version = stack.versions.get('torch')
    if version and release(version)[:2] < MIN_TORCH:
        yield Finding(
            'error', f'torch {version} is too old; expected 2.1 or newer.', 'pip install -U torch torchvision'
        )


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
        # a fork was chosen by the user; its upstream twin came along with some other package's requirements
        fork = next((name for name in found if name.startswith('onedl-')), None)
        again = f'pip install --no-deps {fork or PROVIDERS[import_name][0]}'
        if import_name == 'mmcv' and fork is None:
            again = LITE
        problem = f'{" and ".join(found)} are both installed and overwrite each other in the folder {import_name}.'
        yield Finding('error', problem, f'pip uninstall -y {" ".join(found)} && {again}')


def _ranges(stack: Stack) -> Iterator[Finding]:
    # only upstream mmdet and mmsegmentation refuse newer mmcv and mmengine
    upstream = any(name in stack.versions for name in ('mmdet', 'mmsegmentation'))
    for name, (oldest, too_new) in SUPPORTED.items():
        version = stack.versions.get(name)
        if not version or release(oldest) <= release(version) < release(too_new):
            continue
        if name in ('mmcv', 'mmcv-lite') and release(version) >= release(too_new) and not upstream:
            continue
        problem = f'{name} {version} does not fit; expected at least {oldest} and below {too_new}'
        problem += ', the range that mmdet and mmsegmentation accept.' if name.startswith('mmcv') else '.'
        repair = f"pip install '{name}>={oldest},<{too_new}'"
        if name == 'mmcv':
            problem += ' MaskFormer does not need its ops: the repair installs mmcv-lite.'
            repair = f'pip uninstall -y mmcv && {LITE}'
        yield Finding('error', problem, repair)


def _hosts(stack: Stack) -> Iterator[Finding]:
    seg, det = stack.providers('mmseg'), stack.providers('mmdet')
    if seg == ['mmseg']:
        problem = f"mmseg {stack.versions['mmseg']} is a segmenter of Chinese text; MMSegmentation is 'mmsegmentation'."
        yield Finding('error', problem, "pip uninstall -y mmseg && pip install 'mmsegmentation>=1.0,<2'")
        return
    if not seg and not det:
        problem = 'neither mmsegmentation (semantic) nor mmdet (panoptic, instance) is installed.'
        yield Finding('error', problem, "pip install 'mmsegmentation>=1.0,<2' 'mmdet>=3.0,<4'")
    elif not seg:
        repair = "pip install 'mmsegmentation>=1.0,<2'"
        yield Finding('note', 'mmsegmentation is not installed: no semantic configs.', repair)
    elif not det:
        repair = "pip install 'mmdet>=3.0,<4'"
        yield Finding('note', 'mmdet is not installed: no panoptic and no instance configs.', repair)
    undeclared = [name for name in ('ftfy', 'regex') if name not in stack.versions]
    if seg and undeclared:
        problem = f'mmseg imports {" and ".join(undeclared)} without declaring it, not installed here.'
        yield Finding('error', problem, f'pip install {" ".join(undeclared)}')


def _tools(stack: Stack) -> Iterator[Finding]:
    setuptools, openmim = stack.versions.get('setuptools'), stack.versions.get('openmim')
    if setuptools is None or release(setuptools) >= (82,):
        found = f'setuptools {setuptools} has no pkg_resources' if setuptools else 'setuptools is not installed'
        users = "mmengine needs its pkg_resources for configs that inherit 'mmseg::…' or 'mmdet::…'"
        users += f', openmim {openmim} for everything.' if openmim else '.'
        yield Finding('error', f'{found}; {users}', "pip install 'setuptools>=64,<81'")
    elif release(setuptools) >= (81,):
        problem = f'setuptools {setuptools} is the last that has pkg_resources, which mmengine and openmim need.'
        yield Finding('warning', problem, "pip install 'setuptools>=64,<81'")
    if openmim and release(openmim) >= (0, 3, 8):
        problem = f'openmim {openmim} requires a package that pins setuptools 60, which new releases of torch refuse.'
        yield Finding('warning', problem, "pip install 'openmim<0.3.8'")
    if stack.providers('mmdet') and not stack.providers('panopticapi'):
        problem = (
            "panopticapi is not installed. Only MMDetection's own CocoPanopticMetric and LoadPanopticAnnotations need "
            'it; those of mmmaskformer do not. (--no-deps: its package asks for numpy 1 and works with 2.)'
        )
        yield Finding('note', problem, 'pip install --no-deps panopticapi-lite')


def _imports(stack: Stack) -> Iterator[Finding]:
    for module, error in stack.import_errors.items():
        if _told_as_missing(error, stack):
            continue
        meaning, repair = next(
            (hint for part, hint in IMPORT_HINTS.items() if part in error),
            ('repair what is named above first; this shows the whole traceback', f"python -c 'import {module}'"),
        )
        yield Finding('error', f'import {module} fails: {error} ({meaning}).', repair)


def _told_as_missing(error: str, stack: Stack) -> bool:
    """Whether an import failed for want of a package that another rule names."""
    if not stack.providers('mmcv') and 'mmmaskformer needs mmcv' in error:
        return True
    match = re.search(r"No module named '(\w+)", error)
    if match is None:
        return False
    installed = stack.providers(match[1]) if match[1] in PROVIDERS else match[1] in stack.versions
    return not installed and (match[1] in PROVIDERS or match[1] in NEEDED)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them and without closing zeros: '2.10.0rc1+cu121' → (2, 10).

    Raises:
        ValueError: if the version does not start with a number.
    """
    match = re.match(r'\d+(\.\d+)*', version)
    if match is None:
        raise ValueError(f"version '{version}' was found; expected one that starts with a number, such as '2.1.0'")
    numbers = [int(number) for number in match[0].split('.')]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
