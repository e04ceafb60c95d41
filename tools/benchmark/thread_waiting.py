#!/usr/bin/env python
"""Time training steps of a small model for several ways in which the threads of torch wait for each other.

    python tools/benchmark/thread_waiting.py
    python tools/benchmark/thread_waiting.py --busy 1

Each setting of libgomp is an environment variable and needs its own process. The processes run one after the other.
The model is that of the panoptic quickstart, on synthetic scenes. With --busy, other processes compute meanwhile.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / 'configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py'
SETTINGS = ('default', 'GOMP_SPINCOUNT=10000', 'OMP_WAIT_POLICY=PASSIVE', 'OMP_NUM_THREADS=1')
BATCHES = 4
WARM_UP = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--busy', type=int, default=0, help='number of processes that compute beside it (default 0)')
    parser.add_argument('--steps', type=int, default=20, help='steps of each setting (default 20)')
    parser.add_argument('--settings', nargs='+', default=SETTINGS, metavar='KEY=VALUE', help='environment variables')
    parser.add_argument('--data', type=Path, help=argparse.SUPPRESS)  # of a process for one setting
    args = parser.parse_args()
    if args.data is not None:
        print(*time_steps(args.data, args.steps))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        from mmmaskformer.datasets.scenes.files import write_scenes

        write_scenes(Path(folder, 'scenes'), 4 * BATCHES, 1)
        neighbours = [multiprocessing.Process(target=compute, daemon=True) for _ in range(args.busy)]
        for process in neighbours:
            process.start()
        for setting in args.settings:
            print(f'{setting}: {describe(run(setting, Path(folder), args.steps))}', flush=True)
        for process in neighbours:
            process.kill()
    return 0


def compute() -> None:
    """Keep a core busy."""
    while True:
        pass


def run(setting: str, folder: Path, steps: int) -> list[float]:
    """Seconds of each step in a process with an environment variable."""
    keys = {name.partition('=')[0] for name in SETTINGS}
    environment = {key: value for key, value in os.environ.items() if key not in keys}
    if '=' in setting:
        environment.update([setting.split('=', 1)])
    command = [sys.executable, __file__, '--data', 'scenes', '--steps', str(steps)]
    done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return [float(seconds) for seconds in done.stdout.splitlines()[-1].split()]


def describe(seconds: list[float]) -> str:
    return f'median {statistics.median(seconds):.3f} s, fastest {min(seconds):.3f} s of {len(seconds)} steps'


def time_steps(data: Path, steps: int) -> list[float]:
    """Train on batches in memory; seconds of each step."""
    import mmmaskformer.registry  # noqa: F401  before the hosts: makes them importable with mmcv-lite

    # isort: split
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'work_dir': 'work_dir', 'log_level': 'ERROR', 'train_dataloader.dataset.data_root': str(data)})
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    loader = iter(runner.build_dataloader(cfg.train_dataloader))
    batches = [next(loader) for _ in range(BATCHES)]
    model, optimizer = runner.model.train(), runner.build_optim_wrapper(cfg.optim_wrapper)
    seconds = []
    for step in range(WARM_UP + steps):
        began = time.perf_counter()
        model.train_step(batches[step % BATCHES], optimizer)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


if __name__ == '__main__':
    sys.exit(main())
