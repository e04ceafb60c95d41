"""Toy models that export in seconds, and their files."""

import torch
from torch import Tensor, nn

from helpers.hosts import make_detector, make_segmentor

SETTINGS = dict(object_threshold=0.21, overlap_threshold=0.05)
"""Low, so that an untrained model finds segments."""


class StridedConvs(nn.Module):
    """Features of strides 4, 8, 16 and 32; a ResNet has ten times as many operations to export."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.convs = nn.ModuleList(nn.Conv2d(width, 2 * width, 3, 2, 1) for width in (4, 8, 16))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for conv in self.convs:
            features.append(conv(features[-1].relu()))
        return features


class AddQueries(nn.Module):
    """Make the queries differ; those of an untrained decoder hardly do."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.norm = decoder.norm
        self.query_embed = decoder.query_embed

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + self.query_embed.weight


def small_detector(test_cfg: dict | None = None):
    """A detector with a backbone of four convolutions; its class scores are spread, so that segments are found."""
    decoder = dict(type='mmmaskformer.TransformerDecoder', num_layers=1, num_heads=4, ffn_channels=24, dropout=0.0)
    model = make_detector(test_cfg or dict(panoptic=SETTINGS), transformer_decoder=decoder)
    return _with_small_backbone(model, model.panoptic_head)


def small_segmentor(test_cfg: dict | None = None):
    """The semantic counterpart of `small_detector`."""
    model = make_segmentor(test_cfg=test_cfg)
    return _with_small_backbone(model, model.decode_head)


def _with_small_backbone(model: nn.Module, head: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model.backbone = StridedConvs()
    decoder = head.classifier.transformer_decoder
    decoder.norm = AddQueries(decoder)
    nn.init.normal_(head.classifier.class_embed.weight, std=0.6)
    for layer in head.classifier.mask_embed.layers:
        layer.weight.data *= 3
    return model.eval()
