"""Base of all heads: their input features, the training step, and checks of checkpoints."""

import inspect
import logging
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmaskformer import compat
from mmmaskformer.core.checks import BOOLEAN, MAPPING, checked, list_of, number, one_of, refuse_unknown_keys, whole
from mmmaskformer.core.modeling.fuse import run_fused
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import Targets
from mmmaskformer.core.torch_versions import is_recorded
from mmmaskformer.heads.build import naming
from mmmaskformer.heads.checkpoint_layouts import require_own_weights
from mmmaskformer.heads.conversion import convert_on_loading
from mmmaskformer.heads.feature_input import FeatureInput
from mmmaskformer.heads.features import watch_registration
from mmmaskformer.heads.finite import begin_finite_check, file_of
from mmmaskformer.heads.loaded_weights import check_on_loading


@checked(
    in_channels=list_of(whole(1)).or_none(),
    num_classes=whole(1),
    feature_strides=list_of(number(1)).or_none(),
    deep_supervision=BOOLEAN,
    on_class_mismatch=one_of('error', 'reinit'),
    init_cfg=(MAPPING | list_of(MAPPING)).or_none(),
)
class FeatureHead(BaseModule):
    """Base of the heads: a network for the features of backbone and neck, ``classifier``, and a ``criterion``.

    A derived head sets what `_build_classifier` needs and, if ``in_channels`` is given, calls it at the end of its
    constructor; otherwise it is called after the features are measured.

    Args:
        in_channels: channels of the features of backbone and neck, in their order. If None, they are measured by a
            forward pass of a small image when the head is added to a model.
        num_classes: K, without "no object".
        feature_strides: strides of the features in input pixels, in the same order. If None, they are measured as well;
            for a head outside of a model they are 4, 8, 16, ….
        deep_supervision: whether the predictions of all decoder layers are trained, as published, or only those of the
            last one.
        on_class_mismatch: what to do with a checkpoint whose classifier has another number of classes: 'error', or
            'reinit' to keep the freshly initialised classifier (fine-tuning on other classes).
        init_cfg: mmengine's setting, only of type 'Pretrained', since the parts initialise themselves as published.
        unknown: unknown keys, which are refused.

    Raises:
        TypeError: if a key is unknown.
        ValueError: if a value is out of range.
    """

    config_key = 'model.decode_head'  # for messages
    class_layer = 'classifier.class_embed'
    """The layer with a row of weights for each class."""
    other_rows = 1
    """Number of its rows besides those of the K classes: one for "no object"."""
    has_class_logits = True
    """Whether queries have classes; in a per-pixel model, each mask belongs to one class."""

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        num_classes: int,
        feature_strides: Sequence[Real] | None = None,
        deep_supervision: bool = True,
        on_class_mismatch: str = 'error',
        init_cfg: dict | None = None,
        **unknown,
    ):
        refuse_unknown_keys(f'{self.config_key}: {type(self).__name__}', unknown, _keywords(type(self)))
        super().__init__(init_cfg)
        _require_no_other_init(init_cfg)
        self.feature_input = FeatureInput(in_channels, feature_strides)
        self.num_classes = self.out_channels = num_classes
        self.deep_supervision = deep_supervision
        self.on_class_mismatch = on_class_mismatch
        self.classifier: nn.Module | None = None
        self._absent: set[str] | None = None
        self._absent_in_model: set[str] | None = None
        self._loaded_apart: set[str] = set()  # models that were pickled whole have it under this name
        watch_registration(FeatureHead)
        compat.complete_function_registries()  # a host whose inferencer is running has been imported by now

    @property
    def in_channels(self) -> list[int] | None:
        """Channels of the features, finest first; None until they are measured."""
        return self.feature_input.channels

    @property
    def feature_strides(self) -> list[Real] | None:
        """Strides of the features, finest first; None until they are measured."""
        return self.feature_input.strides

    def attach_to(self, model: nn.Module, name: str) -> None:
        """Measure the features of the model to which this head was added; see `watch_registration`.

        From then on the model also accepts checkpoints of other packages, see `heads.conversion`, and checks all of
        them, see `heads.loaded_weights`.

        Args:
            model: the model.
            name: attribute of the model that holds the head.

        Raises:
            ValueError: if the features do not fit the head, or ``in_channels`` is None and the model has no features.
        """
        if hasattr(model, 'backbone') and hasattr(model, 'extract_feat'):
            self.feature_input.fit(model, f'model.{name}')
        convert_on_loading(model)
        check_on_loading(model)
        if self.classifier is None:
            self._require_channels(f'{type(model).__name__} has no backbone with features')
            self._build_classifier()

    def prepare(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Bring the features of the model into the form of the classifier: (B, C_i, h_i, w_i), finest first.

        Args:
            features: as the model's ``extract_feat`` returns them.

        Raises:
            ValueError: if the features do not fit ``in_channels`` or ``feature_strides``.
        """
        self._require_channels('the head is not part of a model in which they could be measured')
        return self.feature_input.prepare(features, self.config_key)

    def loss(self, features: Sequence[Tensor], data_samples: Sequence, train_cfg: dict | None = None) -> dict:
        """Training losses of a batch.

        Args:
            features: as the model's ``extract_feat`` returns them.
            data_samples: B samples with ground truth at the padded input size.
            train_cfg: unused; part of the signature of MMSegmentation.

        Returns:
            Scalars, see the criterion, such as `SetCriterion.forward`.

        Raises:
            ValueError: if features or labels do not fit the head, or the criterion or the matcher does not support the
                segments; names the files of the batch.
            NonFiniteLogitsError: if logits are inf or NaN; names layer, iteration and files.
        """
        self._absent = self._absent_in_model = None
        features = self.prepare(features)
        predictions = self.classifier(features, all_layers=self.deep_supervision)
        targets = self._targets(features, data_samples)
        self.feature_input.require_stride(features[0], [targets.size], self.config_key)
        try:
            return self.criterion(predictions, targets)
        except NonFiniteLogitsError as error:
            iteration = MessageHub.get_current_instance().get_info('iter', 0)
            raise NonFiniteLogitsError(
                f'iteration {iteration + 1}, {error} Images of the batch: {_files_of(data_samples)}'
            ) from None
        except ValueError as error:  # the core has no file names
            self._check_network(predictions, len(features[0]))
            raise ValueError(f'{error}. Images of the batch: {_files_of(data_samples)}') from error

    def name_classes(self, names: Sequence[str]) -> None:
        """Pass the K class names to the criterion, for class weights that are given by name; see `SetCriterion`."""
        if hasattr(self.criterion, 'name_classes'):
            with naming(self.config_key):
                self.criterion.name_classes(names)

    def _check_network(self, predictions: Any, batch: int) -> None:
        """Raise a ValueError if predictions of B images do not have the form that the head uses."""

    def _targets(self, features: Sequence[Tensor], data_samples: Sequence) -> Targets:
        """The segments of the samples, at the padded input size."""
        raise NotImplementedError

    def _infer(self, features: Sequence[Tensor], metas: Sequence[dict]) -> tuple[list[Tensor], Any, Callable[[], None]]:
        """Prepared features, the prediction of the last layer, and a function that completes its check for inf and NaN.

        On a CPU, the check is already complete; see `MaskFormerHead.predict_masks` for errors. Layers in evaluation
        mode are fused for this call, see `run_fused`.
        """
        self.require_all_weights()
        features = self.prepare(features)
        predictions = run_fused(self.classifier, features, all_layers=False)
        if not is_recorded():
            self._check_network(predictions, len(features[0]))
        prediction = predictions[-1]
        check = begin_finite_check(prediction, metas)
        if not features[0].is_cuda:
            check()
        return features, prediction, check

    def _build_classifier(self) -> None:
        """Set ``classifier``, for features of ``in_channels``."""
        raise NotImplementedError

    def _require_channels(self, why: str) -> None:
        if self.in_channels is None:
            raise ValueError(
                f'{self.config_key}.in_channels is not set, but {why}. Fix: set in_channels and feature_strides to '
                'the channels and strides of the features, in their order'
            )

    def require_all_weights(self) -> None:
        """Raise if only some of the weights were loaded, since the others would be untrained.

        Raises:
            ValueError: in evaluation mode, naming such weights.
        """
        if self.training:
            return
        of_head = f'{len(list(self.parameters()))} weights of the head'
        of_model = (self._absent_in_model or set()) - self._loaded_apart
        for absent, total in ((self._absent, of_head), (of_model, 'weights of the model')):
            if absent:
                shown = ', '.join(sorted(absent)[:3])
                raise ValueError(
                    f'{self.config_key}: the checkpoint that was loaded lacks {len(absent)} of the {total}, or has '
                    f'them in another shape: {shown}, … Fix: use the config and the checkpoint of the same training run'
                )

    def note_absent(self, names: set[str], loaded_separately: set[str]) -> None:
        """Remember the weights of the model, by their names in it, that a checkpoint lacks; until the head is trained.

        Args:
            names: weights that one checkpoint lacks; weights that an earlier one had are not absent.
            loaded_separately: weights loaded into a part of the model, such as its backbone; later ones are added to
                the set.
        """
        self._loaded_apart = loaded_separately
        self._absent_in_model = names if self._absent_in_model is None else self._absent_in_model & names

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Check the head of a checkpoint; mmengine would only log a mismatch and continue."""
        own = [f'{prefix}{name}' for name, _ in self.named_parameters()]
        require_own_weights(own, state_dict, self.config_key, state_dict)
        is_new = self._check_class_layer(state_dict, f'{prefix}{self.class_layer}')
        absent = {
            name
            for name, weight in self.named_parameters()
            if getattr(state_dict.get(f'{prefix}{name}'), 'shape', None) != weight.shape
            or (is_new and name.startswith(f'{self.class_layer}.'))
        }
        self._absent = absent if self._absent is None else self._absent & absent
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_class_layer(self, state_dict: dict, key: str) -> bool:
        """Refuse a classifier with another number of classes, or replace it by the initial one and return True."""
        if f'{key}.weight' not in state_dict:
            return False
        found = len(state_dict[f'{key}.weight']) - self.other_rows
        if found == self.num_classes:
            return False
        if self.on_class_mismatch == 'error':
            raise ValueError(
                f"the checkpoint's {key}.weight is for {found} classes, but the model has "
                f'num_classes={self.num_classes}. Fix: set num_classes={found} to use this checkpoint, or, to '
                f"fine-tune it on other classes, {self.config_key}.on_class_mismatch='reinit'."
            )
        print_log(
            f'{key}.weight: {found} classes in the checkpoint, {self.num_classes} in the model; the classifier is '
            're-initialised',
            logger='current',
            level=logging.WARNING,
        )
        for name, parameter in self.get_submodule(self.class_layer).named_parameters():
            state_dict[f'{key}.{name}'] = parameter.detach()
        return True


def _files_of(data_samples: Sequence) -> str:
    """The image files of a batch, by position."""
    metas = [sample.metainfo for sample in data_samples]
    return ', '.join(f'{image}: {file_of(metas, image)}' for image in range(len(metas)))


def _keywords(head: type) -> list[str]:
    """All keyword arguments of a head and of its base classes."""
    classes = [cls for cls in head.__mro__ if issubclass(cls, FeatureHead)]
    parameters = [p for cls in classes for p in inspect.signature(cls.__init__).parameters.values()]
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return list(dict.fromkeys(names))


def _require_no_other_init(init_cfg) -> None:
    configs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
    for cfg in configs:
        if cfg.get('type') != 'Pretrained':
            raise ValueError(
                f'init_cfg type={cfg.get("type")!r} would overwrite the published initialisation; expected '
                "'Pretrained' or None"
            )
