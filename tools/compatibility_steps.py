"""The combinations of tools/compatibility.py, and the commands of each step."""

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PYTHONS = ('3.10', '3.11', '3.12', '3.13')
NUMPYS = ('1.26', '2')
# (Python, numpy) → the oldest supported torch with wheels for this Python and built for this numpy, and its
# torchvision. numpy 1.26 has no wheels for Python 3.13.
OLDEST_TORCH = {
    ('3.10', '1.26'): ('2.1.*', '0.16.*'),
    ('3.11', '1.26'): ('2.1.*', '0.16.*'),
    ('3.12', '1.26'): ('2.2.*', '0.17.*'),
    ('3.10', '2'): ('2.3.*', '0.18.*'),
    ('3.11', '2'): ('2.3.*', '0.18.*'),
    ('3.12', '2'): ('2.3.*', '0.18.*'),
    ('3.13', '2'): ('2.5.*', '0.20.*'),
}
ONEDL = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')
# requirements of setup.cfg other than the hosts: pip does not see the forks as replacements of the hosts
WITH_ONEDL = ('timm', 'scipy', 'pycocotools', 'rich', 'ftfy', 'regex', 'setuptools<80.9')
FOR_TESTS = ('pytest', 'hypothesis', 'psutil')
HOSTS = {
    'mmseg': ('decode_head', 'configs/scenes/maskformer_tiny_1xb8-800_scenes.py'),
    'mmdet': ('panoptic_head', 'configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py'),
}
# the scripts of a host: in a normal and in an editable installation
_FIND_SCRIPT = """
import sys
from importlib.util import find_spec
from pathlib import Path
root = Path(find_spec(sys.argv[1]).submodule_search_locations[0])
print(next(path for path in (root / ".mim/tools/train.py", root.parent / "tools/train.py") if path.is_file()))
"""
_SAME_WEIGHTS = """
import sys, torch
first, second = (torch.load(path, weights_only=False, map_location="cpu")["state_dict"] for path in sys.argv[1:])
different = [key for key in first if not torch.equal(first[key], second[key])]
if different:
    sys.exit(f"Error: the resumed run has other weights: {different[:3]}")
print("the resumed run has the weights of the uninterrupted one")
"""


class Combination(NamedTuple):
    """Versions that are installed together.

    Attributes:
        stack: 'lite', 'full' or 'onedl'.
        python: such as '3.11'.
        torch: 'oldest', 'newest' or 'given'.
        numpy: '1.26' or '2'.
    """

    stack: str
    python: str
    torch: str
    numpy: str

    @property
    def name(self) -> str:
        """Name on the command line."""
        return f'{self.stack}-py{self.python}-{self.torch}-numpy{self.numpy}'


class Run(NamedTuple):
    """The run of one combination.

    Attributes:
        combination: versions to install.
        folder: contains the environment, the clone, the logs and the results so far.
        args: arguments of the command line.
    """

    combination: Combination
    folder: Path
    args: argparse.Namespace

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(self.folder / 'environment/bin/python')

    @property
    def source(self) -> Path:
        """The clone to install."""
        return self.folder / 'source'


Commands = Iterator[tuple[list[str], Path]]
"""Command lines and the folders in which they run."""


def combinations(mmcv_wheel: str | None = None) -> list[Combination]:
    """All combinations; those with full mmcv only for the Python version of the wheel."""
    found = []
    for python in PYTHONS:
        for numpy in NUMPYS:
            if (python, numpy) in OLDEST_TORCH:
                found += [Combination(stack, python, torch, numpy) for stack in ('lite', 'onedl')
                          for torch in ('oldest', 'newest')]  # fmt: skip
                if mmcv_wheel and f'-cp{python.replace(".", "")}-' in Path(mmcv_wheel).name:
                    found.append(Combination('full', python, 'given', numpy))
    return sorted(found)


