"""Small models and inputs, cheap enough for every test."""

import torch
from torch import Tensor

from mmmaskformer.core.masks import Product
from mmmaskformer.core.modeling.mask_classifier import MaskClassifier
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder
from mmmaskformer.core.structures import IGNORED, NO_SEGMENT, MaskPrediction, MaskTarget
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher

IN_CHANNELS = (8, 12, 16, 20)
STRIDES = (4, 8, 16, 32)


def make_classifier(
    num_classes: int = 5,
    *,
    num_queries: int = 7,
    channels: int = 16,
    num_layers: int = 2,
    in_channels=IN_CHANNELS,
    norm_groups: int = 4,
    num_heads: int = 4,
    ffn_channels: int = 24,
    dropout: float = 0.0,
    encoder_layers: int = 0,
) -> MaskClassifier:
    """A `MaskClassifier` of toy width; a panoptic one with ``encoder_layers``."""
    pyramid = dict(in_channels=in_channels, channels=channels, mask_channels=channels, norm_groups=norm_groups)
    if encoder_layers:
        encoder = dict(num_layers=encoder_layers, num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout)
        pixel_decoder = TransformerEncoderPixelDecoder(**pyramid, **encoder)
    else:
        pixel_decoder = FPNPixelDecoder(**pyramid)
    transformer_decoder = TransformerDecoder(
        in_channels=pixel_decoder.memory_channels,
        num_queries=num_queries,
        channels=channels,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn_channels=ffn_channels,
        dropout=dropout,
    )
    return MaskClassifier(
        pixel_decoder=pixel_decoder,
        transformer_decoder=transformer_decoder,
        num_classes=num_classes,
        channels=channels,
        mask_channels=channels,
    )


def make_criterion(num_classes: int = 5, **settings) -> SetCriterion:
    """The published criterion for ``num_classes``."""
    return SetCriterion(num_classes=num_classes, matcher=HungarianMatcher(), **settings)


def make_features(
    size: tuple[int, int] = (64, 96), *, batch: int = 2, in_channels=IN_CHANNELS, strides=STRIDES, seed: int = 0
) -> list[Tensor]:
    """Noise shaped like backbone features of an image of that size."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, channels, -(-size[0] // stride), -(-size[1] // stride), generator=generator)
        for channels, stride in zip(in_channels, strides, strict=True)
    ]


def make_predictions(
    num_classes: int = 5,
    *,
    num_queries: int = 7,
    num_layers: int = 2,
    batch: int = 2,
    channels: int = 6,
    size: tuple[int, int] = (8, 12),
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> list[MaskPrediction]:
    """Random predictions of several layers that share their mask features; leaf tensors that require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    features = leaf(batch, channels, *size)
    return [
        MaskPrediction(leaf(batch, num_queries, num_classes + 1), Product(leaf(batch, num_queries, channels), features))
        for _ in range(num_layers)
    ]


def make_target(
    num_segments: int, size: tuple[int, int] = (32, 48), *, num_classes: int = 5, seed: int = 0, ignored: bool = False
) -> MaskTarget:
    """Disjoint random segments; some pixels belong to no segment, and some may be ignored."""
    generator = torch.Generator().manual_seed(seed)
    lowest = IGNORED if ignored else NO_SEGMENT
    coarse = torch.randint(lowest, max(num_segments, 0), (-(-size[0] // 8), -(-size[1] // 8)), generator=generator)
    segment_map = coarse.repeat_interleave(8, 0).repeat_interleave(8, 1)[: size[0], : size[1]].to(torch.int16)
    labels = torch.randint(0, num_classes, (num_segments,), generator=generator)
    return MaskTarget(labels, segment_map=segment_map)


def as_masks(target: MaskTarget) -> MaskTarget:
    """The same segments in the form that allows overlaps."""
    masks = target.masks_of(torch.arange(target.num_segments))
    return MaskTarget(target.labels, masks=masks, ignored=target.ignored_pixels())
