#!/usr/bin/env python
"""Time and memory of inference without the backbone, compared with the heads of MMSegmentation and MMDetection.

    python tools/benchmark/inference.py semantic --memory
    python tools/benchmark/inference.py semantic --classes 847 --size 1024 2048 --rounds 3
    python tools/benchmark/inference.py panoptic --classes 133 --size 800 1216 --memory --json panoptic.json

Each head gets features of a ResNet-50's shape and runs a complete test step, up to the label map or the panoptic map of
the image. All have the same weights and run in turn in one process; medians are shown. The time depends on the
confidence of the predictions, so random weights would be misleading: the layers that compute class logits, mask
embeddings and mask features run, and their results are replaced by generated ones (see ``--outputs``). The run fails if
more than one pixel in a million differs; scores that are equal up to rounding may give either class.
"""

import argparse
import json
import os
import statistics
import sys
import time

import numpy as np
import torch
from inference_heads import Case, Head, build_heads, make_features
from memory import peak_memory, printed_memory
from plot import plot

from mmmaskformer.core.quality.panoptic_quality import count_segments
from mmmaskformer.core.quality.semantic_quality import count_labels
from mmmaskformer.formats.mmdet_codes import segments_of_codes
from mmmaskformer.formats.whole_files import write_whole

PEERS = {'semantic': 'mmseg', 'panoptic': 'mmdet'}
LIMIT = 1e-6
STAGES = ('pixel decoder', 'transformer', 'post-processing')


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    case = Case(args.task, args.classes, tuple(args.size), tuple(args.original or args.size), args.batch, args.outputs)
    if args.only_memory:
        head = build_heads([args.only_memory], case, args.device)[args.only_memory]
        features = make_features(case, args.device)
        with torch.no_grad():
            print(peak_memory(lambda: head.step(features), args.device))
        return
    report = measure(case, args)
    print(table(report))
    if args.plot:
        plot([report], args.plot, STAGES)
    if args.json:
        write_whole(args.json, json.dumps(report, indent=1))
    if report['share of pixels that differ'] > LIMIT:
        sys.exit('results differ')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=list(PEERS))
    parser.add_argument('--classes', type=int, default=150)
    parser.add_argument(
        '--size', type=int, nargs=2, default=[512, 683], help='of the image; padded to a multiple of 32'
    )
    parser.add_argument('--original', type=int, nargs=2, help='size of the result (default: that of the image)')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--outputs', default='confident', choices=['confident', 'unsure', 'flat'])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--clock', default='wall', choices=['wall', 'cpu'], help='cpu: time of the process')
    parser.add_argument('--memory', action='store_true', help='measure peak memory too, each head in its own process')
    parser.add_argument('--json', help='file to write the numbers to')
    parser.add_argument('--plot', help='picture to write')
    parser.add_argument('--only-memory', choices=['ours', *PEERS.values()], help=argparse.SUPPRESS)
    return parser.parse_args()


@torch.no_grad()
def measure(case: Case, args: argparse.Namespace) -> dict:
    """Median seconds per stage, peak memory and agreement of both heads."""
    names = ['ours', PEERS[case.task]]
    heads = build_heads(names, case, args.device)
    features = make_features(case, args.device)
    results = {name: head.step(features) for name, head in heads.items()}
    differ = float((results['ours'] != results[names[1]]).float().mean())
    clock = time.process_time if args.clock == 'cpu' else time.perf_counter
    rounds = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, head in heads.items():
            rounds[name].append(stages(head, features, args.device, clock))
    times = {
        name: {stage: statistics.median(times[stage] for times in taken) for stage in taken[0]}
        for name, taken in rounds.items()
    }
    return {
        'case': case._asdict(),
        'seconds': times,
        'images per second': {name: case.batch / taken['step'] for name, taken in times.items()},
        'MiB': {name: memory_of(name, args) for name in names} if args.memory else {},
        'evaluation': evaluation_seconds(results['ours'][0].cpu().numpy(), case, clock),
        'share of pixels that differ': differ,
    }


def stages(head: Head, features: list[torch.Tensor], device: str, clock) -> dict[str, float]:
    """Seconds of each stage of one test step; mask features may be computed in the last one."""
    marks = []

    def mark(*_) -> None:
        if device != 'cpu':
            torch.cuda.synchronize()
        marks.append(clock())

    modules = {name.rpartition('.')[2]: module for name, module in head.module.named_modules()}
    hooks = [modules[name].register_forward_hook(mark) for name in ('pixel_decoder', 'transformer_decoder')]
    mark()
    head.step(features)
    mark()
    for hook in hooks:
        hook.remove()
    start, pixel_decoder, transformer, end = marks
    return {
        'pixel decoder': pixel_decoder - start,
        'transformer': transformer - pixel_decoder,
        'post-processing': end - transformer,
        'step': end - start,
    }


def evaluation_seconds(result: np.ndarray, case: Case, clock) -> float:
    """Seconds that our metric needs to compare one result with ground truth in memory."""
    truth = np.roll(result, 5, axis=1)
    start = clock()
    if case.task == 'semantic':
        count_labels(truth, result, num_classes=case.classes, ignore_index=65535)
    else:
        count_segments(*(segments_of_codes(one, case.classes) for one in (truth, result)), num_classes=case.classes)
    return clock() - start


def memory_of(name: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of one head, measured in a separate process."""
    return printed_memory([*sys.argv, f'--only-memory={name}', f'--threads={args.threads}'])


def table(report: dict) -> str:
    """Milliseconds and MiB of ours and the peer, and their ratio."""
    ours, peer = report['seconds']
    rows = [(stage, 1e3 * report['seconds'][ours][stage], 1e3 * report['seconds'][peer][stage])
            for stage in report['seconds'][ours]]  # fmt: skip
    if report['MiB']:
        rows.append(('peak memory (MiB)', *report['MiB'].values()))
    shown = {field: value for field, value in report['case'].items() if field != 'in_channels'}
    lines = [', '.join(f'{field} {value}' for field, value in shown.items())]
    lines.append(f'{"":22s}{ours:>10s}{peer:>10s}{"ratio":>10s}')
    lines += [f'{name:22s}{one:10.0f}{other:10.0f}{one / other:10.3f}' for name, one, other in rows]
    step = report['seconds'][ours]['step'] / report['case']['batch']
    lines.append(f'evaluation: {report["evaluation"] / step:.1%} of our time per image')
    lines.append(f'share of pixels that differ: {report["share of pixels that differ"]:.1e}')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
