"""Test-time augmentation of semantic models."""

from collections.abc import Sequence

from mmengine.model import BaseTTAModel


class SemanticTTAModel(BaseTTAModel):
    """Averages the class scores of all augmented views of an image, then takes the arg-max.

    The scores of mask classification are averaged as they are. MMSegmentation's `SegTTAModel` would put them through
    another softmax first, which gives other labels than published.

    Source: paper, section 4.1 (multi-scale inference); official code, SemanticSegmentorWithTTA.
    """

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Merge the views of each image.

        Args:
            data_samples_list: per image the samples of its views, each with ``seg_logits.data`` (K, height, width)
                float at the original size, already flipped back.

        Returns:
            One sample per image, with the mean in ``seg_logits`` and its arg-max (1, height, width) int64 in
            ``pred_sem_seg``.
        """
        return [self._merge_views(views) for views in data_samples_list]

    @staticmethod
    def _merge_views(views: Sequence):
        merged = views[0]
        mean = merged.seg_logits.data.clone()
        for view in views[1:]:
            mean += view.seg_logits.data
        mean /= len(views)
        merged.seg_logits.data = mean
        merged.pred_sem_seg.data = mean.argmax(0, keepdim=True)
        return merged
