#!/usr/bin/env python
"""Time and memory of inference with complete models, including the backbone: ours, the host's and transformers'.

    python tools/benchmark/whole_models.py semantic --backbones r50 swin-t --memory
    python tools/benchmark/whole_models.py panoptic --backbones r50 --size 800 1216 --classes 133 --batches 1 2

From normalised images to the label map or panoptic map at the size of the image. As in `inference.py`, every layer runs
and generated outputs of a trained network replace those of random weights. Ours and the host's have the same backbone,
weights and results, and the run fails if more than one pixel in a million differs. transformers has its own backbone
and post-processes at the resolution of the mask logits, so its results differ: the share of different pixels is shown.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import NamedTuple

import torch
from heads import missing
from inference_heads import Case, build_heads, draw_outputs, impose_outputs, things
from memory import peak_memory, printed_memory
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmaskformer.formats.whole_files import write_whole

HOSTS = {'semantic': 'mmseg', 'panoptic': 'mmdet'}
LIMIT = 1e-6


class Backbone(NamedTuple):
    """Widths of the features, the hosts' settings, and transformers' name and settings."""

    in_channels: tuple[int, ...]
    settings: dict
    transformers: tuple[str, dict]


BACKBONES = {
    'r50': Backbone(
        (256, 512, 1024, 2048),
        dict(type='mmseg.ResNet', depth=50, norm_eval=True),
        ('ResNetConfig', dict(depths=[3, 4, 6, 3])),
    ),
    'swin-t': Backbone(
        (96, 192, 384, 768),
        dict(type='mmseg.SwinTransformer', embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
        ('SwinConfig', dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7)),
    ),
}


class Model(NamedTuple):
    """A complete model and its test step: images (B, 3, H, W) → (B, height, width) labels or panoptic codes."""

    module: nn.Module
    step: Callable[[Tensor], Tensor]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if args.only_memory:
        case = case_of(args, args.backbones[0], args.batches[0])
        model = build(args.only_memory, args.backbones[0], case, args.device)
        images = make_images(case, args.device)
        with torch.no_grad():
            print(peak_memory(lambda: model.step(images), args.device))
        return
    reports = [
        measure(case_of(args, backbone, batch), backbone, args) for backbone in args.backbones for batch in args.batches
    ]
    for report in reports:
        print(table(report))
    if args.json:
        write_whole(args.json, json.dumps(reports, indent=1))
    if any(report['share of pixels that differ'][HOSTS[args.task]] > LIMIT for report in reports):
        sys.exit('results differ')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=list(HOSTS))
    parser.add_argument('--backbones', nargs='+', default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument('--batches', type=int, nargs='+', default=[1])
    parser.add_argument('--classes', type=int, default=150)
    parser.add_argument('--size', type=int, nargs=2, default=[512, 683], help='padded to a multiple of 32')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--memory', action='store_true', help='measure peak memory too, each model in its own process')
    parser.add_argument('--json', help='file to write the numbers to')
    parser.add_argument('--only-memory', help=argparse.SUPPRESS)
    return parser.parse_args()


def case_of(args: argparse.Namespace, backbone: str, batch: int) -> Case:
    """The case of one measurement."""
    size = tuple(args.size)
    return Case(args.task, args.classes, size, size, batch, 'confident', BACKBONES[backbone].in_channels)


def make_images(case: Case, device: str) -> Tensor:
    """Noise as normalised images, padded to the size of the network input."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(case.batch, 3, *case.padded)
    images[:, :, : case.size[0], : case.size[1]].normal_(generator=generator)
    return images.to(device)


def build(name: str, backbone: str, case: Case, device: str) -> Model:
    """One of the models, with the generated outputs."""
    if name == 'transformers':
        model = _transformers(backbone, case)
    else:
        head = build_heads([name], case, device)[name]
        torch.manual_seed(0)
        trunk = MODELS.build(dict(BACKBONES[backbone].settings))
        model = Model(nn.ModuleList([trunk, head.module]), lambda images: head.step(trunk(images)))
    model.module.to(device).eval()
    if name == 'transformers':
        impose_outputs(model.module, *(x.to(device) for x in draw_outputs(case)))
    return model


