"""Inference behind the signature of MMDetection's panoptic fusion heads."""

import inspect
import logging
from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmmaskformer import compat
from mmmaskformer.core.checks import checked, whole
from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.instance import instance_inference
from mmmaskformer.core.inference.labels.search import semantic_labels
from mmmaskformer.core.inference.panoptic import (
    PanopticResult,
    QuerySegments,
    general_inference,
    panoptic_query_segments,
)
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks, best_query
from mmmaskformer.formats.mmdet_codes import MOST_CLASSES, instance_offset, panoptic_codes
from mmmaskformer.heads.build import refuse_unknown_keys
from mmmaskformer.heads.data_samples import SegmentList
from mmmaskformer.heads.panoptic_head import thing_mask
from mmmaskformer.heads.settings import check_result_settings

# What a user may ask for in model.test_cfg, and the function that answers.
OUTPUTS: dict[str, Callable] = {
    'panoptic': panoptic_query_segments,
    'detr': detr_inference,
    'semantic': semantic_labels,
    'general': general_inference,
    'instance': instance_inference,
}


@checked(num_classes=whole(1))
class MaskFormerFusionHead(BaseModule):
    """Turns the outputs of the last layer into every kind of result, several at once if wanted.

    ``test_cfg`` has one entry per result; its value holds the settings that differ from the defaults, None switches the
    result off: ``dict(panoptic=dict(object_threshold=0.7), semantic=dict(), instance=None)``.

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
        num_classes: K.
        things: labels of the thing classes.
        test_cfg: of the detector, see above; panoptic alone if None.
        init_cfg: not used; part of the host's signature.

    Raises:
        TypeError: if a key is not known.
        ValueError: if a value is wrong or no result is asked for.

    Source: paper, sections 3.3 and 4.2.
    """

    config_key = 'model.panoptic_fusion_head'  # for messages

    def __init__(
        self,
        *,
        num_classes: int,
        things: Sequence[int],
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        **unknown,
    ):
        refuse_unknown_keys(type(self).__name__, unknown, ['num_classes', 'things'])
        super().__init__(init_cfg)
        self.register_buffer('is_thing', thing_mask(num_classes, things, self.config_key), persistent=False)
        self.num_classes = num_classes
        self.outputs = _checked_outputs({'panoptic': {}} if test_cfg is None else test_cfg)
        self._told_nothing_found = False
        if num_classes > MOST_CLASSES and {'panoptic', 'detr'} & set(self.outputs):
            print_log(
                f'num_classes={num_classes}: panoptic maps hold label + {instance_offset(num_classes)} * instance, '
                "since MMDetection's factor 1000 is too small. Its own metric, drawing and inferencer cannot read "
                "them; those of mmmaskformer can (type='mmmaskformer.PanopticMetric', mmmaskformer draw).",
                logger='current',
                level=logging.WARNING,
            )
        # The inferencer, if there is one, was imported before it builds its model.
        compat.serve_panoptic_inferencer()

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
        """
        results = []
        for image, sample in enumerate(data_samples):
            masks = masks_of_image(mask_logits, image, sample.metainfo, rescale=rescale)
            results.append(self._answer(class_logits[image], masks, sample))
        return results

    def settings(self, output: str) -> dict:
        """Arguments of the function that gives an output, beside logits and masks."""
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
            results['pan_results'] = sample.pred_detr_seg = self.pack_panoptic(found['detr'], class_logits)
        if 'panoptic' in found:
            results['pan_results'] = self.pack_panoptic(found['panoptic'], class_logits)
        if 'general' in found:
            sample.pred_sem_seg = sample.pred_general_seg = _pack_labels(found['general'])
        if 'semantic' in found:
            sample.pred_sem_seg = _pack_labels(found['semantic'])
        return results

    def pack_panoptic(self, result: PanopticResult | QuerySegments, class_logits: Tensor) -> PixelData:
        """A panoptic result in the host's form, with the list ``segments``: id in the map, label and score of each.

        Args:
            result: of one image.
            class_logits: (Q, K + 1), to tell once why there may be nothing in it. Where confident queries all lose too
                much of their masks to others, that is noticed on a CPU only: a GPU would have to be waited for.
        """
        if isinstance(result, PanopticResult):
            result = QuerySegments(*result, torch.ones_like(result.labels, dtype=torch.bool))
        if not len(result.labels) or (result.starts.device.type == 'cpu' and not result.starts.any()):
            self._tell_nothing_found(class_logits)
        codes = panoptic_codes(result, self.is_thing)
        encoded = result.painted(codes, self.num_classes)
        return PixelData(metainfo=dict(segments=SegmentList(result, codes)), sem_seg=encoded[None])

    def _tell_nothing_found(self, class_logits: Tensor) -> None:
        """Log once why a result is empty; an untrained model and a threshold too high look the same."""
        if self._told_nothing_found:
            return
        self._told_nothing_found = True
        thresholds = {key: self.settings(key).get('object_threshold', 'default') for key in self.outputs}
        print_log(
            f'No segment was found in an image: the highest class probability of its queries is '
            f'{float(best_query(class_logits)):.3f}, and thresholds of model.test_cfg are {thresholds}. If that is '
            'not expected, lower them, such as model.test_cfg.panoptic.object_threshold, or train longer. Said once.',
            logger='current',
            level=logging.WARNING,
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
        return QueryMasks(mask_logits[image], None, tuple(mask_logits.shape[-2:]), image_size, out_size)
    return mask_logits.of_image(image, image_size, out_size)


def _pack_labels(labels: Tensor) -> PixelData:
    return PixelData(sem_seg=labels[None].to(torch.int32))


def _checked_outputs(test_cfg: dict) -> dict[str, dict]:
    """The results wanted, with their settings; panoptic models resize masks before they mix them, as published."""
    refuse_unknown_keys('model.test_cfg', test_cfg, OUTPUTS)
    check_result_settings(test_cfg)
    wanted = {key: dict(settings) for key, settings in test_cfg.items() if settings is not None}
    if not wanted:
        raise ValueError(f'model.test_cfg={dict(test_cfg)} asks for nothing; expected one or more of {list(OUTPUTS)}')
    for key, settings in wanted.items():
        parameters = inspect.signature(OUTPUTS[key]).parameters.values()
        accepted = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {'is_thing'}
        refuse_unknown_keys(f'model.test_cfg.{key}', settings, accepted)
    if 'semantic' in wanted:
        wanted['semantic'].setdefault('resize_masks_first', True)
    return wanted
