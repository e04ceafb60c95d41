"""The heads that `inference.py` compares, with the same weights, and generated outputs of a network."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import heads as training
import mmengine
import torch
import torch.nn.functional as F
from heads import IN_CHANNELS, STRIDES
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmmaskformer.core.inference.labels.search import semantic_labels

QUERIES = 100
# Names of the last convolution, the convolution before it, the class head and the embedding head: ours, the hosts' and
# transformers'.
PARTS = (
    ('pixel_decoder.mask_conv', 'pixel_decoder.output_convs.0', 'class_embed', 'mask_embed'),
    ('pixel_decoder.mask_feature', 'pixel_decoder.output_convs.0', 'cls_embed', 'mask_embed'),
    (
        'model.pixel_level_module.decoder.mask_projection',
        'model.pixel_level_module.decoder.fpn.layers.2',
        'class_predictor',
        'mask_embedder',
    ),
)
FOUND = {'semantic': 12, 'panoptic': 25}
"""Queries with a segment, in generated outputs."""


class Case(NamedTuple):
    """An inference case: K, sizes (height, width) of image and result, batch size, confidence, feature widths."""

    task: str
    classes: int
    size: tuple[int, int]
    original: tuple[int, int]
    batch: int
    outputs: str
    in_channels: tuple[int, ...] = IN_CHANNELS

    @property
    def padded(self) -> tuple[int, int]:
        """Size of the network input."""
        height, width = (-(-side // 32) * 32 for side in self.size)
        return height, width


class Head(NamedTuple):
    """A head and its test step: features → (B, height, width) labels or panoptic codes."""

    module: nn.Module
    step: Callable[[list[Tensor]], Tensor]


def make_features(case: Case, device: str) -> list[Tensor]:
    """Noise shaped like the features of a ResNet-50."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(case.batch, width, *(side // stride for side in case.padded), generator=generator).relu().to(device)
        for width, stride in zip(case.in_channels, STRIDES, strict=True)
    ]


def build_heads(names: list[str], case: Case, device: str) -> dict[str, Head]:
    """Build the named heads, all with our weights and the same outputs."""
    torch.manual_seed(0)
    builders = {
        'semantic': {'ours': _our_semantic, 'mmseg': _mmseg},
        'panoptic': {'ours': _our_panoptic, 'mmdet': _mmdet},
    }
    built = {}
    for name in names:
        torch.manual_seed(0)
        ours = MODELS.build(_our_config(case))
        built[name] = builders[case.task][name](ours, case)
        head = built[name].module.to(device).eval()
        impose_outputs(head, *(x.to(device) for x in draw_outputs(case)))
    return built


def impose_outputs(head: nn.Module, class_logits: Tensor, mask_logits: Tensor) -> None:
    """Make a head return these outputs; every layer still runs.

    The last convolution becomes the identity on the maps that replace its input.
    """
    parts = {name.removeprefix('classifier.'): module for name, module in head.named_modules()}
    conv, pyramid, classes, embedding = next(names for names in PARTS if names[0] in parts)
    conv = parts[conv]
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)
    maps = F.pad(mask_logits, (0, 0, 0, 0, 0, conv.in_channels - len(mask_logits)))
    embed = torch.eye(len(mask_logits), conv.in_channels, device=maps.device)
    for name, value in ((pyramid, maps), (classes, class_logits), (embedding, embed)):
        parts[name].register_forward_hook(_replace_by(value))


def _replace_by(value: Tensor) -> Callable:
    """A forward hook that replaces the output by a value with the same memory layout."""
    made = {}

    def hook(module, inputs, output: Tensor) -> Tensor:
        key = (output.shape, output.stride())
        if key not in made:
            made[key] = torch.empty_like(output).copy_(value)
        return made[key]

    return hook