def install(run: Run) -> Commands:
    """Commands that install the packages; for onedl those of docs/install.md."""
    combination, pip = run.combination, [run.python, '-m', 'pip', 'install', '--no-input', '--no-compile']
    torch, vision = {
        'newest': ('torch', 'torchvision'),
        'given': (f'torch==={run.args.mmcv_torch}', 'torchvision'),
        'oldest': tuple(map('{}=={}'.format, ('torch', 'torchvision'), OLDEST_TORCH[combination[1::2]])),
    }[combination.torch]
    # Together, so that pip chooses versions that fit each other.
    wanted = [torch, vision, f'numpy=={combination.numpy}.*' if '.' in combination.numpy else 'numpy>=2', *FOR_TESTS]
    if combination.stack == 'onedl':
        yield [*pip, *wanted, *ONEDL, *WITH_ONEDL], run.folder
        yield [*pip, '--no-deps', '-e', str(run.source)], run.folder
    elif combination.stack == 'full':
        yield [*pip, *wanted, str(Path(run.args.mmcv_wheel).resolve()), '-e', f'{run.source}[mim]'], run.folder
    else:
        yield [*pip, *wanted, '-e', f'{run.source}[lite,mim]'], run.folder
    # the reference for panoptic quality; it requires numpy 1 but works with 2
    yield [*pip, '--no-deps', 'panopticapi-lite==0.2.0'], run.folder


def doctor(run: Run) -> Commands:
    """The doctor, which fails if training cannot start."""
    yield [run.python, '-m', 'mmmaskformer', 'doctor'], run.folder


def core_tests(run: Run) -> Commands:
    """The tests of the core."""
    yield [run.python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/test_core'], run.source


def train(host: str) -> Callable[[Run], Commands]:
    """20 iterations through the host's script, without and with an interruption after 10."""

    def commands(run: Run) -> Commands:
        head, config = HOSTS[host]
        folder = run.folder / f'train_{host}'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield [run.python, '-m', 'mmmaskformer', 'scenes', 'scenes', '--num-train', '8', '--num-val', '2'], folder
        found = subprocess.run([run.python, '-c', _FIND_SCRIPT, host], cwd=folder, env=environment(run), text=True,
                               capture_output=True, check=True)  # fmt: skip
        start = [run.python, found.stdout.split('\n')[-2], str(run.source / config), '--work-dir']
        yield [*start, 'whole', '--cfg-options', *settings(head, 20)], folder
        yield [*start, 'parts', '--cfg-options', *settings(head, 10)], folder
        yield [*start, 'parts', '--resume', '--cfg-options', *settings(head, 20)], folder
        yield [run.python, '-c', _SAME_WEIGHTS, 'whole/iter_20.pth', 'parts/iter_20.pth'], folder

    return commands


def settings(head: str, iterations: int) -> list[str]:
    """Overrides that make a shipped config small. With dropout, different random numbers change the weights."""
    parts = ('train', 'val', 'test')
    return [
        *(f'{part}_dataloader.dataset.data_root=scenes' for part in parts),
        *(f'{part}_dataloader.num_workers=0' for part in parts),
        *(f'{part}_dataloader.persistent_workers=False' for part in parts),
        'train_dataloader.batch_size=2',
        f'train_cfg.max_iters={iterations}',
        'train_cfg.val_interval=20',
        'default_hooks.checkpoint.interval=10',
        'default_hooks.logger.interval=1',
        f'model.{head}.transformer_decoder.dropout=0.1',
    ]


STEPS: dict[str, Callable[[Run], Commands]] = {
    'install': install,
    'doctor': doctor,
    'MMSegmentation': train('mmseg'),
    'MMDetection': train('mmdet'),
    'core tests': core_tests,
}


def environment(run: Run) -> dict[str, str]:
    """The environment variables of every command, without those of the interpreter that runs this script."""
    kept = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'PYTHONHOME')}
    binaries = str(Path(run.python).parent)
    return kept | {
        'PATH': os.pathsep.join((binaries, kept.get('PATH', os.defpath))),
        'VIRTUAL_ENV': str(run.folder / 'environment'),
        'PIP_CACHE_DIR': str(Path(run.args.work).resolve() / 'pip-cache'),
        'MMCV_WITH_OPS': '0',
        'OMP_WAIT_POLICY': 'PASSIVE',
    }
