#!/usr/bin/env python
"""Compare the speed of two or more checkouts of this repository: did a change make anything slower?

    git worktree add --detach ../before a33de82
    python tools/benchmark/checkouts.py ../before .
    python tools/benchmark/checkouts.py ../before . --cases training-20 inference-847 --rounds 40 --threads 1

Each checkout runs in a process of its own with its own package and its own ``tools/benchmark``. In each round, every
process runs one step, in random order. The load of the machine and the state of its memory thus affect all checkouts
alike: runs of the same code differ by two percent, separate runs by five. Ratios are to the first checkout.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    'training-9': ('training', {'segments': 9}),
    'training-20': ('training', {'segments': 20}),
    'inference-150': ('semantic', {'classes': 150, 'size': (512, 683)}),
    'inference-847': ('semantic', {'classes': 847, 'size': (512, 683)}),
    'panoptic': ('panoptic', {'classes': 133, 'size': (800, 1216)}),
}
WARM_UP = 3
READY = 'ready'


def main() -> int:
    args = parse_args()
    if args.serve:
        serve(args.cases[0], args.threads)
        return 0
    for checkout in args.checkouts:
        if not Path(checkout, 'tools/benchmark/heads.py').is_file():
            sys.exit(f'{checkout}: expected a checkout of this repository, with tools/benchmark/heads.py')
    for case in args.cases:
        print(table(case, args.checkouts, time_in_turn(case, args)), flush=True)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkouts', nargs='*', help='folders of the checkouts; the first is the reference')
    parser.add_argument('--cases', nargs='+', choices=list(CASES), default=list(CASES), metavar='CASE', help=str(CASES))
    parser.add_argument('--rounds', type=int, default=20, help='steps of each checkout (default 20)')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)  # the process of one checkout
    args = parser.parse_args()
    if not args.serve and len(args.checkouts) < 2:
        parser.error(f'expected two or more checkouts, found {args.checkouts}')
    return args


def time_in_turn(case: str, args: argparse.Namespace) -> list[list[tuple[float, float]]]:
    """Wall and CPU seconds of each step of each checkout."""
    processes = [start(checkout, case, args.threads) for checkout in args.checkouts]
    steps: list[list[tuple[float, float]]] = [[] for _ in processes]
    order = list(range(len(processes)))
    for _ in range(WARM_UP + args.rounds):
        random.shuffle(order)
        for index in order:
            steps[index].append(ask(processes[index], args.checkouts[index]))
    for process in processes:
        process.communicate()
    return [taken[WARM_UP:] for taken in steps]


def start(checkout: str, case: str, threads: int) -> subprocess.Popen:
    """A process that runs a step of a checkout for every line it reads; it has built its head."""
    command = [sys.executable, str(Path(__file__).resolve()), '--serve', '--cases', case, '--threads', str(threads)]
    folder = Path(checkout).resolve()
    path = os.pathsep.join([str(folder), str(folder / 'tools/benchmark')])
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, 'PYTHONPATH': path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    while (line := process.stdout.readline()).strip() != READY:
        if not line:
            sys.exit(f'{checkout}: its process ended, see above')
    return process


def ask(process: subprocess.Popen, checkout: str) -> tuple[float, float]:
    """Have a process run a step; its wall and CPU seconds."""
    process.stdin.write('step\n')
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        sys.exit(f'{checkout}: its process ended, see above')
    wall, cpu = map(float, line.split())
    return wall, cpu


def serve(case: str, threads: int) -> None:
    """Run a step for every line of the standard input and print its wall and CPU seconds."""
    # The folder of this file comes first in sys.path; the benchmark modules are those of the checkout.
    sys.path.remove(str(Path(__file__).resolve().parent))
    import torch

    torch.set_num_threads(threads)
    step = build(*CASES[case])
    print(READY, flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def build(task: str, settings: dict):
    """The function that runs one step of our head in the checkout of this process."""
    import heads
    import torch

    if task == 'training':
        case = heads.Case(**settings)
        head, features = heads.build_heads(['ours'], case, 'cpu')['ours'], heads.make_features(case, 'cpu')

        def train() -> None:
            for leaf in (*features, *head.parameters.values()):
                leaf.grad = None
            sum(head.losses(features).values()).backward()

        return train
    import inference_heads

    case = inference_heads.Case(task, original=settings['size'], batch=1, outputs='confident', **settings)
    head, features = (
        inference_heads.build_heads(['ours'], case, 'cpu')['ours'],
        inference_heads.make_features(case, 'cpu'),
    )
    return torch.no_grad()(lambda: head.step(features))


def table(case: str, checkouts: list[str], steps: list[list[tuple[float, float]]]) -> str:
    """Fastest and median milliseconds of each checkout, and their ratios to the first one."""
    lines = [f'{case:24s}{"fastest":>10s}{"ratio":>8s}{"median":>10s}{"ratio":>8s}{"median of CPU":>16s}{"ratio":>8s}']
    rows = []
    for taken in steps:
        wall, cpu = zip(*taken, strict=True)
        rows.append([1e3 * value for value in (min(wall), statistics.median(wall), statistics.median(cpu))])
    for checkout, row in zip(checkouts, rows, strict=True):
        ratios = [value / first for value, first in zip(row, rows[0], strict=True)]
        cells = ''.join(
            f'{value:{width}.0f}{ratio:8.3f}' for value, ratio, width in zip(row, ratios, (10, 10, 16), strict=True)
        )
        lines.append(f'{checkout:24s}{cells}')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
