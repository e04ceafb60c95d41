"""Inference behind the signature of MMDetection's panoptic fusion heads."""

import ast
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmmaskformer import compat
from mmmaskformer.core.checks import MAPPING, check_settings, checked, list_of, refuse_unknown_keys, whole
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks
from mmmaskformer.formats.mmdet_codes import MOST_CLASSES, instance_offset
from mmmaskformer.heads.features import watch_registration
from mmmaskformer.heads.panoptic_head import thing_flags, thing_mask
from mmmaskformer.heads.result_forms import require_form
from mmmaskformer.heads.results import Classes, ViewMerger, result_kinds

# The fields that MMDetection's detector writes itself, and their names before that.
HOST_KEYS = {'pred_panoptic_seg': 'pan_results', 'pred_instances': 'ins_results'}


@checked(
    num_classes=whole(1).or_none(),
    test_cfg=MAPPING.or_none(),
    init_cfg=(MAPPING | list_of(MAPPING)).or_none(),
)
class MaskFormerFusionHead(BaseModule):
    """Converts the outputs of the last layer to every kind of result, several at once if requested.

    ``test_cfg`` has one entry per result. Its value holds the settings that differ from the defaults; None switches the
    result off: ``dict(panoptic=dict(object_threshold=0.7), semantic=dict(), instance=None)``. With ``--cfg-options
    model.test_cfg.semantic={}``, the value arrives as the string '{}', which is parsed.

    The available results are listed in `mmmaskformer.heads.results`: 'panoptic', 'detr', 'semantic', 'general',
    'instance', and further ones registered there. If the field is not filled by another result, 'detr' also fills
    ``pred_panoptic_seg`` and 'general' ``pred_sem_seg``, which the hosts' metrics read. All maps are in ``sem_seg`` (1,
    height, width), int32.

    Args:
        num_classes: K. If None, it is taken from the detector's ``panoptic_head`` when this head is added to the
            detector.
        things: labels of the thing classes; None takes them from the ``panoptic_head`` as well.
        test_cfg: the detector's, see above; only panoptic if None.
        init_cfg: not used; part of the host's signature.
        unknown: unknown keys, which are refused.

    Attributes:
        num_classes: K; None until it is known.
        is_thing: (K,) bool; None until it is known.

    Raises:
        TypeError: if a key is unknown, or the settings of a result are not a dict.
        ValueError: if a value is invalid or no result is requested; when the head is added to a detector, if its
            ``panoptic_head`` has other classes.

    Source: paper, sections 3.3 and 4.2.
    """

    config_key = 'model.panoptic_fusion_head'  # for messages

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        things: Sequence[int] | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        **unknown,
    ):
        refuse_unknown_keys(type(self).__name__, unknown, ['num_classes', 'things'])
        super().__init__(init_cfg)
        watch_registration(MaskFormerFusionHead)
        # Not stored in checkpoints, since it follows from the config.
        self.register_buffer('is_thing', None, persistent=False)
        self.num_classes = num_classes
        self._things = things
        if num_classes is not None and things is not None:
            self.is_thing = thing_mask(num_classes, things, self.config_key)
        self.outputs = _checked_outputs({'panoptic': {}} if test_cfg is None else test_cfg)
        self._warned_nothing_found = self._warned_many_classes = False
        self._warn_of_many_classes()
        # An inferencer is imported before it builds its model.
        compat.serve_panoptic_inferencer()
        compat.name_classes_in_inferencer()

    def attach_to(self, model: nn.Module, name: str) -> None:
        """Take the classes from the panoptic head of the detector to which this head was added.

        Args:
            model: the detector.
            name: attribute of the detector that holds this head.

        Raises:
            ValueError: if the config sets other classes for this head.
        """
        is_thing = thing_flags(getattr(model, 'panoptic_head', None))
        if is_thing is None:
            return
        if self.num_classes not in (None, len(is_thing)):
            raise ValueError(_contradiction(name, 'num_classes', self.num_classes, len(is_thing)))
        if self._things is not None:
            own = thing_mask(len(is_thing), self._things, f'model.{name}').to(is_thing.device)
            if not torch.equal(own, is_thing):
                things = is_thing.nonzero()[:, 0].tolist()
                raise ValueError(_contradiction(name, 'things', list(self._things), things))
        self.num_classes, self.is_thing = len(is_thing), is_thing.clone()
        self._warn_of_many_classes()

    def _warn_of_many_classes(self) -> None:
        """Warn once if MMDetection's encoding of panoptic maps is too small for the classes."""
        if self._warned_many_classes or (self.num_classes or 0) <= MOST_CLASSES:
            return
        if {'panoptic', 'detr'} & set(self.outputs):
            self._warned_many_classes = True
            print_log(
                f'num_classes={self.num_classes}: panoptic maps hold label + {instance_offset(self.num_classes)} * '
                "instance, since MMDetection's factor 1000 is too small. Its own metric and visualizer and the saved "
                "predictions of its inferencer cannot read them. Fix: use type='mmmaskformer.PanopticMetric', "
                "type='mmmaskformer.DetLocalVisualizer', and return_datasamples=True or mmmaskformer draw.",
                logger='current',
                level=logging.WARNING,
            )

    @torch.no_grad()
    def predict(
        self,
        class_logits: Tensor,
        mask_logits: DeferredMaskLogits | Tensor,
        data_samples: Sequence,
        rescale: bool = True,
    ) -> list[dict]:
        """Results of a batch, without gradient.

        Args:
            class_logits: (B, Q, K + 1) float.
            mask_logits: result of `MaskFormerPanopticHead`, or (B, Q, H, W) float at the padded input size.
            data_samples: B samples; results that the host does not know are written into them.
            rescale: return results at the size of the image file, not of the network input without padding.

        Returns:
            For each image, the results that the host writes into the samples: ``pan_results`` and ``ins_results`` if
            requested.

        Raises:
            ValueError: if the classes are not known.
            NonFiniteLogitsError: if logits of the panoptic head are inf or NaN.
        """
        results = []
        for image, sample in enumerate(data_samples):
            masks = masks_of_image(mask_logits, image, sample.metainfo, rescale=rescale)
            results.append(self._results_of_image(class_logits[image], masks, sample))
        if isinstance(mask_logits, DeferredMaskLogits):
            mask_logits.check()
        return results

    def settings(self, output: str) -> dict:
        """Arguments of the function that computes an output, in addition to logits and masks.

        Raises:
            ValueError: if the classes are not known.
        """
        if self.is_thing is None:
            raise ValueError(
                f'{self.config_key}: num_classes={self.num_classes} and things={self._things}, and no panoptic_head to '
                'take them from. Fix: set both, or assign the head to a detector that has a panoptic_head'
            )
        settings = dict(self.outputs[output])
        return settings | {'is_thing': self.is_thing} if result_kinds()[output].takes_things else settings

    def view_mergers(self) -> dict[str, ViewMerger]:
        """For one image, the mergers of its views for each output; every output must have one."""
        return {output: result_kinds()[output].merge(**self.settings(output)) for output in self.outputs}

    def pack(self, found: Mapping[str, Any], class_logits: Tensor, size: tuple[int, int]) -> dict[str, Any]:
        """The outputs of one image as fields of its data sample.

        Args:
            found: the result of `ResultKind.infer` for each output.
            class_logits: (Q, K + 1), to explain empty results.
            size: (H, W) of the output.

        Raises:
            ValueError: if a result does not have the form of its `ResultKind`.
        """
        kinds, classes, fields = result_kinds(), Classes(self.num_classes, self.is_thing), {}
        for output, result in found.items():
            require_form(kinds[output], result, size, classes)
            packed = kinds[output].pack(result, classes)
            reason = self._why_empty(output, result, class_logits)
            if reason is not None and isinstance(packed, BaseDataElement):
                packed.set_metainfo(dict(why_empty=reason))
            fields[kinds[output].field] = packed
        for output in found:
            kind = kinds[output]
            if kind.stands_in_for is not None:
                fields.setdefault(kind.stands_in_for, fields[kind.field])
        return fields

    def _results_of_image(self, class_logits: Tensor, masks: QueryMasks, sample) -> dict:
        """All results of one image; those that the host does not write into the sample are written here."""
        kinds = result_kinds()
        found = {output: kinds[output].infer(class_logits, masks, **self.settings(output)) for output in self.outputs}
        results = {}
        for field, packed in self.pack(found, class_logits, masks.out_size).items():
            if field in HOST_KEYS:
                results[HOST_KEYS[field]] = packed
            else:
                setattr(sample, field, packed)
        return results

    def _why_empty(self, output: str, result, class_logits: Tensor) -> str | None:
        """Log once which threshold emptied a result, since an untrained model looks the same as a high threshold."""
        kind = result_kinds()[output]
        if kind.why_empty is None:
            return None
        settings = kind.full_settings(self.outputs[output])
        reason = kind.why_empty(result, class_logits, settings, f'model.test_cfg.{output}')
        if reason is not None and not self._warned_nothing_found:
            self._warned_nothing_found = True
            print_log(
                f'No segment was found in an image: {reason} Further empty images are not logged.',
                logger='current',
                level=logging.WARNING,
            )
        return reason


