"""The whole mask classification model after the backbone."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmmaskformer.core.checks import BOOLEAN, checked, whole
from mmmaskformer.core.contracts import PixelDecoder, TransformerDecoder
from mmmaskformer.core.modeling.layers import MLP
from mmmaskformer.core.part_outputs import batch_of, check_pixels, checked_states, output_width_of
from mmmaskformer.core.structures import MaskPrediction


@checked(num_classes=whole(1), channels=whole(1), mask_channels=whole(1), with_boxes=BOOLEAN)
class MaskClassifier(nn.Module):
    """Pixel decoder and transformer decoder joined by the class head and the mask embedding head.

    Args:
        pixel_decoder: maps the features to a `PixelDecoderOutput`.
        transformer_decoder: maps the memory to L states (B, Q, channels).
        num_classes: K; the class head has one more output, "no object", at index K.
        channels: width of the decoder states.
        mask_channels: width C of the per-pixel embeddings.
        with_boxes: also predict boxes, as in DETR, for matching by boxes; a head derives it from the criterion.

    Source: paper, section 3.4 and figure 2; official code, MaskFormerHead and TransformerPredictor. Box head: paper,
    section 4.3; DETR.
    """

    def __init__(
        self,
        *,
        pixel_decoder: PixelDecoder,
        transformer_decoder: TransformerDecoder,
        num_classes: int,
        channels: int = 256,
        mask_channels: int = 256,
        with_boxes: bool = False,
    ):
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        self.class_embed = nn.Linear(channels, num_classes + 1)
        self.mask_embed = MLP(channels, channels, mask_channels, 3)
        self.box_embed = MLP(channels, channels, 4, 3) if with_boxes else None

    def forward(self, features: Sequence[Tensor], *, all_layers: bool) -> list[MaskPrediction]:
        """Predict segments.

        Args:
            features: backbone features (B, C_i, h_i, w_i), finest first.
            all_layers: True for the predictions of all L layers (training), False for the last one only, which then is
                the only one on which the heads run.

        Returns:
            Predictions, the last one final. They share the tensor of mask features.

        Raises:
            TypeError: if the pixel decoder returns anything other than a `PixelDecoderOutput`, or the transformer
                decoder anything other than a sequence.
            ValueError: if a tensor that they return has another shape, or is not float.
        """
        pixels, batch = self.pixel_decoder(features), batch_of(features)
        mask_channels = output_width_of(self.mask_embed)
        check_pixels(self.pixel_decoder, pixels, batch, mask_channels=mask_channels)
        states = self.transformer_decoder(pixels.memory)
        states = checked_states(self.transformer_decoder, states, batch, self.class_embed)
        if not all_layers:
            states = states[-1:]
        return [
            MaskPrediction(
                self.class_embed(state),
                pixels.masks(self.mask_embed(state)),
                None if self.box_embed is None else self.box_embed(state).sigmoid(),
            )
            for state in states
        ]
