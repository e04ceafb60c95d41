#!/usr/bin/env python
"""Peak memory and time of a multi-scale and flip test of one large image, up to its label map.

    python tools/benchmark/large_image.py
    python tools/benchmark/large_image.py --size 4000 6000 --edges 1024 1365 2048 --classes 65 --backbone none

The model is a ResNet-50 MaskFormer for MMSegmentation with `SemanticTTAModel`; each scale is used twice, once mirrored.
As in `inference.py`, every layer runs and generated outputs replace those of random weights. ``--backbone none``
replaces the backbone by noise of the features' shape, so that the memory is that of the head alone. For comparison, the
size of the class scores (K, H, W) is printed: a test that sums scores needs at least twice as much.
"""

import argparse
import os
import time

import mmmaskformer.registry  # noqa: F401  makes the hosts importable with mmcv-lite, so it comes first

# isort: split
import torch
import torch.nn.functional as F
from heads import IN_CHANNELS, STRIDES
from inference_heads import Case, draw_outputs, impose_outputs
from memory import peak_memory
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmseg.structures import SegDataSample
from torch import Tensor, nn

BASE = os.path.join(os.path.dirname(__file__), '../../configs/_base_/models/maskformer_r50.py')


class Noise(nn.Module):
    """Noise of the shape of a ResNet-50's features."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W)."""
        sizes = [tuple(-(-side // stride) for side in images.shape[2:]) for stride in STRIDES]
        return [torch.rand(len(images), width, *size) for width, size in zip(IN_CHANNELS, sizes, strict=True)]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model = build(args).eval()
    views = make_views(args)
    labels = []
    seconds = []

    @torch.no_grad()
    def step() -> None:
        start = time.perf_counter()
        labels.append(model.test_step(views())[0].pred_sem_seg.data)
        seconds.append(time.perf_counter() - start)

    peak = peak_memory(step, 'cpu')
    height, width = args.size
    print(f'{height} x {width}, {args.classes} classes, short edges {args.edges}, each mirrored too')
    print(f'backbone {args.backbone}, {len(labels[-1].unique())} classes in the result')
    print(f'peak memory above weights: {peak:.0f} MiB; {seconds[-1]:.1f} s')
    print(f'class scores would take {4 * args.classes * height * width / 2**20:.0f} MiB')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=[4000, 6000], help='height and width of the image file')
    parser.add_argument('--edges', type=int, nargs='+', default=[682, 1024, 1365], help='short edges of the scales')
    parser.add_argument('--classes', type=int, default=65)
    parser.add_argument('--backbone', default='r50', choices=['r50', 'none'])
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    return parser.parse_args()


def build(args: argparse.Namespace) -> nn.Module:
    """The model with test-time augmentation."""
    DefaultScope.get_instance('benchmark', scope_name='mmseg')
    config = Config.fromfile(BASE).model
    config.decode_head.num_classes = args.classes
    config.backbone.init_cfg = None
    model = MODELS.build(config | dict(type='mmmaskformer.EncoderDecoder'))
    case = Case('semantic', args.classes, (512, 768), (512, 768), 1, 'confident')
    class_logits, mask_logits = draw_outputs(case)
    impose_outputs(model.decode_head, class_logits, mask_logits)
    # The generated maps have one size; the views have several.
    pyramid = model.decode_head.classifier.pixel_decoder.output_convs[0]
    pyramid._forward_hooks.clear()
    maps = F.pad(mask_logits, (0, 0, 0, 0, 0, 256 - len(mask_logits)))[None]
    pyramid.register_forward_hook(lambda module, inputs, output: F.interpolate(maps, size=output.shape[2:]))
    if args.backbone == 'none':
        model.backbone = Noise()
    return MODELS.build(dict(type='mmmaskformer.SemanticTTAModel', module=model))


def make_views(args: argparse.Namespace):
    """A function that returns the data of the test pipeline: the views of the image, smallest first."""
    height, width = args.size
    sizes = [(edge, round(edge * width / height)) for edge in args.edges]
    images = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes for _ in range(2)]
    metas = [
        dict(img_shape=size, ori_shape=(height, width), flip=flip, flip_direction='horizontal' if flip else None)
        for size in sizes
        for flip in (False, True)
    ]

    def views() -> dict:
        return dict(inputs=[[image] for image in images], data_samples=[[SegDataSample(metainfo=m)] for m in metas])

    return views


if __name__ == '__main__':
    main()
