"""Short training runs in separate processes, as users start them."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
_base_ = {base!r}
data_root = {data!r}
custom_imports = dict(imports=['mmmaskformer.registry', *{imports!r}], allow_failed_imports=False)
model = dict(
    {head}=dict(
        channels=16,
        pixel_decoder=dict(norm_groups=4),
        # High dropout, so that different random numbers in a resumed run are noticed.
        transformer_decoder=dict(num_layers=2, num_heads=2, ffn_channels=16, dropout=0.3),
    ),
)
train_dataloader = dict(
    batch_size=2, num_workers={workers}, persistent_workers={workers} > 0, dataset=dict(data_root=data_root)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
custom_hooks = _base_.custom_hooks + {hooks!r}
"""


def write_config(
    path: Path,
    data: Path,
    *,
    panoptic: bool = False,
    workers: int = 0,
    iters: int = 6,
    imports=(),
    hooks=(),
    more: str = '',
) -> Path:
    """A toy version of a scenes config; ``more`` are further lines."""
    name, head = ('1xb4-2600_scenes-panoptic', 'panoptic_head') if panoptic else ('1xb8-800_scenes', 'decode_head')
    text = CONFIG.format(
        base=str(ROOT / f'configs/scenes/maskformer_tiny_{name}.py'),
        head=head,
        data=str(data),
        workers=workers,
        iters=iters,
        imports=list(imports),
        hooks=list(hooks),
    )
    path.write_text(text + more)
    return path


def run(*arguments: str, cwd: Path, check: bool = True, pythonpath: Path | None = None) -> subprocess.CompletedProcess:
    """Run ``python ARGUMENTS`` in a fresh interpreter with one thread, in the folder ``cwd``."""
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', *arguments],
        cwd=cwd,
        env=_environment(pythonpath),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return _checked(process, check)


def run_script(
    *arguments: str, cwd: Path, check: bool = True, pythonpath: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a script like `run`, in a process that has imported both hosts already; saves about 7 s."""
    return _forked(arguments, cwd, check, pythonpath, hosts=True)


def run_before_hosts(
    *arguments: str, cwd: Path, check: bool = True, pythonpath: Path | None = None
) -> subprocess.CompletedProcess:
    """Run Python like `run`, in a process that has imported torch and other packages; saves about 5 s.

    Neither OpenMMLab nor this package is imported yet.
    """
    return _forked(arguments, cwd, check, pythonpath, hosts=False)


def run_mim(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    """Run ``mim ARGUMENTS`` with `run_before_hosts`; scripts that mim starts are forked as well, see `forking_mim`."""
    return run_before_hosts(str(Path(__file__).with_name('forking_mim.py')), *arguments, cwd=cwd, check=check)


def _forked(
    arguments: tuple[str, ...], cwd: Path, check: bool, pythonpath: Path | None, hosts: bool
) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, 'stdout'), Path(folder, 'stderr')
        request = dict(argv=list(arguments), cwd=str(cwd), env=_environment(pythonpath), hosts=hosts)
        server = _fork_server()
        server.stdin.write(json.dumps(request | dict(stdout=str(stdout), stderr=str(stderr))) + '\n')
        server.stdin.flush()
        status = int(server.stdout.readline())
        process = subprocess.CompletedProcess(arguments, status, stdout.read_text(), stderr.read_text())
    return _checked(process, check)


@cache
def _fork_server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, '-W', 'ignore', str(Path(__file__).with_name('fork_server.py'))],
        env=_environment(None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.kill)
    return server


def _environment(pythonpath: Path | None) -> dict[str, str]:
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    return env if pythonpath is None else env | dict(PYTHONPATH=str(pythonpath))


def _checked(process: subprocess.CompletedProcess, check: bool) -> subprocess.CompletedProcess:
    if check and process.returncode:
        raise AssertionError(f'{process.args} failed:\n{process.stdout[-3000:]}\n{process.stderr[-3000:]}')
    return process


def losses(work_dir: Path) -> dict[int, dict[str, float]]:
    """All logged losses by iteration, of all runs in a work folder; later runs win."""
    logged = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if 'loss' in row:
                logged[row['step']] = {key: value for key, value in row.items() if 'loss' in key}
    return logged
