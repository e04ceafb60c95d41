"""Inference behind the signature of MMDetection's panoptic fusion heads."""

import ast
import inspect
import logging
from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmmaskformer import compat
from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.instance import instance_inference
from mmmaskformer.core.inference.labels.search import semantic_labels
from mmmaskformer.core.inference.panoptic import (
    PanopticResult,
    QuerySegments,
    general_inference,
    panoptic_query_segments,
)
from mmmaskformer.core.inference.query_masks import (
    DeferredMaskLogits,
    QueryMasks,
    best_query,
    confident_queries,
)
from mmmaskformer.formats.mmdet_codes import panoptic_codes
from mmmaskformer.heads.build import refuse_unknown_keys
from mmmaskformer.heads.data_samples import SegmentList
from mmmaskformer.heads.features import watch_registration
from mmmaskformer.heads.panoptic_head import thing_flags, thing_mask

# What a user may ask for in model.test_cfg, and the function that answers.
OUTPUTS: dict[str, Callable] = {
    'panoptic': panoptic_query_segments,
    'detr': detr_inference,
    'semantic': semantic_labels,
    'general': general_inference,
    'instance': instance_inference,
}


class MaskFormerFusionHead(BaseModule):
    """Turns the outputs of the last layer into every kind of result, several at once if wanted.

    ``test_cfg`` has one entry per result; its value holds the settings that differ from the defaults, None switches the
    result off: ``dict(panoptic=dict(object_threshold=0.7), semantic=dict(), instance=None)``. On a command line
    ``--cfg-options model.test_cfg.semantic={}`` arrives as the text '{}', which is read as the dict.

    ============ ========================================== =======================================================
    entry        result, in each data sample                settings
    ============ ========================================== =======================================================
    panoptic     ``pred_panoptic_seg``                      object_threshold 0.8, overlap_threshold 0.8
    detr         ``pred_detr_seg``                          object_threshold 0.85, min_area 5
    semantic     ``pred_sem_seg``                           resize_masks_first True
    general      ``pred_general_seg``                       object_threshold 0.3, overlap_threshold 0.0
    instance     ``pred_instances``                         max_per_image 100, score_threshold 0.0
    ============ ========================================== =======================================================

    Asked for alone, 'detr' also gives ``pred_panoptic_seg`` and 'general' ``pred_sem_seg``, where the hosts' metrics
    look. All maps are in ``sem_seg`` (1, height, width), int32.

    Args:
        num_classes: K. None takes it from the detector's ``panoptic_head``, as soon as this head becomes a part of the
            detector.
        things: labels of the thing classes; None takes them from the ``panoptic_head`` as well.
        test_cfg: of the detector, see above; panoptic alone if None.
        init_cfg: not used; part of the host's signature.

    Attributes:
        num_classes: K; None until it is known.
        is_thing: (K,) bool; None until it is known.

    Raises:
        TypeError: if a key is not known, or the settings of a result are no dict.
        ValueError: if a label in ``things`` is out of range or no result is asked for; when it becomes a part of a
            detector, if its ``panoptic_head`` has other classes.

    Source: paper, sections 3.3 and 4.2.
    """

    config_key = 'model.panoptic_fusion_head'

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
        # Not in checkpoints: it follows from the config.
        self.register_buffer('is_thing', None, persistent=False)
        self.num_classes = num_classes
        self._things = things
        if num_classes is not None and things is not None:
            self.is_thing = thing_mask(num_classes, things, self.config_key)
        self.outputs = _checked_outputs({'panoptic': {}} if test_cfg is None else test_cfg)
        self._warned_nothing_found = False
        # The inferencer, if there is one, was imported before it builds its model.
        compat.serve_panoptic_inferencer()

    def attach_to(self, model: nn.Module, name: str) -> None:
        """Take the classes of the panoptic head of the detector that this head has become a part of.

        Args:
            model: what the head was assigned to.
            name: as which attribute.

        Raises:
            ValueError: if this head was given other classes.
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
            mask_logits: of `MaskFormerPanopticHead`, or (B, Q, H, W) float at the padded input size.
            data_samples: B samples; results that the host does not know are written into them.
            rescale: give results at the size of the image file, not of the network input without padding.

        Returns:
            Per image what the host writes into the samples: ``pan_results`` and ``ins_results`` if asked for.

        Raises:
            ValueError: if the classes are not known.
        """
        results = []
        for image, sample in enumerate(data_samples):
            masks = masks_of_image(mask_logits, image, sample.metainfo, rescale=rescale)
            results.append(self._answer(class_logits[image], masks, sample))
        return results

    def settings(self, output: str) -> dict:
        """Arguments of the function that gives an output, beside logits and masks.

        Raises:
            ValueError: if the classes are not known.
        """
        if self.is_thing is None:
            raise ValueError(
                f'{self.config_key}: num_classes={self.num_classes} and things={self._things}, and no panoptic_head to '
                'take them from. Fix: set both, or assign the head to a detector that has a panoptic_head'
            )
        settings = dict(self.outputs[output])
        if 'is_thing' in inspect.signature(OUTPUTS[output]).parameters:
            settings['is_thing'] = self.is_thing
        return settings

    def _answer(self, class_logits: Tensor, masks: QueryMasks, sample) -> dict:
        """All results of one image: those that the host writes are returned, the others go into the sample here."""
        found = {key: OUTPUTS[key](class_logits, masks, **self.settings(key)) for key in self.outputs}
        results = {}
        if 'instance' in found:
            labels, scores, binary, boxes = found['instance']
            results['ins_results'] = InstanceData(bboxes=boxes, labels=labels, scores=scores, masks=binary)
        if 'detr' in found:
            results['pan_results'] = sample.pred_detr_seg = self.pack_panoptic(found['detr'], class_logits, 'detr')
        if 'panoptic' in found:
            results['pan_results'] = self.pack_panoptic(found['panoptic'], class_logits)
        if 'general' in found:
            sample.pred_sem_seg = sample.pred_general_seg = self.pack_labels(found['general'])
        if 'semantic' in found:
            sample.pred_sem_seg = self.pack_labels(found['semantic'])
        return results

    def pack_labels(self, labels: Tensor) -> PixelData:
        """A label map in the host's form.

        Args:
            labels: (H, W) integer; K and above are no class.

        Returns:
            ``sem_seg`` (1, H, W) int32 and ``ignore_index`` K, which the host's drawing leaves out; by itself it would
            leave out 255, a class like others where K is larger, and fail at K.
        """
        return PixelData(metainfo=dict(ignore_index=self.num_classes), sem_seg=labels[None].to(torch.int32))

    def pack_panoptic(
        self, result: PanopticResult | QuerySegments, class_logits: Tensor, output: str = 'panoptic'
    ) -> PixelData:
        """A panoptic result in the host's form, with the list ``segments``: id in the map, label and score of each.

        Args:
            result: of one image.
            class_logits: (Q, K + 1), to say once why there may be nothing in it. Where confident queries all lose too
                much of their masks to others, that is noticed on a CPU only: a GPU would have to be waited for.
            output: 'panoptic' or 'detr', whose settings gave the result.
        """
        if isinstance(result, PanopticResult):
            result = QuerySegments(*result, torch.ones_like(result.labels, dtype=torch.bool))
        if not len(result.labels) or (result.starts.device.type == 'cpu' and not result.starts.any()):
            self._warn_nothing_found(class_logits, output)
        codes = panoptic_codes(result, self.is_thing)
        encoded = result.painted(codes, self.num_classes)
        return PixelData(metainfo=dict(segments=SegmentList(result, codes)), sem_seg=encoded[None])

    def _warn_nothing_found(self, class_logits: Tensor, output: str) -> None:
        """Log once which threshold emptied a result; an untrained model and a threshold too high look the same."""
        if self._warned_nothing_found:
            return
        self._warned_nothing_found = True
        print_log(
            f'No segment was found in an image: {why_nothing_found(class_logits, output, self.settings(output))} '
            'Further empty images are not logged.',
            logger='current',
            level=logging.WARNING,
        )


