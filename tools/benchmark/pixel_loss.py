"""CPU time and memory of the pixel cross-entropy in chunks of rows and at once, for one layer and one image.

Example:
    python tools/benchmark/pixel_loss.py --classes 150 847 --threads 1
"""

import argparse
import statistics
import time

import memory
import torch

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.masks import Plain
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy
from mmmaskformer.core.training.targets import semantic_targets


def measure(classes: int, fast: bool, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds (of the process, on a CPU) and MiB of a forward and backward pass of the loss."""
    torch.manual_seed(0)
    height, width = args.size
    logits = torch.randn(1, classes, height // 4, width // 4, device=args.device).requires_grad_()
    coarse = torch.randint(classes, (1, height // 32, width // 32), device=args.device)
    labels = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    targets = semantic_targets(labels, num_classes=classes, ignore_index=-1)
    criterion = PixelCrossEntropy(num_classes=classes).to(args.device)

    def step() -> None:
        logits.grad = None
        criterion([Plain(logits)], targets)['loss_ce'].backward()

    def seconds() -> float:
        clock = time.process_time if args.device == 'cpu' else time.perf_counter
        start = clock()
        step()
        if args.device != 'cpu':
            torch.cuda.synchronize()
        return clock() - start

    before = set_fast_paths(one_pass_loss=fast)
    try:
        seconds()
        return statistics.median(seconds() for _ in range(args.rounds)), memory.peak_memory(step, args.device)
    finally:
        set_fast_paths(**before)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, nargs='+', default=[150, 847])
    parser.add_argument('--size', type=int, nargs=2, default=(512, 512), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='of torch on a CPU (default: of torch)')
    parser.add_argument('--rounds', type=int, default=3, help='number of measured steps; the median is printed')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print('| classes | in chunks | at once |\n|---|---|---|')
    for classes in args.classes:
        fast, plain = (measure(classes, fast, args) for fast in (True, False))
        print(f'| {classes} | {fast[0]:.3g} s, {fast[1]:.0f} MiB | {plain[0]:.3g} s, {plain[1]:.0f} MiB |')


if __name__ == '__main__':
    main()
