"""Conversion of backbone weights to the names of MMSegmentation, which MMDetection shares."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.checkpoints.backbone_maps import BACKBONES, kind_of_backbone
from mmmaskformer.checkpoints.layouts import describe_layout, package_of
from mmmaskformer.checkpoints.neutral import ConversionError, read_backbone
from mmmaskformer.checkpoints.sizes import ResNet
from mmmaskformer.checkpoints.vit import read_vit

PREFIX = 'backbone.'
NORM_REASON = 'an output norm, which a classifier does not have: initialised with ones and zeros, as for training'
CAFFE2 = 'res2_0_branch2a_w'


class BackboneConversion(NamedTuple):
    """Weights of a backbone.

    Attributes:
        weights: float32 tensors by their names in the hosts' backbone.
        dropped: names in the source that were not used, each with the reason.
        made: names in the target that have no weight in the source, each with the reason.
        title: what the source is, in words.
        backbone: the architecture, in words.
    """

    weights: dict[str, Tensor]
    dropped: dict[str, str]
    made: dict[str, str]
    title: str
    backbone: str


def convert_backbone_weights(weights: Mapping[str, Tensor]) -> BackboneConversion:
    """Rename the weights of a backbone of detectron2, torchvision, timm, Swin's authors or DINOv2.

    Args:
        weights: weights by name in the source, with or without the prefix ``backbone.``.

    Raises:
        ConversionError: if it is none of these, or incomplete.
    """
    if package_of(weights) is not None:
        raise ConversionError(
            f'{describe_layout(weights)[0]}, which is a whole model; expected only a backbone. Fix: '
            "init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.') reads it from a file of the hosts or "
            'of this package; mmmaskformer convert converts other files'
        )
    bare = {name.removeprefix('module.').removeprefix(PREFIX): value for name, value in weights.items()}
    kind = kind_of_backbone(bare)
    if kind is None:
        raise ConversionError(_what_it_is(bare))
    names = BACKBONES[kind]
    made: dict[str, str] = {}
    if kind == 'vit':
        found, dropped, backbone = read_vit(bare, names)
    else:
        added = _output_norms(bare) if 'swin' in kind else {}
        made = dict.fromkeys(added, NORM_REASON)
        found, dropped, measured = read_backbone(bare | added, names)
        if isinstance(measured, ResNet) and measured.inner and measured.groups == 1:
            raise ConversionError(f'it is a {measured.describe()}, which neither host has. Fix: use another backbone')
        backbone = measured.describe()
    converted = {
        name.removeprefix(PREFIX): (value.float() if value.is_floating_point() else value).contiguous().clone()
        for name, value in found.items()
    }
    return BackboneConversion(converted, dropped, made, names.title, backbone)


def is_unreadable_for_hosts(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a bare ResNet of detectron2, whose names no backbone of the hosts has.

    Other files are not changed: the hosts have switches of their own for some of them.
    """
    bare = [name.removeprefix(PREFIX) for name in weights]
    return kind_of_backbone(bare) == 'detectron2' and all(re.match(r'(stem|res\d|linear)\.', name) for name in bare)


def _output_norms(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output norms, by their names in the source, which the hosts' Swin has and a classifier does not have."""
    width = next(
        value.shape[0]
        for name, value in weights.items()
        if name in ('patch_embed.proj.weight', 'features.0.0.weight') and value.dim() == 4
    )
    norms = {}
    for stage in range(4):
        for name, value in (('weight', torch.ones), ('bias', torch.zeros)):
            norms[f'norm{stage}.{name}'] = value(width * 2**stage)
    return {name: value for name, value in norms.items() if name not in weights}


def _what_it_is(names: Mapping[str, Tensor]) -> str:
    if CAFFE2 in names:
        return (
            'it is a ResNet of Caffe2, which expects BGR images with a standard deviation of 1 and has its strides in '
            "other layers. Fix: use the ResNet of detectron2's ImageNetPretrained/torchvision or DeepLab; for this one "
            "OpenMMLab has open-mmlab://detectron2/resnet50_caffe, with style='caffe'"
        )
    what, _ = describe_layout(names)
    kinds = ', '.join(table.title for table in BACKBONES.values())
    return f'{what}; expected {kinds}. Fix: use such a file'
