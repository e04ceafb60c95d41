"""The heads that `train_step.py` compares: ours and those of the hosts, with the same weights and inputs."""

import copy
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import mmmaskformer.registry  # noqa: F401  makes the hosts importable with mmcv-lite, so it comes first

# isort: split
import mmengine
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmmaskformer.checkpoints.convert import renamed

IN_CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)
IGNORED = 65535


class Case(NamedTuple):
    """A training case: images per batch, their side in pixels, K, segments per image, Q and L."""

    batch: int = 2
    crop: int = 512
    classes: int = 150
    segments: int = 9
    queries: int = 100
    layers: int = 6


class Head(NamedTuple):
    """A head, its function (features) → losses of a complete training step, and its parameters.

    ``parameters`` has our names, so that gradients can be compared.
    """

    module: nn.Module
    losses: Callable[[list[Tensor]], dict[str, Tensor]]
    parameters: dict[str, nn.Parameter]


def make_features(case: Case, device: str) -> list[Tensor]:
    """Leaf tensors of the shapes of a ResNet-50's features, which require gradients."""
    generator = torch.Generator().manual_seed(0)
    sizes = [-(-case.crop // stride) for stride in STRIDES]
    return [
        torch.randn(case.batch, width, size, size, generator=generator).relu().to(device).requires_grad_()
        for width, size in zip(IN_CHANNELS, sizes, strict=True)
    ]


def make_label_maps(case: Case, device: str) -> Tensor:
    """Label maps (batch, crop, crop) int64: regions around random points, and a strip of ignored pixels."""
    random = np.random.default_rng(0)
    axis = np.arange(case.crop)
    maps = []
    for _ in range(case.batch):
        points = random.integers(0, case.crop, (2, case.segments))
        nearest = np.full((case.crop, case.crop), np.inf)
        label_map = np.zeros((case.crop, case.crop), np.int64)
        for label, (y, x) in zip(random.permutation(case.classes)[: case.segments], points.T, strict=True):
            distance = (axis[:, None] - y) ** 2 + (axis[None] - x) ** 2
            label_map[distance < nearest] = label
            nearest = np.minimum(nearest, distance)
        label_map[-case.crop // 32 :] = IGNORED
        maps.append(torch.from_numpy(label_map))
    return torch.stack(maps).to(device)


def build_heads(names: list[str], case: Case, device: str) -> dict[str, Head]:
    """Build the named heads, all with the weights of ours."""
    torch.manual_seed(0)
    label_maps = make_label_maps(case, device)
    ours = MODELS.build(our_config(case))
    return {name: BUILDERS[name](copy.deepcopy(ours).to(device), case, label_maps) for name in names}


def missing(peer: str) -> bool:
    """Whether the package of the peer is not installed."""
    return peer == 'transformers' and find_spec('transformers') is None


def _ours(ours: nn.Module, case: Case, label_maps: Tensor) -> Head:
    samples = _seg_samples(label_maps)
    parameters = {name.removeprefix('classifier.'): p for name, p in ours.named_parameters()}
    return Head(ours, lambda features: ours.loss(features, samples), parameters)


def _mmseg(ours: nn.Module, case: Case, label_maps: Tensor) -> Head:
    config = peer_config(case, 'mmseg', num_classes=case.classes, ignore_index=IGNORED)
    head = MODELS.build(config).to(label_maps.device)
    samples = _seg_samples(label_maps)
    return Head(head, lambda features: head.loss(features, samples, None), with_our_weights(head, ours))


def _mmdet(ours: nn.Module, case: Case, label_maps: Tensor) -> Head:
    config = peer_config(case, 'mmdet', num_things_classes=case.classes, num_stuff_classes=0)
    head = MODELS.build(config).to(label_maps.device)
    samples = [_det_sample(label_map) for label_map in label_maps]
    return Head(head, lambda features: head.loss(features, samples), with_our_weights(head, ours))


def _transformers(ours: nn.Module, case: Case, label_maps: Tensor) -> Head:
    """transformers' criterion with our decoders, without folding the last convolution.

    The decoders of transformers cannot use our weights: they do not normalise the states of the earlier layers.
    """
    maskformer = import_module('transformers.models.maskformer.modeling_maskformer')
    matcher = maskformer.MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    weights = {'loss_cross_entropy': 1.0, 'loss_mask': 20.0, 'loss_dice': 1.0}
    criterion = maskformer.MaskFormerLoss(case.classes, matcher, weights, eos_coef=0.1).to(label_maps.device)
    model = ours.classifier

    def losses(features: list[Tensor]) -> dict[str, Tensor]:
        criterion.to(features[0].dtype)
        pixels = model.pixel_decoder(features)
        states = torch.stack(model.transformer_decoder(pixels.memory))
        mask_logits = torch.einsum('lbqc,bchw->lbqhw', model.mask_embed(states), pixels.mask_features)
        layers = [
            {'masks_queries_logits': masks, 'class_queries_logits': classes}
            for masks, classes in zip(mask_logits, model.class_embed(states), strict=True)
        ]
        labels = [label_map.unique() for label_map in label_maps]
        labels = [of_image[of_image != IGNORED] for of_image in labels]
        masks = [
            (label_map == of_image[:, None, None]).to(mask_logits.dtype)
            for label_map, of_image in zip(label_maps, labels, strict=True)
        ]
        found = criterion(*layers[-1].values(), masks, labels, layers[:-1])
        return {_our_loss_name(key): weights[re.sub(r'_\d+$', '', key)] * value for key, value in found.items()}

    parameters = {name.removeprefix('classifier.'): p for name, p in ours.named_parameters()}
    return Head(model, losses, parameters)


def _our_loss_name(key: str) -> str:
    """Our name of a loss of transformers, such as ``d0.loss_cls`` for ``loss_cross_entropy_0``."""
    kind, layer = re.fullmatch(r'(loss_[a-z_]+?)(?:_(\d+))?', key).groups()
    kind = {'loss_cross_entropy': 'loss_cls'}.get(kind, kind)
    return kind if layer is None else f'd{layer}.{kind}'


def _seg_samples(label_maps: Tensor) -> list[SegDataSample]:
    size = tuple(label_maps.shape[1:])
    samples = []
    for label_map in label_maps:
        sample = SegDataSample(metainfo=dict(img_shape=size, pad_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=label_map[None])
        samples.append(sample)
    return samples


def _det_sample(label_map: Tensor) -> DetDataSample:
    size = tuple(label_map.shape)
    labels = label_map.unique()
    labels = labels[labels != IGNORED]
    masks = (label_map == labels[:, None, None]).cpu().numpy().astype(np.uint8)
    sample = DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size, pad_shape=size))
    sample.gt_instances = InstanceData(labels=labels, masks=BitmapMasks(masks, *size))
    return sample


def with_our_weights(peer: nn.Module, ours: nn.Module) -> dict[str, nn.Parameter]:
    """Copy the weights into the peer and return its parameters under our names."""
    theirs, own = dict(peer.named_parameters()), dict(ours.named_parameters())
    prefix = 'panoptic_head.'
    # Both hosts' heads have MMDetection's names. Ours has the same names in both.
    names = renamed([prefix + name for name in own], 'mmmaskformer-panoptic', 'mmdet')
    found = {}
    for name, value in own.items():
        parameter = theirs.pop(names[prefix + name].removeprefix(prefix))
        parameter.data.copy_(value.data)
        found[name.removeprefix('classifier.')] = parameter
    if theirs:
        raise RuntimeError(f'parameters of the peer without a counterpart: {sorted(theirs)}')
    return found


BUILDERS = {'ours': _ours, 'mmdet': _mmdet, 'mmseg': _mmseg, 'transformers': _transformers}


def our_config(case: Case) -> dict:
    """Our head without dropout, because random numbers would make the losses differ."""
    return dict(
        type='mmmaskformer.MaskFormerHead',
        in_channels=IN_CHANNELS,
        num_classes=case.classes,
        num_queries=case.queries,
        ignore_index=IGNORED,
        pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder'),
        transformer_decoder=dict(type='mmmaskformer.TransformerDecoder', num_layers=case.layers, dropout=0.0),
        matcher=dict(type='mmmaskformer.HungarianMatcher'),
        criterion=dict(type='mmmaskformer.SetCriterion'),
    )


def peer_config(case: Case, host: str, **settings) -> dict:
    """The host's configuration without dropout, because random numbers would make the losses differ."""
    attention = dict(embed_dims=256, num_heads=8, attn_drop=0.0, proj_drop=0.0, batch_first=True)
    costs = [
        dict(type='mmdet.ClassificationCost', weight=1.0),
        dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
        dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
    ]
    return mmengine.ConfigDict(
        type=f'{host}.MaskFormerHead',
        in_channels=list(IN_CHANNELS),
        feat_channels=256,
        out_channels=256,
        num_queries=case.queries,
        pixel_decoder=dict(type='mmdet.PixelDecoder'),
        positional_encoding=dict(num_feats=128, normalize=True),
        transformer_decoder=dict(
            num_layers=case.layers,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.0),
            ),
        ),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0] * case.classes + [0.1]),
        loss_mask=dict(type='mmdet.FocalLoss', loss_weight=20.0),
        loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0),
        train_cfg=dict(
            assigner=dict(type='mmdet.HungarianAssigner', match_costs=costs),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
        **settings,
    )