def draw_outputs(case: Case) -> tuple[Tensor, Tensor]:
    """Class logits (Q, K + 1) and mask logits (Q, h, w) like those of a trained network.

    Some queries divide the image among them, with wavy borders; the others predict "no object" and have faint masks.
    'unsure' has class probabilities around one half and masks with soft borders; in 'flat', all probabilities are low.
    """
    generator = torch.Generator().manual_seed(0)
    found, (height, width) = FOUND[case.task], (side // STRIDES[0] for side in case.padded)

    def waves(count: int, cells: int) -> Tensor:
        noise = torch.randn(1, count, cells, cells, generator=generator)
        return F.interpolate(noise, size=(height, width), mode='bicubic')[0]

    class_logits = torch.randn(QUERIES, case.classes + 1, generator=generator)
    if case.outputs == 'flat':
        return 0.01 * class_logits, 0.01 * waves(QUERIES, 16)
    sure, steepness = (9.0, 1.0) if case.outputs == 'confident' else (4.0, 0.2)
    centres = torch.rand(found, 2, generator=generator) * torch.tensor([height, width])
    grid = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    distance = torch.cdist(centres, grid).unflatten(1, (height, width)) + 3 * waves(found, 10)
    nearest, second = distance.topk(2, 0, largest=False).values
    margin = torch.where(distance == nearest, second - distance, nearest - distance)
    mask_logits = waves(QUERIES, 16) - 6
    mask_logits[:found] = (margin * steepness).clamp(-9, 7) + 0.5 * waves(found, 32)
    labels = torch.randint(case.classes, (found,), generator=generator)
    class_logits[range(found), labels] += sure
    class_logits[found:, -1] += sure
    return class_logits, mask_logits


def _our_config(case: Case) -> dict:
    config = training.our_config(training.Case(classes=case.classes, queries=QUERIES)) | dict(
        in_channels=case.in_channels
    )
    if case.task == 'panoptic':
        del config['ignore_index']
        config |= dict(type='mmmaskformer.MaskFormerPanopticHead', things=things(case))
    return config


def _peer_config(case: Case, host: str, **settings) -> dict:
    config = training.peer_config(training.Case(classes=case.classes), host, **settings)
    config.in_channels = list(case.in_channels)
    return config


def things(case: Case) -> list[int]:
    return list(range(case.classes * 6 // 10))


def _our_semantic(ours: nn.Module, case: Case) -> Head:
    metas = [dict(img_shape=case.size, pad_shape=case.padded)] * case.batch
    labels = inspect.unwrap(semantic_labels)  # as the head calls it, which has checked the logits of the batch

    def step(features: list[Tensor]) -> Tensor:
        class_logits, masks = ours.predict_masks(features, metas, sliding=False)
        images = range(case.batch)
        return torch.stack([labels(class_logits[i], masks.of_image(i, case.size, case.original)) for i in images])

    return Head(ours, step)


def _mmseg(ours: nn.Module, case: Case) -> Head:
    head = MODELS.build(_peer_config(case, 'mmseg', num_classes=case.classes))
    training.with_our_weights(head, ours)
    height, width = (padded - side for padded, side in zip(case.padded, case.size, strict=True))
    meta = dict(img_shape=case.size, pad_shape=case.padded, ori_shape=case.original, padding_size=[0, width, 0, height])
    segmentor = SimpleNamespace(align_corners=False, decode_head=head)

    def step(features: list[Tensor]) -> Tensor:
        samples = [SegDataSample(metainfo=meta) for _ in range(case.batch)]
        # The host resizes masks to 'img_shape', which is incorrect for padded images.
        inputs = [meta | dict(img_shape=case.padded) for _ in samples]
        scores = head.predict(features, inputs, mmengine.ConfigDict())
        BaseSegmentor.postprocess_result(segmentor, scores, samples)
        return torch.cat([sample.pred_sem_seg.data for sample in samples])

    return Head(head, step)


def _our_panoptic(ours: nn.Module, case: Case) -> Head:
    fusion = dict(type='mmmaskformer.MaskFormerFusionHead', num_classes=case.classes, things=things(case))
    return Head(ours, _panoptic_step(ours, MODELS.build(fusion), case))


def _mmdet(ours: nn.Module, case: Case) -> Head:
    counts = dict(num_things_classes=len(things(case)))
    counts['num_stuff_classes'] = case.classes - counts['num_things_classes']
    head = MODELS.build(_peer_config(case, 'mmdet', **counts))
    training.with_our_weights(head, ours)
    test_cfg = mmengine.ConfigDict(panoptic_on=True, instance_on=False, object_mask_thr=0.8, iou_thr=0.8)
    fusion = MODELS.build(dict(type='mmdet.MaskFormerFusionHead', test_cfg=test_cfg, **counts))
    return Head(head, _panoptic_step(head, fusion, case))


def _panoptic_step(head: nn.Module, fusion: nn.Module, case: Case) -> Callable[[list[Tensor]], Tensor]:
    meta = dict(img_shape=case.size, batch_input_shape=case.padded, ori_shape=case.original)
    samples = [DetDataSample(metainfo=meta) for _ in range(case.batch)]

    def step(features: list[Tensor]) -> Tensor:
        fusion.to(features[0].device)
        results = fusion.predict(*head.predict(features, samples), samples, rescale=True)
        return torch.cat([result['pan_results'].sem_seg for result in results])

    return step
