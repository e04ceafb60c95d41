#!/usr/bin/env python
"""Kill a training run repeatedly, resume it, and compare it with an uninterrupted run.

    python tools/benchmark/interruptions.py --kills 20
    python tools/benchmark/interruptions.py --kills 0 --resume-at 50000

The run trains a small model on synthetic scenes with MMSegmentation's train.py. Half of the kills (SIGKILL) come at a
random time, half while a checkpoint is written. The tool fails if a checkpoint is damaged at any time, or if final
weights, best checkpoint or the list of files differ from those of the uninterrupted run. It then prints the time to the
first step, from the start and resumed at a late iteration.
"""

import argparse
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from mmmaskformer.apis.scripts import host_script, run_script
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.hosts.checkpoint_files import is_whole

CONFIG = Path(__file__).resolve().parents[2] / 'configs/scenes/maskformer_tiny_1xb8-800_scenes.py'
FIRST_STEP = 'Iter(train) ['
HEAD = 'model.decode_head'


def main() -> int:
    args = parse_args()
    # imported once; each run is a fork of this process
    for name in ('mmmaskformer.registry', 'mmseg.apis', 'mmseg.models'):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_scenes(Path('scenes'), args.images, 2)
        began = time.perf_counter()
        wait(start('whole', args))
        duration = time.perf_counter() - began
        if args.kills:
            kill_and_compare(args, duration)
        if args.resume_at:
            time_first_steps(args)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20, help='number of kills (default 20)')
    parser.add_argument('--iters', type=int, default=24, help='iterations of a run (default 24)')
    parser.add_argument('--images', type=int, default=16, help='number of training images (default 16)')
    parser.add_argument('--workers', type=int, default=0, help='data-loading processes (default 0)')
    parser.add_argument('--seed', type=int, default=0, help='of the times of the kills')
    parser.add_argument('--resume-at', type=int, default=0, help='iteration at which a resume is timed')
    return parser.parse_args()


def kill_and_compare(args: argparse.Namespace, duration: float) -> None:
    """Kill runs until there were enough kills, and let the last run of each work dir finish."""
    chance, kills, runs = random.Random(args.seed), 0, 0
    while kills < args.kills:
        runs += 1
        work_dir, killed = Path(f'killed_{runs}'), True
        while killed:
            process = start(work_dir, args, '--resume')
            if kills < args.kills:
                while_writing = kills % 2 == 0
                wait_for_moment(process, work_dir, chance, duration, while_writing)
            killed = wait(process) == -signal.SIGKILL
            kills += killed
            check_whole(work_dir)
        compare(Path('whole'), work_dir)
    print(f'{kills} kills of {runs} runs: weights, best checkpoint and files equal those of the uninterrupted run')


def wait_for_moment(process: int, work_dir: Path, chance: random.Random, duration: float, while_writing: bool) -> None:
    """Wait for a random time, or until one of the next files is written, and kill the process if it still runs."""
    moment = time.perf_counter() + chance.uniform(0.1, 1) * duration
    parts, seen = chance.randrange(1, 6), set()
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        seen |= {part.stat().st_ino for part in work_dir.glob('.*.part') if part.exists()} if while_writing else set()
        if len(seen) >= parts or (not while_writing and time.perf_counter() > moment):
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.0005)


def start(work_dir: Path | str, args: argparse.Namespace, *more: str, iters: int | None = None) -> int:
    """Start a training run in a separate process; returns its id. The output is written to WORK_DIR.txt."""
    iters = iters or args.iters
    settings = [
        *(f'{part}_dataloader.dataset.data_root=scenes' for part in ('train', 'val')),
        *(f'{part}_dataloader.num_workers=0' for part in ('val', 'test')),
        *(f'{part}_dataloader.persistent_workers=False' for part in ('val', 'test')),
        f'train_dataloader.num_workers={args.workers}',
        f'train_dataloader.persistent_workers={args.workers > 0}',
        'train_dataloader.batch_size=2',
        f'train_cfg.max_iters={iters}',
        f'train_cfg.val_interval={max(args.iters // 4, 1)}',
        f'default_hooks.checkpoint.interval={max(args.iters // 12, 1)}',
        'default_hooks.logger.interval=1',
        f'{HEAD}.channels=16',
        f'{HEAD}.pixel_decoder.norm_groups=4',
        *(f'{HEAD}.transformer_decoder.{key}' for key in ('num_layers=2', 'num_heads=2', 'ffn_channels=16')),
    ]
    process = os.fork()
    if process == 0:
        status = 1
        try:
            output = os.open(f'{work_dir}.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1), os.dup2(output, 2)
            arguments = [str(CONFIG), '--work-dir', str(work_dir), *more, '--cfg-options', *settings]
            run_script(host_script('mmseg', 'train.py'), arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return process


def wait(process: int) -> int:
    """Wait for a process; returns its exit status, negative for a signal."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, -signal.SIGKILL):
        outputs = sorted(Path().glob('*.txt'), key=os.path.getmtime)
        sys.exit(f'a run failed:\n{outputs[-1].read_text()[-2000:]}')
    return status


def check_whole(work_dir: Path) -> None:
    broken = [path.name for path in work_dir.glob('*.pth') if not is_whole(path)]
    if broken:
        sys.exit(f'{work_dir}: {broken} are broken')


def compare(whole: Path, killed: Path) -> None:
    """Exit with a message if two work dirs have different checkpoints or different weights."""
    names = sorted(path.name for path in whole.glob('*.pth'))
    found = sorted(path.name for path in killed.glob('*.pth'))
    if names != found:
        sys.exit(f'{killed} has {found}; expected {names}')
    for name in names:
        ours, theirs = (torch.load(folder / name, weights_only=True)['state_dict'] for folder in (killed, whole))
        if any(not torch.equal(ours[key], theirs[key]) for key in theirs):
            sys.exit(f'{killed / name} has other weights than the uninterrupted run')


def time_first_steps(args: argparse.Namespace) -> None:
    """Print the seconds to the first step of a fresh run and of one resumed at a late iteration."""
    name = f'iter_{args.resume_at}.pth'
    checkpoint = torch.load(next(Path('whole').glob('iter_*.pth')), weights_only=True)
    checkpoint['meta']['iter'] = args.resume_at
    Path('late').mkdir()
    torch.save(checkpoint, Path('late') / name)
    for text, work_dir, more in (('iteration 0', 'fresh', ()), (f'iteration {args.resume_at}', 'late', ('--resume',))):
        began = time.perf_counter()
        process = start(work_dir, args, *more, iters=args.resume_at + 1)
        output = Path(f'{work_dir}.txt')
        while not (output.exists() and FIRST_STEP in output.read_text()):
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        os.kill(process, signal.SIGKILL)
        wait(process)
        print(f'start at {text}: first step after {seconds:.1f} s')


if __name__ == '__main__':
    sys.exit(main())
