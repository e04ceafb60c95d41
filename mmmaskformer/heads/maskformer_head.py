"""MaskFormer as a decode head of MMSegmentation's stock `EncoderDecoder`."""

import inspect
import logging
from collections.abc import Sequence
from numbers import Real

import torch
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmaskformer import compat
from mmmaskformer.core.checks import MAPPING, checked, list_of, number, one_of, whole
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, resize
from mmmaskformer.core.inference.semantic import general_scores, scores_at_input
from mmmaskformer.core.modeling.fuse import fuse_for_inference
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskPrediction, Targets
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.formats.label_maps import require_ignore_index
from mmmaskformer.heads.build import build_classifier, build_criterion, refuse_unknown_keys
from mmmaskformer.heads.checkpoint_layouts import require_own_weights
from mmmaskformer.heads.data_samples import targets_from_seg_samples
from mmmaskformer.heads.feature_input import FeatureInput
from mmmaskformer.heads.features import watch_registration
from mmmaskformer.heads.finite import file_of, require_finite
from mmmaskformer.heads.settings import check_parts, check_segmentor_test_cfg

CLASSIFIER = 'classifier.class_embed'
STRIDE = number(1)


@checked(
    in_channels=list_of(whole(1)).or_none(),
    num_classes=whole(1),
    num_queries=whole(1),
    channels=whole(1),
    feature_strides=list_of(STRIDE).or_none(),
    ignore_index=whole(),
    on_class_mismatch=one_of('error', 'reinit'),
    init_cfg=(MAPPING | list_of(MAPPING)).or_none(),
)
class MaskFormerHead(BaseModule):
    """Mask classification for semantic segmentation.

    Class count and widths are written here once; the parts get them from the head and refuse them in their own configs.

    Args:
        in_channels: channels of the features of backbone and neck, in their order. Left out, they are measured when
            the head becomes a part of a model, by one forward pass of a small image.
        num_classes: K, without "no object".
        num_queries: Q.
        channels: width of pixel decoder, transformer decoder and mask embeddings.
        feature_strides: strides of the features in input pixels, in the same order. Left out, they are measured too;
            for a head without a model around it they are 4, 8, 16, ….
        ignore_index: label of pixels without a class.
        classifier: config of the whole network behind the backbone; `MaskClassifier` if None.
        pixel_decoder: config of the pixel decoder, None for a network without one.
        transformer_decoder: config of the transformer decoder, None for a network without one.
        matcher: config of the matcher.
        criterion: config of the criterion.
        on_class_mismatch: what to do with a checkpoint whose classifier has another number of classes: 'error', or
            'reinit' to keep the freshly initialised classifier (fine-tuning on other classes).
        init_cfg: mmengine's, of type 'Pretrained' only: the parts initialise themselves as published.

    Raises:
        TypeError: if a key is not known.
        ValueError: if a value is out of range.

    Source: paper, section 3; official code, MaskFormerHead and MaskFormer.
    """

    config_key = 'model.decode_head'  # for messages
    align_corners = False  # read by EncoderDecoder for its resize to the original size
    threshold = 1.0  # read by EncoderDecoder if K is 1: a sigmoid never exceeds it, so the only class wins

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        num_classes: int,
        num_queries: int = 100,
        channels: int = 256,
        feature_strides: Sequence[Real] | None = None,
        ignore_index: int = 255,
        classifier: dict | None = None,
        pixel_decoder: dict | None = None,
        transformer_decoder: dict | None = None,
        matcher: dict,
        criterion: dict,
        on_class_mismatch: str = 'error',
        init_cfg: dict | None = None,
        **unknown,
    ):
        refuse_unknown_keys(type(self).__name__, unknown, _keywords(type(self)))
        super().__init__(init_cfg)
        _require_no_other_init(init_cfg)
        require_ignore_index(ignore_index)
        parts = dict(
            classifier=classifier,
            pixel_decoder=pixel_decoder,
            transformer_decoder=transformer_decoder,
            matcher=matcher,
            criterion=criterion,
        )
        check_parts(self.config_key, parts, channels=channels)
        self.feature_input = FeatureInput(in_channels, feature_strides)
        self.num_classes = self.out_channels = num_classes
        self.ignore_index = ignore_index
        self.on_class_mismatch = on_class_mismatch
        self._absent: set[str] | None = None
        self.classifier = None
        derived = dict(num_classes=num_classes, num_queries=num_queries, channels=channels)
        self._classifier_settings = (classifier, pixel_decoder, transformer_decoder, derived)
        if in_channels is not None:
            self._build_classifier()
        self.criterion = build_criterion(matcher, criterion, **derived)
        watch_registration(MaskFormerHead)
        compat.complete_function_registries()  # by now, the host whose inferencer may be at work is imported

    @property
    def in_channels(self) -> list[int] | None:
        """Channels of the features, finest first; None until they are measured."""
        return self.feature_input.channels

    @property
    def feature_strides(self) -> list[Real] | None:
        """Strides of the features, finest first; None until they are measured."""
        return self.feature_input.strides

    def attach_to(self, model: nn.Module, name: str) -> None:
        """Measure the features of the model that this head has become a part of; see `watch_registration`.

        Args:
            model: what the head was assigned to.
            name: as which attribute.

        Raises:
            ValueError: if the features do not suit the head, or if ``in_channels`` is left out and the model has none.
        """
        if hasattr(model, 'backbone') and hasattr(model, 'extract_feat'):
            self.feature_input.fit(model, f'model.{name}')
        if self.classifier is None:
            self._require_channels(f'{type(model).__name__} has no backbone with features')
            self._build_classifier()

    def prepare(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features of the model as the classifier takes them: (B, C_i, h_i, w_i), finest first.

        Args:
            features: as the model's ``extract_feat`` gives them.

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``.
        """
        self._require_channels('the head is not part of a model that it could be measured in')
        return self.feature_input.prepare(features, self.config_key)

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
            data_samples: B samples with ``gt_sem_seg`` at the padded input size.
            train_cfg: not used; part of the host's signature.

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

    def predict(self, features: Sequence[Tensor], metas: Sequence[dict], test_cfg: dict | None = None) -> Tensor:
        """Class scores at the padded input size; the host crops and resizes them, as published.

        Args:
            features: as the model's ``extract_feat`` gives them.
            metas: meta information of the samples.
            test_cfg: the host's. ``mode`` is read, and two keys of ours: ``inference``, 'semantic' (the default) or
                'general', the two ways of the paper's section 3.3, and ``object_threshold`` of the latter.

        Returns:
            (B, K, H, W) float scores, at least 0, not normalised.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or a
                value of ``test_cfg`` is wrong.
            TypeError: if ``test_cfg`` has a key that nobody reads.
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
            features: as the model's ``extract_feat`` gives them.
            metas: meta information of the samples.
            sliding: whether the batch is a window, whose size is then the first of ``metas``'s ``img_shape``.

        Returns:
            Class logits (B, Q, K + 1), and the mask logits of the batch, not yet multiplied out.

        Raises:
            ValueError: if the features do not fit ``in_channels``, ``feature_strides`` or the sizes in ``metas``, or
                the weights of the head were loaded in part.
            NonFiniteLogitsError: if logits are inf or NaN, naming image and file.
        """
        self._require_all_weights()
        features = self.prepare(features)
        prediction = self._infer(features)
        require_finite(prediction, metas)
        size = self.feature_input.input_size(metas, features[0], self.config_key, sliding=sliding)
        return prediction.class_logits, DeferredMaskLogits(prediction.masks, size)

    def _require_all_weights(self) -> None:
        """Raise if weights were loaded, but not all: the others are those of an untrained model."""
        absent = sorted(self._absent or ())
        if absent and not self.training:
            shown = ', '.join(absent[:3])
            raise ValueError(
                f'{self.config_key}: the checkpoint that was loaded lacks {len(absent)} of the '
                f'{len(list(self.parameters()))} weights of the head, or has them in another shape: {shown}, … Fix: '
                'give the config and the checkpoint of one training run'
            )

    def name_classes(self, names: Sequence[str]) -> None:
        """Tell the criterion the class names (K,), for weights that are given by name; see `SetCriterion`."""
        if isinstance(self.criterion, SetCriterion):
            self.criterion.name_classes(names)

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        return targets_from_seg_samples(data_samples, num_classes=self.num_classes, ignore_index=self.ignore_index)

    def _require_channels(self, why: str) -> None:
        if self.in_channels is None:
            raise ValueError(
                f'{self.config_key}.in_channels is left out, but {why}. Fix: set in_channels and feature_strides to '
                'the channels and strides of the features, in their order'
            )

    def _build_classifier(self) -> None:
        *configs, derived = self._classifier_settings
        self.classifier = build_classifier(*configs, in_channels=self.in_channels, **derived)

    def _infer(self, features: Sequence[Tensor]) -> MaskPrediction:
        """The last layer, from prepared features; in evaluation mode `fuse_for_inference` is called first."""
        if not self.classifier.training:
            fuse_for_inference(self.classifier)
        return self.classifier(features, all_layers=False)[-1]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Check the head of a checkpoint; mmengine would only log the mismatch and go on without it."""
        own = [f'{prefix}{name}' for name, _ in self.named_parameters()]
        require_own_weights(own, state_dict, self.config_key, state_dict)
        key = f'{prefix}{CLASSIFIER}.weight'
        if key in state_dict and len(state_dict[key]) != self.num_classes + 1:
            found = len(state_dict[key]) - 1
            if self.on_class_mismatch == 'error':
                raise ValueError(
                    f"the checkpoint's {key} is for {found} classes, but the model has num_classes={self.num_classes}. "
                    f'Fix: set num_classes={found} to use this checkpoint, or, to fine-tune it on other classes, '
                    f"{self.config_key}.on_class_mismatch='reinit'."
                )
            print_log(
                f'{key}: {found} classes in the checkpoint, {self.num_classes} in the model; the classifier is '
                're-initialised',
                logger='current',
                level=logging.WARNING,
            )
            for name in ('weight', 'bias'):
                state_dict[f'{prefix}{CLASSIFIER}.{name}'] = getattr(self.classifier.class_embed, name).detach()
        absent = {
            name
            for name, weight in self.named_parameters()
            if getattr(state_dict.get(f'{prefix}{name}'), 'shape', None) != weight.shape
        }
        self._absent = absent if self._absent is None else self._absent & absent
        super()._load_from_state_dict(state_dict, prefix, *args)


def _keywords(head: type) -> list[str]:
    """All keyword arguments of a head and of the heads it derives from."""
    classes = [cls for cls in head.__mro__ if issubclass(cls, MaskFormerHead)]
    parameters = [p for cls in classes for p in inspect.signature(cls.__init__).parameters.values()]
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _scores(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], test_cfg: dict) -> Tensor:
    """Class scores (K, H, W) of one image at the padded input size."""
    if test_cfg.get('inference', 'semantic') == 'semantic':
        return scores_at_input(class_logits, mask_logits, size)
    return general_scores(class_logits, resize(mask_logits, size), test_cfg.get('object_threshold', 0.3))


def _require_no_other_init(init_cfg) -> None:
    configs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
    for cfg in configs:
        if cfg.get('type') != 'Pretrained':
            raise ValueError(
                f'init_cfg type={cfg.get("type")!r} would overwrite the published initialisation; expected '
                "'Pretrained' or None"
            )
