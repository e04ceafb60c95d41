#!/usr/bin/env python
"""Time and memory of a training step of the head, compared with the heads of MMDetection and MMSegmentation.

    python tools/benchmark/train_step.py --rounds 7
    python tools/benchmark/train_step.py --segments 20 --memory --json step.json
    python tools/benchmark/train_step.py --sweep segments 5 10 20 40

Everything after the backbone is measured: both decoders, conversion of targets, matching, losses and their backward
pass, with random features of a ResNet-50's shape. All heads have the same weights and inputs and run in turn in one
process; medians are shown. The run fails if losses differ by more than 1e-5 or gradients by more than 2e-5 of the
largest entry of a tensor: in float64 for all of them, in float32 for the losses and the gradients of the parameters
next to the criterion. (For earlier parameters, rounding decides whether a ReLU near zero passes a gradient.)
"""

import argparse
import json
import os
import statistics
import sys
import time
from unittest import mock

import torch
from heads import BUILDERS, Case, Head, build_heads, make_features, missing
from memory import printed_memory
from plot import plot
from stopwatch import STAGES, Stopwatch, peak_memory
from torch import Tensor

from mmmaskformer.formats.whole_files import write_whole

LIMITS = {'losses': 1e-5, 'gradients': 2e-5}
NEXT_TO_CRITERION = ('pixel_decoder.mask_conv', 'class_embed', 'mask_embed.layers.2')


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    case = Case(**{field: getattr(args, field) for field in Case._fields})
    if args.only_memory:
        print(
            peak_memory(
                build_heads([args.only_memory], case, args.device)[args.only_memory],
                make_features(case, args.device),
                args.device,
            )
        )
        return
    for name in [name for name in args.peers if missing(name)]:
        print(f'{name}: not installed')
        args.peers.remove(name)
    cases = [case._replace(**{args.sweep[0]: int(value)}) for value in args.sweep[1:]] if args.sweep else [case]
    reports = [measure(case, args) for case in cases]
    for report in reports:
        print(table(report))
    if args.plot:
        plot(reports, args.plot)
    if args.json:
        write_whole(args.json, json.dumps(reports, indent=1))
    wrong = [line for report in reports for line in report['too different']]
    if wrong:
        sys.exit('too different: ' + '; '.join(wrong))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field, default in Case._field_defaults.items():
        parser.add_argument(f'--{field}', type=int, default=default)
    parser.add_argument('--peers', nargs='*', default=list(BUILDERS)[1:], choices=list(BUILDERS)[1:])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--clock', default='wall', choices=['wall', 'cpu'], help='cpu: time of the process')
    parser.add_argument('--memory', action='store_true', help='measure peak memory too, each head in its own process')
    parser.add_argument('--sweep', nargs='+', metavar=('FIELD', 'VALUE'), help='one case per value of a field')
    parser.add_argument('--json', help='file to write the numbers to')
    parser.add_argument('--plot', help='picture to write: stages of one case, or step time and memory over a sweep')
    parser.add_argument('--only-memory', choices=list(BUILDERS), help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(case: Case, args: argparse.Namespace) -> dict:
    """Median seconds per stage, peak memory and differences of every head for one case."""
    names = ['ours', *args.peers]
    heads = build_heads(names, case, args.device)
    features = make_features(case, args.device)
    differences = {name: compare(heads['ours'], heads[name], features) for name in args.peers}
    clock = time.process_time if args.clock == 'cpu' else time.perf_counter
    watches = {name: Stopwatch(head, args.device, clock) for name, head in heads.items()}
    rounds = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, watch in watches.items():
            rounds[name].append(watch.step(features))
    times = {
        name: {stage: statistics.median(times[stage] for times in taken) for stage in (*STAGES, 'step')}
        for name, taken in rounds.items()
    }
    for stages in times.values():
        stages['criterion with backward'] = stages['criterion'] + stages['backward of criterion']
    memory = {name: memory_of(name, case, args) for name in names} if args.memory else {}
    too_different = [
        f'{name}: {kind} by {value:.1e} in {where} ({case})'
        for name, found in differences.items()
        for kind, (value, where) in found.items()
        if not value <= LIMITS[kind.split()[1]]
    ]
    return {
        'case': case._asdict(),
        'seconds': times,
        'MiB': memory,
        'differences': differences,
        'too different': too_different,
    }


def compare(ours: Head, peer: Head, features: list[Tensor]) -> dict[str, tuple[float, str]]:
    """Largest relative difference of losses and of gradients in both precisions, and the name of the tensor."""
    found = {}
    for dtype, considered in ((torch.float32, NEXT_TO_CRITERION), (torch.float64, ('',))):
        losses, gradients = losses_and_gradients(ours, features, dtype)
        # The peers' matching costs convert masks with `Tensor.float`, which fails with float64 logits.
        with mock.patch.object(Tensor, 'float', Tensor.double if dtype == torch.float64 else Tensor.float):
            peer_losses, peer_gradients = losses_and_gradients(peer, features, dtype)
        by_loss = {key: abs(float(losses[key] / value) - 1) for key, value in peer_losses.items()}
        by_gradient = {
            key: float((gradients[key] - value).abs().max() / value.abs().max())
            for key, value in peer_gradients.items()
            if key.startswith(considered)
        }
        name = str(dtype).removeprefix('torch.')
        found[f'{name} losses'] = max((value, key) for key, value in by_loss.items())
        found[f'{name} gradients'] = max((value, key) for key, value in by_gradient.items())
    return found


def losses_and_gradients(
    head: Head, features: list[Tensor], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One step in ``dtype``; the head is float32 again afterwards."""
    head.module.to(dtype)
    features = [x.detach().to(dtype).requires_grad_() for x in features]
    losses = head.losses(features)
    leaves = {**head.parameters, **{f'feature {level}': x for level, x in enumerate(features)}}
    gradients = torch.autograd.grad(sum(losses.values()), list(leaves.values()))
    head.module.to(torch.float32)
    return {key: x.detach() for key, x in losses.items()}, dict(zip(leaves, gradients, strict=True))


def memory_of(name: str, case: Case, args: argparse.Namespace) -> float:
    """Peak memory in MiB of one head, measured in a separate process."""
    fields = [f'--{field}={value}' for field, value in case._asdict().items()]
    arguments = [__file__, f'--only-memory={name}', f'--device={args.device}', f'--threads={args.threads}']
    return printed_memory([*arguments, *fields])


def table(report: dict) -> str:
    """A table of one case: milliseconds of each head and the ratio of ours to each peer's."""
    peers = [name for name in report['seconds'] if name != 'ours']
    lines = [', '.join(f'{field} {value}' for field, value in report['case'].items())]
    lines.append(f'{"":26s}' + ''.join(f'{name:>14s}' for name in ('ours', *(x for p in peers for x in (p, 'ratio')))))
    rows = {
        stage: (1e3, {name: t[stage] for name, t in report['seconds'].items()}) for stage in report['seconds']['ours']
    }
    if report['MiB']:
        rows['peak memory (MiB)'] = (1, report['MiB'])
    for row, (scale, values) in rows.items():
        cells = [f'{values["ours"] * scale:14.0f}']
        cells += [f'{values[peer] * scale:14.0f}{values["ours"] / values[peer]:14.2f}' for peer in peers]
        lines.append(f'{row:26s}' + ''.join(cells))
    for peer in peers:
        for kind, (value, where) in report['differences'][peer].items():
            lines.append(f'largest difference to {peer}, {kind}: {value:.1e} ({where})')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
