"""The packages installed on this machine, as plain data."""

# so that an interpreter that is too old can import the doctor, which reports it
from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

# Import name → distributions that provide it, the one that mmmaskformer is developed with first. Two providers of one
# import name write into the same folder and break each other.
PROVIDERS = {
    'mmengine': ('mmengine', 'onedl-mmengine', 'mmengine-lite'),
    'mmcv': ('mmcv-lite', 'mmcv', 'onedl-mmcv', 'mmcv-full'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    # the distribution 'mmseg' is an unrelated segmenter of Chinese text
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation', 'mmseg'),
    'cv2': (
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    ),
    'panopticapi': ('panopticapi', 'panopticapi-lite'),
}
# in the table only where they are installed
OPTIONAL = ('click', 'mmpretrain', 'transformers')
# looked up, in the order of the table
SHOWN = (
    'torch',
    'torchvision',
    'numpy',
    *(name for names in PROVIDERS.values() for name in names),
    'timm',
    'safetensors',
    'filelock',
    'scipy',
    'pillow',
    'pycocotools',
    'matplotlib',
    'shapely',
    'ftfy',
    'regex',
    'openmim',
    'rich',
    *OPTIONAL,
    'setuptools',
    'triton',
)

# Imports one module after the other and prints a JSON line before and after each, so that the last line shows the
# module that crashed or exceeded the time limit.
_PROBE = """
import importlib, json, sys, traceback


def report(*result):
    print('\\ndoctor:', json.dumps(result), flush=True)  # marked, as packages print things when they are imported


for name in sys.argv[1:]:
    report(name, None)
    try:
        importlib.import_module(name)
        text = ''
        if name == 'torch':
            cuda = sys.modules['torch'].cuda
            text = f'CUDA: {cuda.get_device_name(0)}' if cuda.is_available() else 'no CUDA device'
        report(name, True, text)
    except BaseException as error:
        text = ' '.join(traceback.format_exception_only(type(error), error)[-1].split())
        frames = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(error.__traceback__)]
        text += f' [in {frames[-1]}]' if len(frames) > 1 and not frames[-1].startswith('importlib') else ''
        report(name, False, text)
"""


@dataclass(frozen=True)
class Stack:
    """The installed software.

    Attributes:
        python: version of the interpreter, such as (3, 11, 7).
        versions: distribution → version; what is not installed has no entry.
        torchvision_needs: the version of torch that the installed torchvision was built for, None if unknown.
        compiled_ops: whether the installed mmcv has its compiled module.
        torch_device: 'CUDA: …' or 'no CUDA device', empty if torch could not be imported.
        import_errors: module → last line of the traceback, for each trial import that failed.
    """

    python: tuple[int, ...]
    versions: dict[str, str]
    torchvision_needs: str | None = None
    compiled_ops: bool = False
    torch_device: str = ''
    import_errors: dict[str, str] = field(default_factory=dict)

    def providers(self, import_name: str) -> list[str]:
        """The installed distributions that provide an import name of `PROVIDERS`."""
        return [name for name in PROVIDERS[import_name] if name in self.versions]


def read_stack(time_limit: float = 300) -> Stack:
    """Inspect this machine.

    Args:
        time_limit: seconds that the trial imports may take together.

    Returns:
        Versions from the metadata of the installed distributions, and the results of trial imports.

    Raises:
        ValueError: if the limit is not a finite number above 0.
    """
    if not 0 < time_limit < math.inf:
        raise ValueError(f'--time-limit: found {time_limit:g}, expected a number of seconds above 0')
    versions = {name: version for name in SHOWN if (version := _version(name)) is not None}
    modules = ['torch', 'torchvision', 'mmmaskformer.registry']
    modules += [f'{host}.models' for host in ('mmseg', 'mmdet') if util.find_spec(host) is not None]
    device, errors = try_imports(modules, time_limit)
    return Stack(
        python=tuple(sys.version_info[:3]),
        versions=versions,
        torchvision_needs=_torch_needed_by_torchvision(),
        compiled_ops=_has_compiled_ops(),
        torch_device=device,
        import_errors=errors,
    )


def try_imports(modules: list[str], time_limit: float) -> tuple[str, dict[str, str]]:
    """Import modules in a separate process, in the given order.

    Args:
        modules: dotted names.
        time_limit: seconds for all of them.

    Returns:
        The device that torch found, and module → last line of the traceback for those that failed. A module that
        killed the process or exceeded the time limit is reported as such, as is the first one if the process ended
        before it; later ones are not tried.
    """
    command = [sys.executable, '-c', _PROBE, *modules]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=time_limit)
        output, ending = done.stdout, f'the process ended with status {done.returncode} during this import'
    except subprocess.TimeoutExpired as expired:
        output, ending = expired.stdout or b'', f'the import did not finish within {time_limit:g} s'
    device, errors, tried = '', {}, []
    for line in output.decode(errors='replace').splitlines():
        if not line.startswith('doctor: '):
            continue
        name, *result = json.loads(line[len('doctor: ') :])
        tried.append(name)
        if result[0] is None:
            errors[name] = ending
        elif result[0]:
            del errors[name]
            device = result[1] or device
        else:
            errors[name] = result[1]
    untried = [name for name in modules if name not in tried]
    if untried and ending not in errors.values():
        errors[untried[0]] = ending
    return device, errors


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _torch_needed_by_torchvision() -> str | None:
    """The version of torch in the requirements of torchvision, which is built for exactly one."""
    try:
        requirements = metadata.requires('torchvision') or []
    except metadata.PackageNotFoundError:
        return None
    found = (re.match(r'torch\s*\(?==\s*([\w.+]+)', requirement) for requirement in requirements)
    return next((match[1] for match in found if match), None)


def _has_compiled_ops() -> bool:
    spec = util.find_spec('mmcv')
    folders = (spec.submodule_search_locations or []) if spec else []
    return any(path.suffix in ('.so', '.pyd') for folder in folders for path in Path(folder).glob('_ext*'))
