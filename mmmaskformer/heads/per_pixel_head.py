"""The paper's per-pixel baselines as decode heads of MMSegmentation's stock `EncoderDecoder`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits
from mmmaskformer.core.inference.resize import resize
from mmmaskformer.core.part_outputs import check_pixel_layers
from mmmaskformer.core.structures import Targets
from mmmaskformer.formats.label_maps import require_ignore_index
from mmmaskformer.heads.base import FeatureHead
from mmmaskformer.heads.build import build_classifier, build_part, naming
from mmmaskformer.heads.data_samples import targets_from_seg_samples
from mmmaskformer.heads.settings import check_parts, check_segmentor_test_cfg

INFERENCE = ('semantic',)
"""Values of ``test_cfg.inference``: without segments there is no general inference."""


@checked(channels=whole(1), ignore_index=whole())
class PerPixelHead(FeatureHead):
    """PerPixelBaseline: the pixel decoder of MaskFormer and K logits per pixel.

    Args:
        num_classes: K.
        channels: width of pixel decoder and per-pixel embeddings.
        ignore_index: label of pixels without a class.
        pixel_decoder: config of the pixel decoder.
        transformer_decoder: config of the transformer decoder; of `PerPixelPlusHead` only.
        criterion: config of the criterion; `PixelCrossEntropy`, as published, if None.
        settings: all other arguments of `FeatureHead`.

    Raises:
        TypeError: if a key is unknown.
        ValueError: if a value is out of range.

    Source: paper, section 4 (baseline models); official code, PerPixelBaselineHead.
    """

    align_corners = False  # read by EncoderDecoder for its resize to the original size
    threshold = 1.0  # read by EncoderDecoder if K is 1: a sigmoid never exceeds it, so the only class wins
    network = 'mmmaskformer.PerPixelClassifier'
    class_layer = 'classifier.pixel_classifier'
    other_rows = 0
    has_class_logits = False

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 256,
        ignore_index: int = 255,
        pixel_decoder: dict,
        transformer_decoder: dict | None = None,
        criterion: dict | None = None,
        **settings,
    ):
        super().__init__(num_classes=num_classes, **settings)
        require_ignore_index(ignore_index)
        self.ignore_index = ignore_index
        criterion = {'type': 'mmmaskformer.PixelCrossEntropy'} if criterion is None else criterion
        parts = dict(pixel_decoder=pixel_decoder, transformer_decoder=transformer_decoder, criterion=criterion)
        check_parts(self.config_key, parts, channels=channels)
        derived = dict(num_classes=num_classes, num_queries=num_classes, channels=channels)
        self._classifier_settings = (pixel_decoder, transformer_decoder, derived)
        with naming(self.config_key):
            self.criterion = build_part('criterion', criterion, **derived)
        if self.in_channels is not None:
            self._build_classifier()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w) of the last layer, on the grid of the finest feature.

        Args:
            features: as the model's ``extract_feat`` returns them.

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``.
        """
        return self.classifier(self.prepare(features), all_layers=False)[-1].multiplied_out()

    def predict(self, features: Sequence[Tensor], metas: Sequence[dict], test_cfg: dict | None = None) -> Tensor:
        """Logits at the padded input size; the host crops and resizes them, as published.

        Args:
            features: as the model's ``extract_feat`` returns them.
            metas: meta information of the samples.
            test_cfg: the host's; ``mode`` is read.

        Returns:
            (B, K, H, W) float, before softmax.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or a
                value of ``test_cfg`` is invalid.
            TypeError: if ``test_cfg`` has an unknown key.
        """
        test_cfg = test_cfg or {}
        check_segmentor_test_cfg(test_cfg, inference=INFERENCE)
        masks, (height, width) = self._masks(features, metas, sliding=test_cfg.get('mode') == 'slide')
        images = range(len(masks))
        return torch.stack([resize(masks.coarse_logits(i), masks.input_size)[:, :height, :width] for i in images])

    def predict_masks(
        self, features: Sequence[Tensor], metas: Sequence[dict], *, sliding: bool
    ) -> tuple[None, DeferredMaskLogits]:
        """Outputs of the last layer, for callers that need labels only.

        Args:
            features: as the model's ``extract_feat`` returns them.
            metas: meta information of the samples.
            sliding: whether the batch is a window, whose size is then the first of ``metas``'s ``img_shape``.

        Returns:
            None, since the "masks" are those of the K classes, and their logits, not yet multiplied out.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or
                only some weights of the head were loaded.
            NonFiniteLogitsError: if logits are inf or NaN; names image and file.
        """
        return None, self._masks(features, metas, sliding=sliding)[0]

    def _masks(
        self, features: Sequence[Tensor], metas: Sequence[dict], *, sliding: bool
    ) -> tuple[DeferredMaskLogits, tuple[int, int]]:
        """Logits of the last layer and the size (H, W) of the input; see `predict_masks`.

        The published system up-samples by the stride of the features. If the stride does not divide the input size, the
        result is some pixels larger, and is cropped.
        """
        features, masks, check = self._infer(features, metas)
        check()
        size = self.feature_input.input_size(metas, features[0], self.config_key, sliding=sliding)
        cells = zip(size, features[0].shape[-2:], strict=True)
        height, width = (max(wanted, round(side * self.feature_strides[0])) for wanted, side in cells)
        return DeferredMaskLogits(masks, (height, width)), size

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        return targets_from_seg_samples(data_samples, num_classes=self.num_classes, ignore_index=self.ignore_index)

    def _check_network(self, predictions: Any, batch: int) -> None:
        check_pixel_layers(predictions, batch, self.num_classes)

    def _build_classifier(self) -> None:
        *decoders, derived = self._classifier_settings
        with naming(self.config_key):
            self.classifier = build_classifier(
                {'type': self.network}, *decoders, in_channels=self.in_channels, **derived
            )


class PerPixelPlusHead(PerPixelHead):
    """PerPixelBaseline+: the network of MaskFormer without class head; query k computes the logits of class k.

    Args:
        num_classes: K; also the number of queries.
        transformer_decoder: config of the transformer decoder.
        settings: all other arguments of `PerPixelHead` and `FeatureHead`.

    Source: paper, section 4 (baseline models); official code, PerPixelBaselinePlusHead.
    """

    network = 'mmmaskformer.PerPixelPlusClassifier'
    class_layer = 'classifier.transformer_decoder.query_embed'
