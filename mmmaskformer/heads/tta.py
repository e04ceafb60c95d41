"""Test-time augmentation of semantic models."""

from collections.abc import Sequence

from mmengine.model import BaseTTAModel


class SemanticTTAModel(BaseTTAModel):
    """Averages the class scores of all augmented views of an image, then takes the arg-max.

    The scores of mask classification are averaged as they are. MMSegmentation's `SegTTAModel` would put them through
    another softmax first, which gives other labels than published; it also holds the scores of all views at once.

    Source: paper, section 4.1 (multi-scale inference); official code, SemanticSegmentorWithTTA.
    """

    def test_step(self, data: dict) -> list:
        """Predict view by view, keeping one running sum per image.

        Args:
            data: ``inputs`` and ``data_samples``, each a list over views of lists over images.

        Returns:
            See `merge_preds`.
        """
        views = zip(data['inputs'], data['data_samples'], strict=True)
        return self._average(self.module.test_step(dict(inputs=i, data_samples=s)) for i, s in views)

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
        """Mean over views; ``batches`` gives per view the samples of all images."""
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
