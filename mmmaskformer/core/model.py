"""The whole model without a framework: backbone, network, losses and predictions."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import BOOLEAN, FRACTION, SIZE, Check, check_settings, list_of, refuse_unknown_keys, whole
from mmmaskformer.core.contracts import Matcher, PixelDecoder
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.modeling.fuse import run_fused
from mmmaskformer.core.modeling.mask_classifier import MaskClassifier
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder
from mmmaskformer.core.shapes import form_of, is_float
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Targets
from mmmaskformer.core.torch_versions import is_recorded
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher
from mmmaskformer.core.training.parts import MaskLoss

SETTINGS: dict[str, Check] = {
    'backbone': Check('a module', callable),
    **dict.fromkeys(('num_classes', 'num_queries', 'channels', 'decoder_layers', 'num_heads'), whole(1)),
    **dict.fromkeys(('ffn_channels', 'norm_groups'), whole(1)),
    'encoder_layers': whole(0),
    'dropout': FRACTION,
    **dict.fromkeys(('self_attention', 'deep_supervision'), BOOLEAN),
}
"""Declarations of the settings of `build_maskformer`."""


class MaskFormer(nn.Module):
    """A backbone, the network behind it and the criterion.

    Args:
        backbone: maps images (B, 3, H, W) to features (B, C_i, h_i, w_i), finest first.
        classifier: maps the features to predictions, see `core.contracts.Network`.
        criterion: maps predictions and targets to losses.
        deep_supervision: whether the predictions of all decoder layers are trained, as published, or those of the last
            one only.
    """

    def __init__(
        self, *, backbone: nn.Module, classifier: nn.Module, criterion: nn.Module, deep_supervision: bool = True
    ):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.criterion = criterion
        self.deep_supervision = deep_supervision

    def forward(self, images: Tensor, *, all_layers: bool = True) -> Sequence[MaskPrediction]:
        """Predict segments.

        Args:
            images: (B, 3, H, W) float, normalised as the backbone expects.
            all_layers: True for the predictions of all layers, False for the last one only.

        Returns:
            Predictions, the last one final.

        Raises:
            ValueError: if images are not (B, 3, H, W) float, or the features do not fit the network.
        """
        if not is_float(images) or images.ndim != 4 or (not is_recorded() and 0 in images.shape):
            raise ValueError(f'images are {form_of(images)}; expected (B, 3, H, W) float, B, H, W > 0')
        return self.classifier(self.backbone(images), all_layers=all_layers)

    def loss(self, images: Tensor, targets: Targets | Sequence[MaskTarget]) -> dict[str, Tensor]:
        """Losses of a training step; minimise their sum.

        Args:
            images: (B, 3, H, W) float, normalised as the backbone expects.
            targets: targets of the B images, at their size (H, W).

        Returns:
            Scalars, see `SetCriterion.forward`.
        """
        return self.criterion(self(images, all_layers=self.deep_supervision), targets)

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        out_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[tuple[Tensor, QueryMasks]]:
        """Class logits and masks of every image, for the functions of `core.inference`.

        In evaluation mode, faster layers are used; see `run_fused`.

        Args:
            images: (B, 3, H, W) float, normalised as the backbone expects.
            image_sizes: (height, width) of each image within its padding, which is at the right and bottom; (H, W) if
                None.
            out_sizes: (height, width) of each result; ``image_sizes`` if None.

        Returns:
            Per image class logits (Q, K + 1) and masks of the same Q queries.

        Raises:
            ValueError: if the number of sizes is not that of images, a size is not (height, width) or an image exceeds
                the input; or as in `forward`.
        """
        prediction = run_fused(self, images, all_layers=False)[-1]
        size = (images.shape[2], images.shape[3])
        given = dict(image_sizes=image_sizes, out_sizes=out_sizes)
        check_settings('predict', given, dict.fromkeys(given, list_of(SIZE).or_none()))
        image_sizes = [size] * len(images) if image_sizes is None else image_sizes
        out_sizes = image_sizes if out_sizes is None else out_sizes
        if not len(image_sizes) == len(out_sizes) == len(images):
            raise ValueError(
                f'found {len(image_sizes)} image_sizes and {len(out_sizes)} out_sizes for {len(images)} images; '
                'expected one each'
            )
        for image, (height, width) in enumerate(image_sizes):
            if height > size[0] or width > size[1]:
                raise ValueError(
                    f'image_sizes[{image}] is {(height, width)}; expected at most {size}, the size of the padded input'
                )
        return [
            (class_logits, QueryMasks(prediction.masks.of_image(image), size, image_size, out_size))
            for image, (class_logits, image_size, out_size) in enumerate(
                zip(prediction.class_logits, image_sizes, out_sizes, strict=True)
            )
        ]


def build_maskformer(
    *,
    backbone: nn.Module,
    in_channels: Sequence[int],
    num_classes: int,
    num_queries: int = 100,
    channels: int = 256,
    encoder_layers: int = 0,
    decoder_layers: int = 6,
    num_heads: int = 8,
    ffn_channels: int = 2048,
    dropout: float = 0.1,
    norm_groups: int = 32,
    self_attention: bool = True,
    deep_supervision: bool = True,
    matcher: Matcher | None = None,
    mask_loss: MaskLoss | None = None,
    loss_weights: dict[str, float] | None = None,
    **criterion: Any,
) -> MaskFormer:
    """Build a model; the defaults are the published ones for semantic segmentation.

    Args:
        backbone: maps images (B, 3, H, W) to features (B, C_i, h_i, w_i), finest first.
        in_channels: channels C_i of the features.
        num_classes: K, without "no object".
        num_queries: Q.
        channels: width of pixel decoder, transformer and mask embeddings.
        encoder_layers: layers of the transformer encoder in the pixel decoder; 6 for panoptic models, as published.
        decoder_layers: L.
        num_heads: attention heads; must divide ``channels``.
        ffn_channels: hidden width of the feed-forward parts.
        dropout: probability, in encoder and decoder.
        norm_groups: groups of every GroupNorm; must divide ``channels``.
        self_attention: see `TransformerDecoder`.
        deep_supervision: see `MaskFormer`.
        matcher: `HungarianMatcher`, as published, if None; `FixedMatcher` and `BoxMatcher` are others.
        mask_loss: see `SetCriterion`; the matcher's costs follow it.
        loss_weights: see `SetCriterion`; the matcher uses the same.
        criterion: other arguments of `SetCriterion`: class_weight, no_object_weight, ignore_in_loss and so on.

    Raises:
        TypeError: if an argument is unknown.
        ValueError: if a value is out of range, see the parts.
    """
    given = dict(
        backbone=backbone, num_classes=num_classes, num_queries=num_queries, channels=channels,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers, num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout,
        norm_groups=norm_groups, self_attention=self_attention, deep_supervision=deep_supervision,
    )  # fmt: skip
    check_settings('build_maskformer', given, SETTINGS)
    accepted = {name for part in (build_maskformer, SetCriterion) for name in inspect.signature(part).parameters}
    refuse_unknown_keys('build_maskformer', criterion, accepted - {'criterion'})
    shared: dict[str, Any] = dict(mask_loss=mask_loss, loss_weights=loss_weights)
    matcher = HungarianMatcher(**shared) if matcher is None else matcher
    losses = SetCriterion(num_classes=num_classes, matcher=matcher, **shared, **criterion)
    widths: dict[str, Any] = dict(channels=channels, mask_channels=channels)
    layers: dict[str, Any] = dict(num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout)
    pyramid: dict[str, Any] = dict(in_channels=in_channels, norm_groups=norm_groups, **widths)
    pixel_decoder: PixelDecoder
    if encoder_layers:
        pixel_decoder = TransformerEncoderPixelDecoder(num_layers=encoder_layers, **pyramid, **layers)
    else:
        pixel_decoder = FPNPixelDecoder(**pyramid)
    transformer_decoder = TransformerDecoder(
        in_channels=pixel_decoder.memory_channels,
        num_queries=num_queries,
        channels=channels,
        num_layers=decoder_layers,
        self_attention=self_attention,
        **layers,
    )
    classifier = MaskClassifier(
        pixel_decoder=pixel_decoder,
        transformer_decoder=transformer_decoder,
        num_classes=num_classes,
        with_boxes=losses.uses_boxes,
        **widths,
    )
    return MaskFormer(backbone=backbone, classifier=classifier, criterion=losses, deep_supervision=deep_supervision)
