"""Test-time augmentation: semantic models of MMSegmentation, panoptic ones of MMDetection."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from torch import Tensor

from mmmaskformer.core.inference.labels.search import label_map
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks
from mmmaskformer.heads.results import result_kinds


class SemanticTTAModel(BaseTTAModel):
    """Averages the class scores of all augmented views of an image, then takes the arg-max.

    The scores of mask classification are averaged directly. MMSegmentation's `SegTTAModel` applies another softmax
    first, which leads to other labels than published, and keeps the scores of all views in memory.

    Source: paper, section 4.1 (multi-scale inference); official code, SemanticSegmentorWithTTA.
    """

    def test_step(self, data: dict) -> list:
        """Predict view by view, with one running sum per image or, with our own segmentor, its factors.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            See `merge_preds`; from our own segmentor ``pred_sem_seg`` (1, height, width) int32 only.
        """
        views = zip(data['inputs'], data['data_samples'], strict=True)
        if getattr(self.module, 'labels_only', False):
            return self._labels(views)
        return self._average(self.module.test_step(dict(inputs=i, data_samples=s)) for i, s in views)

    def _labels(self, batches) -> list:
        """Labels of each image from the score views of all its views; see `label_map`."""
        merged, views = None, []
        for inputs, samples in batches:
            batch = self.module.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
            found = self.module.score_views(batch['inputs'], batch['data_samples'])
            merged = merged or batch['data_samples']
            views = [old + new for old, new in zip(views, found, strict=True)] if views else found
        for sample, of_image in zip(merged, views, strict=True):
            sample.pred_sem_seg = PixelData(data=label_map(of_image)[None])
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Merge the views of each image.

        Args:
            data_samples_list: per image the samples of its views, each with ``seg_logits.data`` (K, height, width)
                float at the original size, already flipped back.

        Returns:
            One sample per image, with the mean in ``seg_logits`` and its arg-max (1, height, width) int64 in
            ``pred_sem_seg``.
        """
        return self._average(zip(*data_samples_list, strict=True))

    @staticmethod
    def _average(batches) -> list:
        """Mean over views; ``batches`` yields the samples of all images, view by view."""
        batches = iter(batches)
        merged, count = list(next(batches)), 1
        sums = [sample.seg_logits.data.clone() for sample in merged]
        for count, samples in enumerate(batches, start=2):  # noqa: B007  the last count is the number of views
            for total, sample in zip(sums, samples, strict=True):
                total += sample.seg_logits.data
        for sample, total in zip(merged, sums, strict=True):
            sample.seg_logits.data = total / count
            sample.pred_sem_seg.data = sample.seg_logits.data.argmax(0, keepdim=True)
        return merged


class PanopticTTAModel(BaseTTAModel):
    """Pools the segments of all augmented views of an image, see `SegmentPool`; averages semantic scores.

    It computes the results in the fusion head's ``test_cfg``, with their settings, if they can be merged: 'panoptic'
    (``pred_panoptic_seg``), 'semantic' (``pred_sem_seg``), and others registered with a function to merge views, see
    `mmmaskformer.heads.results`. Views may be scaled and flipped horizontally.

    Args:
        module: MMDetection's `MaskFormer` with our heads.
        data_preprocessor: as in the base class.

    Raises:
        ValueError: if ``test_cfg`` has another kind of result.
    """

    def __init__(self, module, data_preprocessor=None):
        super().__init__(module, data_preprocessor)
        self.fusion = self.module.panoptic_fusion_head
        able = [kind.name for kind in result_kinds().values() if kind.merge is not None]
        others = set(self.fusion.outputs) - set(able)
        if others:
            changes = ' '.join(f'model.test_cfg.{output}=None' for output in sorted(others))
            raise ValueError(
                f'model.test_cfg has {sorted(others)}, which test-time augmentation does not support; expected some of '
                f'{able}. Fix: --cfg-options {changes}'
            )

    def test_step(self, data: dict) -> list:
        """Predict view by view, keeping one pool of segments and one sum of scores per image.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            One sample per image: that of its first view, with the results added.
        """
        merged = data['data_samples'][0]
        answers = [_Views(self.fusion) for _ in merged]
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True):
            batch = self.module.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
            features = self.module.extract_feat(batch['inputs'])
            class_logits, masks = self.module.panoptic_head.predict(features, batch['data_samples'])
            for image, (answer, sample) in enumerate(zip(answers, batch['data_samples'], strict=True)):
                answer.add(class_logits[image], masks_of_view(masks, image, sample.metainfo))
            masks.check()
        for answer, sample in zip(answers, merged, strict=True):
            answer.write(sample)
        return merged

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Not supported, since final results of views cannot be merged; `test_step` merges logits instead."""
        raise NotImplementedError(
            'PanopticTTAModel cannot merge final results. Fix: call test_step, which merges logits'
        )


def masks_of_view(masks: DeferredMaskLogits, image: int, meta: dict) -> QueryMasks:
    """Masks of one image of a batch of views, at the size of the file and with the flip undone.

    Args:
        masks: masks of the batch.
        image: position in the batch.
        meta: ``img_shape``, ``ori_shape``, ``flip`` and ``flip_direction`` of the view.

    Raises:
        ValueError: if the view is flipped in another direction.
    """
    flipped = bool(meta.get('flip'))
    if flipped and meta.get('flip_direction', 'horizontal') != 'horizontal':
        raise ValueError(
            f"{meta.get('img_path')}: a view is flipped '{meta['flip_direction']}'; expected 'horizontal'. Fix: use "
            "RandomFlip with direction='horizontal' in tta_pipeline"
        )
    return masks.of_image(image, tuple(meta['img_shape'][:2]), tuple(meta['ori_shape'][:2]), flipped=flipped)


class _Views:
    """Accumulates the results of one image over its views."""

    def __init__(self, fusion):
        self.fusion = fusion
        self.mergers = fusion.view_mergers()
        self.class_logits = []
        self.size = None

    def add(self, class_logits: Tensor, masks: QueryMasks) -> None:
        self.size = masks.out_size
        for merger in self.mergers.values():
            merger.add(class_logits, masks)
        # of all views, to explain a result without segments
        self.class_logits.append(class_logits)

    def write(self, sample) -> None:
        found = {output: merger.result() for output, merger in self.mergers.items()}
        for field, packed in self.fusion.pack(found, torch.cat(self.class_logits), self.size).items():
            setattr(sample, field, packed)