def _contradiction(name: str, key: str, found, expected) -> str:
    return (
        f'model.{name}.{key}: found {found}, expected {expected} as in model.panoptic_head. Fix: remove it from '
        f'{name}, which takes it from there'
    )


def masks_of_image(mask_logits: DeferredMaskLogits | Tensor, image: int, meta: dict, *, rescale: bool) -> QueryMasks:
    """The masks of one image of a batch, with the sizes from its sample.

    Args:
        mask_logits: mask logits of the batch; a tensor (B, Q, H, W) is at the padded input size.
        image: position in the batch.
        meta: ``img_shape`` and, with ``rescale``, ``ori_shape``.
        rescale: whether the output has the size of the image file.
    """
    image_size = tuple(meta['img_shape'][:2])
    out_size = tuple(meta['ori_shape'][:2]) if rescale else image_size
    if isinstance(mask_logits, Tensor):
        return QueryMasks.of_logits(mask_logits[image], tuple(mask_logits.shape[-2:]), image_size, out_size)
    return mask_logits.of_image(image, image_size, out_size)


def _checked_outputs(test_cfg: dict) -> dict[str, dict]:
    """The requested results, with the settings that differ from the defaults of their functions."""
    kinds = result_kinds()
    refuse_unknown_keys('model.test_cfg', test_cfg, kinds)
    wanted = {key: _settings_dict(key, settings) for key, settings in test_cfg.items() if settings is not None}
    for key, settings in wanted.items():
        check_settings(f'model.test_cfg.{key}', settings, kinds[key].checks)
    if not wanted:
        raise ValueError(f'model.test_cfg={dict(test_cfg)} requests no result; expected one or more of {list(kinds)}')
    for key, settings in wanted.items():
        refuse_unknown_keys(f'model.test_cfg.{key}', settings, kinds[key].setting_names)
    return {key: {**kinds[key].defaults, **settings} for key, settings in wanted.items()}


def _settings_dict(key: str, settings: dict | str) -> dict:
    """The settings of one result; mmengine passes ``{…}`` from a command line as a string."""
    read = settings
    if isinstance(settings, str):
        try:
            read = ast.literal_eval(settings)
        except (SyntaxError, ValueError):
            read = settings
    if not isinstance(read, dict):
        raise TypeError(
            f'model.test_cfg.{key}: found {settings!r}, expected a dict of settings or None. Fix: '
            f'model.test_cfg.{key}={{}} for the defaults, model.test_cfg.{key}.SETTING=VALUE to change one'
        )
    return dict(read)
