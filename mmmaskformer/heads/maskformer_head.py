"""MaskFormer as a decode head of MMSegmentation's stock `EncoderDecoder`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits
from mmmaskformer.core.inference.resize import resize
from mmmaskformer.core.inference.semantic import general_scores, scores_at_input
from mmmaskformer.core.structures import Targets
from mmmaskformer.formats.label_maps import require_ignore_index
from mmmaskformer.heads.data_samples import targets_from_seg_samples
from mmmaskformer.heads.mask_classification_head import MaskClassificationHead
from mmmaskformer.heads.settings import check_segmentor_test_cfg


@checked(ignore_index=whole())
class MaskFormerHead(MaskClassificationHead):
    """Mask classification for semantic segmentation.

    Args:
        ignore_index: label of pixels without a class.
        settings: all arguments of `MaskClassificationHead` and `FeatureHead`: class count, widths, the configs of the
            parts, the features.

    Raises:
        TypeError: if a key is unknown.
        ValueError: if a value is out of range.

    Source: paper, section 3; official code, MaskFormerHead and MaskFormer.
    """

    align_corners = False  # read by EncoderDecoder for its resize to the original size
    threshold = 1.0  # read by EncoderDecoder if K is 1: a sigmoid never exceeds it, so the only class wins

    def __init__(self, *, ignore_index: int = 255, **settings):
        super().__init__(**settings)
        require_ignore_index(ignore_index)
        self.ignore_index = ignore_index

    def predict(self, features: Sequence[Tensor], metas: Sequence[dict], test_cfg: dict | None = None) -> Tensor:
        """Class scores at the padded input size; the host crops and resizes them, as published.

        Args:
            features: as the model's ``extract_feat`` returns them.
            metas: meta information of the samples.
            test_cfg: the host's. It reads ``mode`` and two further keys: ``inference``, 'semantic' (the default) or
                'general', the two strategies of the paper's section 3.3, and ``object_threshold`` of the latter.

        Returns:
            (B, K, H, W) float scores, at least 0, not normalised.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or a
                value of ``test_cfg`` is invalid.
            TypeError: if ``test_cfg`` has an unknown key.
        """
        test_cfg = test_cfg or {}
        check_segmentor_test_cfg(test_cfg)
        class_logits, masks = self.predict_masks(features, metas, sliding=test_cfg.get('mode') == 'slide')
        scores = [
            _scores(class_logits[image], masks.coarse_logits(image), masks.input_size, test_cfg)
            for image in range(len(masks))
        ]
        return torch.stack(scores)

    def predict_masks(
        self, features: Sequence[Tensor], metas: Sequence[dict], *, sliding: bool
    ) -> tuple[Tensor, DeferredMaskLogits]:
        """Outputs of the last layer, for callers that need labels only.

        Args:
            features: as the model's ``extract_feat`` returns them.
            metas: meta information of the samples.
            sliding: whether the batch is a window, whose size is then the first of ``metas``'s ``img_shape``.

        Returns:
            Class logits (B, Q, K + 1), and the mask logits of the batch, not yet multiplied out.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or
                only some weights of the head were loaded.
            NonFiniteLogitsError: if logits are inf or NaN; names image and file.
        """
        features, prediction, check = self._infer(features, metas)
        check()
        size = self.feature_input.input_size(metas, features[0], self.config_key, sliding=sliding)
        return prediction.class_logits, DeferredMaskLogits(prediction.masks, size)

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        return targets_from_seg_samples(data_samples, num_classes=self.num_classes, ignore_index=self.ignore_index)


def _scores(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], test_cfg: dict) -> Tensor:
    """Class scores (K, H, W) of one image at the padded input size."""
    if test_cfg.get('inference', 'semantic') == 'semantic':
        return scores_at_input(class_logits, mask_logits, size)
    return general_scores(class_logits, resize(mask_logits, size), test_cfg.get('object_threshold', 0.3))