def _contradiction(name: str, key: str, found, expected) -> str:
    return (
        f'model.{name}.{key}: found {found}, expected {expected} as in model.panoptic_head. Fix: leave it out of the '
        f'{name}, which takes it from there'
    )


def why_nothing_found(class_logits: Tensor, output: str, settings: dict) -> str:
    """Name the threshold that left nothing of an image, and what was found.

    Args:
        class_logits: (Q, K + 1) of the image.
        output: 'panoptic' or 'detr'.
        settings: those of ``test_cfg`` that differ from the defaults.

    Returns:
        One or two sentences, with the key to change.
    """
    parameters = inspect.signature(OUTPUTS[output]).parameters
    values = {name: settings.get(name, parameter.default) for name, parameter in parameters.items()}
    highest, threshold = float(best_query(class_logits)), values['object_threshold']
    key = f'model.test_cfg.{output}'
    if highest <= threshold:
        return (
            f'the highest class probability of a query is {highest:.3f}, expected more than {key}.object_threshold='
            f'{threshold}. Unless the model is untrained, lower that threshold.'
        )
    if not len(confident_queries(class_logits, threshold)[0]):
        return (
            f'the highest class probability of a query is {highest:.3f}, but "no object" is more probable in every '
            f'query, which no threshold changes ({key}.object_threshold={threshold} is not the reason). Train longer.'
        )
    second = 'min_area' if 'min_area' in values else 'overlap_threshold'
    lost = 'is left with fewer pixels than' if second == 'min_area' else 'keeps a smaller part of its own mask than'
    return (
        f'there are queries above {key}.object_threshold={threshold} (the highest class probability is {highest:.3f}), '
        f'but each {lost} {key}.{second}={values[second]}. Unless the model is untrained, lower that threshold.'
    )


def masks_of_image(mask_logits: DeferredMaskLogits | Tensor, image: int, meta: dict, *, rescale: bool) -> QueryMasks:
    """The masks of one image of a batch, with the sizes that its sample tells.

    Args:
        mask_logits: of the batch; a tensor (B, Q, H, W) is at the padded input size.
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
    """The results wanted, with their settings; panoptic models resize masks before they mix them, as published."""
    refuse_unknown_keys('model.test_cfg', test_cfg, OUTPUTS)
    wanted = {key: _settings_dict(key, settings) for key, settings in test_cfg.items() if settings is not None}
    if not wanted:
        raise ValueError(f'model.test_cfg={dict(test_cfg)} asks for nothing; expected one or more of {list(OUTPUTS)}')
    for key, settings in wanted.items():
        parameters = inspect.signature(OUTPUTS[key]).parameters.values()
        accepted = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {'is_thing'}
        refuse_unknown_keys(f'model.test_cfg.{key}', settings, accepted)
    if 'semantic' in wanted:
        wanted['semantic'].setdefault('resize_masks_first', True)
    return wanted


def _settings_dict(key: str, settings: dict | str) -> dict:
    """The settings of one result; mmengine hands on ``{…}`` of a command line as text."""
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
