"""Mask classification behind the features of a host's model: network, losses and outputs of the last layer."""

from collections.abc import Callable, Sequence

import torch
from mmengine.logging import MessageHub
from torch import Tensor

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskPrediction, Targets
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.heads.base import FeatureHead
from mmmaskformer.heads.build import build_classifier, build_criterion
from mmmaskformer.heads.finite import begin_finite_check, file_of
from mmmaskformer.heads.settings import check_parts


@checked(num_queries=whole(1), channels=whole(1))
class MaskClassificationHead(FeatureHead):
    """Base of the heads of both hosts, which differ in data samples and in what their hosts call.

    Class count and widths are written here once; the parts get them from the head and refuse them in their own configs.

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
        TypeError: if a key is not known.
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
        self._classifier_settings = (classifier, pixel_decoder, transformer_decoder, derived)
        if self.in_channels is not None:
            self._build_classifier()
        self.criterion = build_criterion(matcher, criterion, **derived)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Raw outputs of the last layer.

        Args:
            features: as the model's ``extract_feat`` gives them.

        Returns:
            Class logits (B, Q, K + 1) and mask logits (B, Q, h, w).

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``.
        """
        prediction = self.classifier(self.prepare(features), all_layers=False)[-1]
        images = range(len(prediction.class_logits))
        return prediction.class_logits, torch.stack([prediction.mask_logits(image) for image in images])

    def loss(self, features: Sequence[Tensor], data_samples: Sequence, train_cfg: dict | None = None) -> dict:
        """Training losses of a batch.

        Args:
            features: as the model's ``extract_feat`` gives them.
            data_samples: B samples with ground truth at the padded input size.
            train_cfg: not used; part of the signature of MMSegmentation.

        Returns:
            Scalars, see `SetCriterion.forward`.

        Raises:
            ValueError: if features or labels do not fit the head.
            NonFiniteLogitsError: if logits are inf or NaN, naming layer and iteration.
        """
        self._absent = None
        features = self.prepare(features)
        predictions = self.classifier(features, all_layers=True)
        targets = self._targets(features, data_samples)
        self.feature_input.require_stride(features[0], [targets.size], self.config_key)
        try:
            return self.criterion(predictions, targets)
        except NonFiniteLogitsError as error:
            iteration = MessageHub.get_current_instance().get_info('iter', 0)
            metas = [sample.metainfo for sample in data_samples]
            files = ', '.join(f'{image}: {file_of(metas, image)}' for image in range(len(metas)))
            raise NonFiniteLogitsError(f'iteration {iteration + 1}, {error} Images of the batch: {files}') from None

    def name_classes(self, names: Sequence[str]) -> None:
        """Tell the criterion the class names (K,), for weights that are given by name; see `SetCriterion`."""
        if isinstance(self.criterion, SetCriterion):
            self.criterion.name_classes(names)

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        """The segments of the samples, at the padded input size."""
        raise NotImplementedError

    def _build_classifier(self) -> None:
        *configs, derived = self._classifier_settings
        self.classifier = build_classifier(*configs, in_channels=self.in_channels, **derived)

    def _infer(
        self, features: Sequence[Tensor], metas: Sequence[dict]
    ) -> tuple[list[Tensor], MaskPrediction, Callable[[], None]]:
        """Prepared features, what the last layer makes of them, and what ends the check that it is finite.

        On a CPU, the check has ended; see `MaskFormerHead.predict_masks` for errors. In evaluation mode
        `fuse_for_inference` is called first.
        """
        self._require_all_weights()
        features = self.prepare(features)
        if not self.classifier.training:
            fuse_for_inference(self.classifier)
        prediction = self.classifier(features, all_layers=False)[-1]
        check = begin_finite_check(prediction, metas)
        if not prediction.class_logits.is_cuda:
            check()
        return features, prediction, check