def _transformers(backbone: str, case: Case) -> Model:
    library = import_module('transformers')
    name, settings = BACKBONES[backbone].transformers
    trunk = getattr(library, name)(**settings, out_features=['stage1', 'stage2', 'stage3', 'stage4'])
    config = library.MaskFormerConfig(
        backbone_config=trunk,
        decoder_config=library.DetrConfig(encoder_layers=0, num_queries=100),
        num_labels=case.classes,
        id2label={label: str(label) for label in range(case.classes)},
    )
    module = library.MaskFormerForInstanceSegmentation(config)
    processing = import_module('transformers.models.maskformer.image_processing_maskformer').MaskFormerImageProcessor()
    sizes = [case.original] * case.batch
    # The library does not remove padding from results: it gets masks without padding.
    height, width = (side // 4 for side in case.size)

    def step(images: Tensor) -> Tensor:
        found = module(pixel_values=images)
        masks = found.masks_queries_logits[:, :, :height, :width]
        outputs = SimpleNamespace(class_queries_logits=found.class_queries_logits, masks_queries_logits=masks)
        if case.task == 'semantic':
            return torch.stack(processing.post_process_semantic_segmentation(outputs, target_sizes=sizes))
        stuff = set(range(case.classes)) - set(things(case))
        results = processing.post_process_panoptic_segmentation(
            outputs, threshold=0.8, label_ids_to_fuse=stuff, target_sizes=sizes
        )
        return torch.stack([_label_of_pixels(result, case) for result in results])

    return Model(module, step)


def _label_of_pixels(result: dict, case: Case) -> Tensor:
    """Class of every pixel, K for void: segment ids of transformers have no equivalent in the host's codes."""
    ids = result['segmentation'].long()
    table = ids.new_full((int(ids.max()) + 2,), case.classes)
    for segment in result['segments_info']:
        table[segment['id']] = segment['label_id']
    return table[ids]  # -1, no segment, is the last entry


@torch.no_grad()
def measure(case: Case, backbone: str, args: argparse.Namespace) -> dict:
    """Median seconds of a step, peak memory and agreement of all models."""
    names = ['ours', HOSTS[case.task], *([] if missing('transformers') else ['transformers'])]
    models = {name: build(name, backbone, case, args.device) for name in names}
    images = make_images(case, args.device)
    results = {name: model.step(images) for name, model in models.items()}
    times = {name: [] for name in names}
    for _ in range(args.rounds):
        for name, model in models.items():
            times[name].append(seconds(lambda model=model: model.step(images), args.device))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        'backbone': backbone,
        'case': case._asdict(),
        'seconds': median,
        'images per second': {name: case.batch / value for name, value in median.items()},
        'MiB': {name: memory_of(name, backbone, case, args) for name in names} if args.memory else {},
        'share of pixels that differ': {name: _share(results['ours'], results[name], name) for name in names[1:]},
    }


def _share(ours: Tensor, theirs: Tensor, name: str) -> float:
    """Share of pixels that differ; with transformers, of their classes only."""
    if name == 'transformers':
        ours = ours % 1000
    return float((ours != theirs).float().mean())


def seconds(step: Callable[[], object], device: str) -> float:
    """Wall time of a step."""
    start = time.perf_counter()
    step()
    if device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_of(name: str, backbone: str, case: Case, args: argparse.Namespace) -> float:
    """Peak memory in MiB of one model, measured in a separate process."""
    arguments = [__file__, case.task, f'--only-memory={name}', f'--threads={args.threads}', f'--device={args.device}']
    arguments += [f'--classes={case.classes}', f'--batches={case.batch}', f'--backbones={backbone}']
    return printed_memory([*arguments, '--size', *map(str, case.size)])


def table(report: dict) -> str:
    """Milliseconds, images per second and MiB of each model, and the ratio of ours to each other."""
    case = report['case']
    lines = [f'{report["backbone"]}, {case["task"]}, {case["classes"]} classes, {case["size"]}, batch {case["batch"]}']
    lines.append(f'{"":14s}{"ms":>8s}{"ratio":>8s}{"images/s":>10s}{"MiB":>8s}{"ratio":>8s}{"differ":>10s}')
    ours, memory = report['seconds']['ours'], report['MiB']
    for name, taken in report['seconds'].items():
        cells = [f'{name:14s}{1e3 * taken:8.0f}{ours / taken:8.2f}{report["images per second"][name]:10.2f}']
        cells.append(f'{memory[name]:8.0f}{memory["ours"] / memory[name]:8.2f}' if memory else f'{"":16s}')
        cells.append(f'{report["share of pixels that differ"].get(name, 0):10.1e}')
        lines.append(''.join(cells))
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
