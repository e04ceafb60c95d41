"""Small models of every package with random weights in the true layout, and their checkpoints."""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.apis.model_configs import host_config
from mmmaskformer.apis.verifying import build
from mmmaskformer.checkpoints.convert import convert
from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.sizes import Architecture, Head, ResNet, Swin

import mmdet.models  # noqa: F401  # isort: skip
import mmseg.models  # noqa: F401  # isort: skip

CLASSES = ('wall', 'person', 'sky', 'car', 'tree')
THINGS = [False, True, False, True, False]
SETTINGS = Settings(num_heads=4, classes=CLASSES, dataset_meta={'isthing': THINGS})
NETS = {
    'resnet': ResNet((2, 2, 2, 2), 4, False, (8,)),
    'deeplab': ResNet((2, 2, 2, 2), 4, False, (4, 4, 8)),
    'resnext': ResNet((3, 4, 6, 3), 8, True, (8,), inner=16, groups=4),
    'swin': Swin(8, (2, 2, 2, 2), (1, 2, 2, 4), 4, 4, 2.0),
}
ENDINGS = {'official': '.pkl', 'transformers': ''}


def architecture(net: str = 'resnet', *, encoder: bool = False, classes: int = 5, kind: str = 'mask') -> Architecture:
    """A toy architecture, 32 channels wide, since every norm of transformers has 32 groups."""
    widths = NETS[net].widths
    decoder = kind != 'per pixel'
    head = Head(
        num_classes=classes,
        num_queries={'mask': 7, 'per pixel': 0}.get(kind, classes),
        channels=32,
        widths=widths,
        decoder_layers=2 if decoder else 0,
        ffn_channels=24 if decoder else 0,
        encoder_layers=1 if encoder else 0,
        encoder_ffn_channels=16 if encoder else 0,
        projects_memory=decoder and not encoder and widths[-1] != 32,
        kind=kind,
    )
    return Architecture(head, NETS[net])


def host_model(package: str, net: str = 'resnet', *, encoder: bool = False, settings: Settings = SETTINGS) -> nn.Module:
    """A host's own MaskFormer, 'mmseg' or 'mmdet', with random values in all parameters and statistics."""
    model = build(host_config(package, architecture(net, encoder=encoder), settings))
    torch.manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_(std=0.2).abs_().add_(0.1) if value.dim() == 1 else value.normal_(std=0.2)
    return model


def weights_of(package: str, net: str = 'resnet', *, encoder: bool = False) -> dict[str, Tensor]:
    """Weights of a model of any package: those of a host come from its own model, others are converted from these."""
    host = package if package in ('mmseg', 'mmdet') else 'mmdet'
    state = host_model(host, net, encoder=encoder).state_dict()
    return dict(state) if package == host else convert(state, host, package).weights


def write_official(path: Path, weights: dict[str, Tensor], **more) -> Path:
    """A file in the form in which detectron2 releases weights."""
    model = {name: value.numpy() for name, value in weights.items()}
    path.write_bytes(pickle.dumps({'model': model, '__author__': 'someone', **more}, protocol=2))
    return path
