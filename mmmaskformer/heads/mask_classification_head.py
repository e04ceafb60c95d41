"""Mask classification for the features of a host's model: network, losses and outputs of the last layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.part_outputs import check_network
from mmmaskformer.heads.base import FeatureHead
from mmmaskformer.heads.build import build_classifier, build_criterion, naming
from mmmaskformer.heads.settings import check_parts


@checked(num_queries=whole(1), channels=whole(1))
class MaskClassificationHead(FeatureHead):
    """Base of the heads of both hosts, which differ in data samples and in the methods that their hosts call.

    Class count and widths are set here once; the parts receive them from the head and refuse them in their own configs.

    Args:
        num_classes: K, without "no object".
        num_queries: Q.
        channels: width of pixel decoder, transformer decoder and mask embeddings.
        classifier: config of the whole network behind the backbone; `MaskClassifier` if None.
        pixel_decoder: config of the pixel decoder, None for a network without one.
        transformer_decoder: config of the transformer decoder, None for a network without one.
        matcher: config of the matcher.
        criterion: config of the criterion.
        settings: all other arguments of `FeatureHead`.

    Raises:
        TypeError: if a key is unknown.
        ValueError: if a value is out of range.

    Source: paper, section 3; official code, MaskFormerHead and MaskFormer.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_queries: int = 100,
        channels: int = 256,
        classifier: dict | None = None,
        pixel_decoder: dict | None = None,
        transformer_decoder: dict | None = None,
        matcher: dict,
        criterion: dict,
        **settings,
    ):
        super().__init__(num_classes=num_classes, **settings)
        parts = dict(
            classifier=classifier,
            pixel_decoder=pixel_decoder,
            transformer_decoder=transformer_decoder,
            matcher=matcher,
            criterion=criterion,
        )
        check_parts(self.config_key, parts, channels=channels)
        derived = dict(num_classes=num_classes, num_queries=num_queries, channels=channels)
        with naming(self.config_key):
            self.criterion = build_criterion(matcher, criterion, **derived)
        derived['with_boxes'] = getattr(self.criterion, 'uses_boxes', False)
        self._classifier_settings = (classifier, pixel_decoder, transformer_decoder, derived)
        if self.in_channels is not None:
            self._build_classifier()

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Raw outputs of the last layer.

        Args:
            features: as the model's ``extract_feat`` returns them.

        Returns:
            Class logits (B, Q, K + 1) and mask logits (B, Q, h, w).

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``.
        """
        prediction = self.classifier(self.prepare(features), all_layers=False)[-1]
        images = range(len(prediction.class_logits))
        return prediction.class_logits, torch.stack([prediction.mask_logits(image) for image in images])

    def _check_network(self, predictions: Any, batch: int) -> None:
        check_network(self.classifier, predictions, batch, self.num_classes)

    def _build_classifier(self) -> None:
        *configs, derived = self._classifier_settings
        with naming(self.config_key):
            self.classifier = build_classifier(*configs, in_channels=self.in_channels, **derived)
