"""MMSegmentation classes that stand in the way of published behaviour, with the smallest change that helps."""

from mmseg.models.data_preprocessor import SegDataPreProcessor as HostDataPreProcessor
from mmseg.utils import stack_batch


class SegDataPreProcessor(HostDataPreProcessor):
    """MMSegmentation's data preprocessor that also takes test batches of images of different sizes.

    The host refuses them. Here they are padded to the largest image of the batch, as in training, and each result is
    cropped to its own image by the host's post-processing. Padded area is attended to, as published, so that a
    result may differ slightly from the one of the image alone.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, convert channels and stack.

        Args:
            data: ``inputs``, a list of (3, H, W) uint8, and ``data_samples``.
            training: whether targets are padded as well.

        Returns:
            ``inputs`` (B, 3, H, W) float32 and ``data_samples``, which know their padding.
        """
        sizes = {tuple(image.shape[1:]) for image in data['inputs']}
        if training or len(sizes) == 1:
            return super().forward(data, training)
        data = self.cast_data(data)
        images = [self._normalised(image) for image in data['inputs']]
        test_cfg = self.test_cfg or {}
        size, divisor = test_cfg.get('size'), test_cfg.get('size_divisor')
        if size is None and divisor is None:
            divisor = 1
        inputs, paddings = stack_batch(images, size=size, size_divisor=divisor, pad_val=self.pad_val)
        for sample, padding in zip(data['data_samples'], paddings, strict=True):
            sample.set_metainfo(padding)
        return dict(inputs=inputs, data_samples=data['data_samples'])

    def _normalised(self, image):
        """One (3, H, W) image as the host's own forward treats it before stacking."""
        if self.channel_conversion and image.size(0) == 3:
            image = image[[2, 1, 0]]
        image = image.float()
        return (image - self.mean) / self.std if self._enable_normalize else image
