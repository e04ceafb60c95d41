#!/usr/bin/env python
"""Compare a trained model under autocast, or compiled, with the same model in float32: results and time.

    python tools/benchmark/precision.py CONFIG CHECKPOINT
    python tools/benchmark/precision.py CONFIG CHECKPOINT --ways bfloat16 float16 compiled

Runs on the test set of the config with batches of one image. For each way, it prints the share of pixels whose label,
or class and segment, differs from float32, the metrics of the config, and the time per image.
"""

import argparse
import copy
import os
import time
from contextlib import nullcontext

import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS

from mmmaskformer.apis.trained import build_trained

WAYS = ('float32', 'bfloat16', 'float16', 'compiled')
FIELDS = ('pred_panoptic_seg', 'pred_sem_seg')


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options or {})
    model, _ = build_trained(config, args.checkpoint)
    model.to(args.device)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    reference = None
    for way in dict.fromkeys(('float32', *args.ways)):
        maps, metrics, seconds = run(model, dataset, config, way, args.device)
        reference = reference or maps
        print(f'{way}: {1e3 * seconds:.1f} ms per image')
        for field in maps:
            print(f'    {field}: {share_that_differs(maps[field], reference[field]):.2e} of the pixels differ')
        print('    ' + ', '.join(f'{key} {value:.2f}' for key, value in metrics.items()))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--ways', nargs='+', default=list(WAYS[1:]), choices=WAYS[1:])
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='entries to replace, such as a.b=1 c=2')
    return parser.parse_args()


@torch.no_grad()
def run(model, dataset, config: Config, way: str, device: str) -> tuple[dict, dict, float]:
    """Maps per field, metrics, and seconds per image of one way to run the model."""
    if way == 'compiled':
        model = copy.deepcopy(model)
        head = model.decode_head if hasattr(model, 'decode_head') else model.panoptic_head
        model.backbone.compile(dynamic=True)
        head.classifier.compile(dynamic=True)
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    maps, seconds = {field: [] for field in FIELDS}, 0.0
    for index in range(len(dataset)):
        data = pseudo_collate([dataset[index]])
        half = way.endswith('float16')
        start = time.perf_counter()
        with torch.autocast(device, getattr(torch, way)) if half else nullcontext():
            samples = model.test_step(data)
        if device != 'cpu':
            torch.cuda.synchronize()
        if index:  # the first one compiles
            seconds += time.perf_counter() - start
        evaluator.process(samples)
        for field in FIELDS:
            if field in samples[0]:
                found = samples[0].get(field)
                maps[field].append((found.sem_seg if 'sem_seg' in found else found.data)[0].cpu())
    metrics = evaluator.evaluate(len(dataset))
    chosen = {key: value for key, value in metrics.items() if key.split('/')[-1] in ('PQ', 'mIoU', 'PQ_St')}
    return {field: found for field, found in maps.items() if found}, chosen, seconds / max(1, len(dataset) - 1)


def share_that_differs(found: list, expected: list) -> float:
    """Share of pixels of all images that differ."""
    return sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True)) / sum(a.numel() for a in expected)


if __name__ == '__main__':
    main()
