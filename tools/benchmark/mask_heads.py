"""Compare DETR's mask head with MaskFormer's: parameters, multiply-adds, time and memory by number of queries.

DETR up-samples the attention map of every query separately; MaskFormer's pixel decoder is shared by all queries. The
numbers of MaskFormer include pixel decoder, mask embedding and product. Both heads start from the features of a
ResNet-50 and the states of one transformer decoder layer, and return masks of stride 4. A training step computes the
gradients of all parameters for the sum of the masks; DETR trains its masks with a frozen transformer.

Example:
    python tools/benchmark/mask_heads.py --queries 1 10 100 --size 512 512 --json mask_heads.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import memory
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmmaskformer.core.modeling.detr_mask_head import DetrMaskHead
from mmmaskformer.core.modeling.layers import MLP
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder
from mmmaskformer.formats.whole_files import write_whole

IN_CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)
CHANNELS = 256


class Inputs(NamedTuple):
    """Inputs of both heads: features, finest first; the coarsest projected, before and after an encoder; states."""

    features: list[Tensor]
    projected: Tensor
    memory: Tensor
    states: Tensor


class DetrHead(nn.Module):
    """DETR's mask head on these inputs."""

    def __init__(self):
        super().__init__()
        self.head = DetrMaskHead(in_channels=IN_CHANNELS[-2::-1], channels=CHANNELS)

    def forward(self, inputs: Inputs) -> Tensor:
        """Mask logits (B, Q, h, w)."""
        return self.head(inputs.states, inputs.projected, inputs.memory, inputs.features[-2::-1])


class MaskFormerHead(nn.Module):
    """MaskFormer's pixel decoder, mask embedding and product on these inputs."""

    def __init__(self):
        super().__init__()
        self.pixel_decoder = FPNPixelDecoder(in_channels=IN_CHANNELS)
        self.mask_embed = MLP(CHANNELS, CHANNELS, CHANNELS, 3)

    def forward(self, inputs: Inputs) -> Tensor:
        """Mask logits (B, Q, h, w)."""
        pixels = self.pixel_decoder(inputs.features)._replace(made_by=None)
        return pixels.masks(self.mask_embed(inputs.states)).multiplied_out()


HEADS: dict[str, type[nn.Module]] = {'DETR': DetrHead, 'MaskFormer': MaskFormerHead}


def make_inputs(size: tuple[int, int], queries: int, device: str) -> Inputs:
    """Noise shaped like the inputs for an image of that size."""
    sizes = [[-(-side // stride) for side in size] for stride in STRIDES]
    features = [torch.randn(1, width, *s, device=device) for width, s in zip(IN_CHANNELS, sizes, strict=True)]
    coarse = [torch.randn(1, CHANNELS, *sizes[-1], device=device) for _ in range(2)]
    return Inputs(features, *coarse, torch.randn(1, queries, CHANNELS, device=device))


def measure(name: str, queries: int, args: argparse.Namespace) -> dict[str, float]:
    """Parameters, GFLOP (a multiply-add is one), milliseconds and MiB of a head."""
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        HEADS[name]()(make_inputs(tuple(args.size), queries, 'meta'))
    torch.manual_seed(0)
    head, inputs = HEADS[name]().to(args.device), make_inputs(tuple(args.size), queries, args.device)

    @torch.no_grad()
    def infer() -> None:
        head(inputs)

    def train() -> None:
        head.zero_grad(set_to_none=True)
        head(inputs).sum().backward()

    found = {
        'parameters': sum(parameter.numel() for parameter in head.parameters()),
        'GFLOP': counter.get_total_flops() / 2e9,
    }
    for what, step in (('inference', infer), ('training', train)):
        found[f'{what}, ms'] = _milliseconds(step, args)
        found[f'{what}, MiB'] = memory.peak_memory(step, args.device)
    return found


def _milliseconds(step: Callable[[], None], args: argparse.Namespace) -> float:
    """Median time of a step, after one that warms up."""
    times = []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        step()
        if args.device != 'cpu':
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table, with the ratios of DETR to MaskFormer."""
    keys = list(rows[0]['DETR'])
    lines = ['| queries | head | ' + ' | '.join(keys) + ' |', '|---' * (len(keys) + 2) + '|']
    for row in rows:
        for name in HEADS:
            lines.append(
                f'| {row["queries"]} | {name} | ' + ' | '.join(f'{_text(row[name][key])}' for key in keys) + ' |'
            )
        ratios = ' | '.join(f'{row["DETR"][key] / max(row["MaskFormer"][key], 1e-9):.2f}' for key in keys)
        lines.append(f'| {row["queries"]} | ratio | {ratios} |')
    return '\n'.join(lines)


def _text(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--queries', type=int, nargs='+', default=[1, 10, 100])
    parser.add_argument('--size', type=int, nargs=2, default=(512, 512), metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='of torch on a CPU (default: of torch)')
    parser.add_argument('--rounds', type=int, default=3, help='number of measured steps; the median is printed')
    parser.add_argument('--json', help='file to write the numbers to')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [{'queries': number} | {name: measure(name, number, args) for name in HEADS} for number in args.queries]
    print(f'{args.size[0]} x {args.size[1]} pixels, {args.device}, torch {torch.__version__}')
    print(table(rows))
    if args.json:
        write_whole(args.json, json.dumps(rows, indent=2))


if __name__ == '__main__':
    main()
