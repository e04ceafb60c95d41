"""MaskFormer as the panoptic head of MMDetection's stock `MaskFormer` detector."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import MAPPING, checked, whole
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits
from mmmaskformer.core.structures import Targets
from mmmaskformer.heads.data_samples import targets_from_det_samples
from mmmaskformer.heads.mask_classification_head import MaskClassificationHead

STOCK_COUNTS = ('num_things_classes', 'num_stuff_classes')
"""The attribute by which MMDetection's heads distinguish things from stuff."""


@checked(train_cfg=MAPPING.or_none(), test_cfg=MAPPING.or_none())
class MaskFormerPanopticHead(MaskClassificationHead):
    """Mask classification for panoptic and instance segmentation.

    Args:
        num_classes: K, things and stuff together, without "no object".
        things: labels of the thing classes, in any order; they need not come first. The others are stuff.
        train_cfg: the detector's; must be empty.
        test_cfg: the detector's; read by `MaskFormerFusionHead` only.
        settings: all other arguments of `MaskClassificationHead` and `FeatureHead`.

    Raises:
        TypeError: if a key is unknown.
        ValueError: if a value is out of range.

    Source: paper, sections 3.2 and 4.2; official code, MaskFormer with PANOPTIC_ON.
    """

    config_key = 'model.panoptic_head'

    def __init__(
        self,
        *,
        num_classes: int,
        things: Sequence[int],
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **settings,
    ):
        if train_cfg:
            raise ValueError(
                f'model.train_cfg holds {sorted(train_cfg)}; expected nothing: matcher and criterion belong to '
                f'{self.config_key}. Fix: remove train_cfg'
            )
        super().__init__(num_classes=num_classes, **settings)
        # Not stored in checkpoints, since it follows from the config.
        self.register_buffer('is_thing', thing_mask(num_classes, things, self.config_key), persistent=False)
        self.num_things_classes = int(self.is_thing.sum())
        self.num_stuff_classes = num_classes - self.num_things_classes

    def forward(self, features: Sequence[Tensor], data_samples: Sequence | None = None) -> tuple[Tensor, Tensor]:
        """See `MaskClassificationHead.forward`; the detector passes the samples as well."""
        return super().forward(features)

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], data_samples: Sequence) -> tuple[Tensor, DeferredMaskLogits]:
        """Outputs of the last layer for the fusion head, without gradient.

        Args:
            features: as the model's ``extract_feat`` returns them.
            data_samples: B samples with ``batch_input_shape``, as set by MMDetection's data preprocessor.

        Returns:
            Class logits (B, Q, K + 1), and the mask logits of the batch, not yet multiplied out.

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``, or only some weights of the
                head were loaded.
            NonFiniteLogitsError: if logits are inf or NaN; names image and file. On a GPU it is raised later: when the
                mask logits are used, or when our fusion head has its results.
        """
        features, prediction, check = self._infer(features, [sample.metainfo for sample in data_samples])
        size = tuple(data_samples[0].metainfo['batch_input_shape'])
        self.feature_input.require_stride(features[0], [size], self.config_key)
        return prediction.class_logits, DeferredMaskLogits(prediction.masks, size, check)

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        size = tuple(data_samples[0].metainfo['batch_input_shape'])
        return targets_from_det_samples(
            data_samples, is_thing=self.is_thing, input_size=size, device=features[0].device
        )


def thing_mask(num_classes: int, things: Sequence[int], where: str) -> Tensor:
    """Which classes are things.

    Args:
        num_classes: K.
        things: labels of the thing classes.
        where: config key of the caller, for the message.

    Returns:
        (K,) bool.

    Raises:
        ValueError: if a label is out of range or occurs twice.
    """
    labels = whole(0, num_classes - 1)
    things = things if isinstance(things, str | bytes) or not isinstance(things, Iterable) else list(things)
    if not isinstance(things, list) or not all(map(labels.accepts, things)) or len(set(things)) != len(things):
        raise ValueError(
            f'{where}.things={things} must be different labels from 0 to {num_classes - 1}, since num_classes is '
            f'{num_classes}. Fix: correct num_classes, or list the labels of the classes with separate instances'
        )
    mask = torch.zeros(num_classes, dtype=torch.bool)
    mask[things] = True
    return mask


def thing_flags(head: nn.Module | None) -> Tensor | None:
    """Which classes are things for a head of either package.

    Args:
        head: ours, with ``is_thing``, or one of MMDetection, which has a number of thing classes that come first.

    Returns:
        (K,) bool; None if the head has neither.
    """
    is_thing = getattr(head, 'is_thing', None)
    if is_thing is None and None not in (counts := [getattr(head, key, None) for key in STOCK_COUNTS]):
        is_thing = torch.arange(sum(counts)) < counts[0]
    return is_thing
