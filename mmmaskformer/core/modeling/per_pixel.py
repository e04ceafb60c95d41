"""The paper's per-pixel baselines: the same networks, with one map of logits per class instead of queries with a class.

Both return `Masks` of K "queries": the mask logits of query k are the logits of class k at every pixel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.contracts import PixelDecoder, TransformerDecoder
from mmmaskformer.core.folding import LastConv, can_fold
from mmmaskformer.core.masks import Masks, Plain
from mmmaskformer.core.modeling.layers import MLP
from mmmaskformer.core.part_outputs import batch_of, check_pixels, checked_states, output_width_of, width_of


@checked(num_classes=whole(1), mask_channels=whole(1))
class PerPixelClassifier(nn.Module):
    """PerPixelBaseline: the pixel decoder and a 1x1 convolution to K logits per pixel.

    Args:
        pixel_decoder: maps the features to a `PixelDecoderOutput`; its memory is not used.
        num_classes: K.
        mask_channels: width C of the per-pixel embeddings.

    Source: paper, section 4 (baseline models); official code, PerPixelBaselineHead.
    """

    def __init__(self, *, pixel_decoder: PixelDecoder, num_classes: int, mask_channels: int = 256):
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.pixel_classifier = nn.Conv2d(mask_channels, num_classes, 1)
        nn.init.kaiming_normal_(self.pixel_classifier.weight, mode='fan_out', nonlinearity='relu')
        assert self.pixel_classifier.bias is not None
        nn.init.zeros_(self.pixel_classifier.bias)

    def forward(self, features: Sequence[Tensor], *, all_layers: bool) -> list[Masks]:
        """Classify pixels.

        Args:
            features: backbone features (B, C_i, h_i, w_i), finest first.
            all_layers: ignored, since there is only one layer.

        Returns:
            One `Plain` of the logits (B, K, h, w).
        """
        pixels, conv = self.pixel_decoder(features), self.pixel_classifier
        check_pixels(self.pixel_decoder, pixels, batch_of(features), mask_channels=width_of(conv), uses_memory=False)
        found = pixels.mask_features
        if not isinstance(found, LastConv):
            return [Plain(conv(found))]
        if not can_fold(conv):
            return [Plain(conv(found.mask_features()))]
        assert conv.bias is not None, '`can_fold` requires a bias'
        # Fused: two consecutive convolutions become one, with K kernels instead of C.
        logits = [found.of_image(image).mask_logits(conv.weight.flatten(1)) for image in range(len(found.x))]
        return [Plain(torch.stack(logits) + conv.bias[:, None, None])]


@checked(channels=whole(1), mask_channels=whole(1))
class PerPixelPlusClassifier(nn.Module):
    """PerPixelBaseline+: MaskFormer without its class head; query k computes the logits of class k.

    Args:
        pixel_decoder: maps the features to a `PixelDecoderOutput`.
        transformer_decoder: maps the memory to L states (B, K, channels); it has K queries.
        channels: width of the decoder states.
        mask_channels: width C of the per-pixel embeddings.

    Source: paper, section 4 (baseline models); official code, PerPixelBaselinePlusHead.
    """

    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        transformer_decoder: TransformerDecoder,
        channels: int = 256,
        mask_channels: int = 256,
    ):
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        self.mask_embed = MLP(channels, channels, mask_channels, 3)

    def forward(self, features: Sequence[Tensor], *, all_layers: bool) -> list[Masks]:
        """Classify pixels.

        Args:
            features: backbone features (B, C_i, h_i, w_i), finest first.
            all_layers: True for the logits of all L layers (training), False for those of the last one only.

        Returns:
            Logits (B, K, h, w) of each layer as masks of K queries, the last one final.
        """
        # The logits of all K classes of all layers are needed, so the backward pass through the mask features, once for
        # all layers, is cheaper than through the folded convolution of each layer.
        pixels, batch = self.pixel_decoder(features), batch_of(features)
        mask_channels = output_width_of(self.mask_embed)
        check_pixels(self.pixel_decoder, pixels, batch, mask_channels=mask_channels)
        pixels = pixels._replace(made_by=None)
        states = self.transformer_decoder(pixels.memory)
        states = checked_states(self.transformer_decoder, states, batch, self.mask_embed)
        if not all_layers:
            states = states[-1:]
        return [pixels.masks(self.mask_embed(state)) for state in states]
