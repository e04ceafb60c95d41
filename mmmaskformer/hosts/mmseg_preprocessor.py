"""MMSegmentation's data preprocessor for images of any number of bands and test batches of several sizes."""

from collections.abc import Sequence

from mmseg.models.data_preprocessor import SegDataPreProcessor as HostDataPreProcessor
from mmseg.utils import stack_batch

from mmmaskformer.core.checks import BOOLEAN, MAPPING, POSITIVE, SIZE, checked, list_of, number, whole
from mmmaskformer.hosts.bands import require_bands, require_packed, statistics_of, warn_of_range


@checked(
    mean=list_of(number()).or_none(),
    std=list_of(POSITIVE).or_none(),
    size=SIZE.or_none(),
    size_divisor=whole(1).or_none(),
    pad_val=number(),
    seg_pad_val=whole(),
    bgr_to_rgb=BOOLEAN,
    rgb_to_bgr=BOOLEAN,
    batch_augments=list_of(MAPPING).or_none(),
    test_cfg=MAPPING.or_none(),
)
class SegDataPreProcessor(HostDataPreProcessor):
    """MMSegmentation's data preprocessor that also takes test batches with images of different sizes.

    The host refuses them. This class pads them to the largest image of the batch, as in training, and the host's
    post-processing crops each result to its image. The model attends to padding, as published, so a result may differ
    slightly from that of a batch with a single image.

    Args:
        mean: one value for each band, or a single value; None disables normalisation.
        std: likewise.
        settings: all other arguments of the host's class.

    Raises:
        ValueError: if mean and std have different lengths.
    """

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **settings) -> None:
        if mean is not None and std is not None and len(mean) != len(std):
            raise ValueError(
                f'model.data_preprocessor: found mean={list(mean)} and std={list(std)}, expected equally many values.'
            )
        super().__init__(mean, std, **settings)
        self._statistics = statistics_of(mean, std)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, convert channels and stack.

        Args:
            data: ``inputs``, a list of (bands, H, W) uint8 or float32, and ``data_samples``, which may be absent in
                tests.
            training: whether targets are padded as well.

        Returns:
            ``inputs`` (B, bands, H, W) float32 and ``data_samples``, which record their padding.

        Raises:
            ValueError: if images have another number of bands than mean and std; in training, if a label map has
                another size than its image.
        """
        require_packed(data)
        if self._enable_normalize:
            require_bands(data, len(self.mean))
            warn_of_range(data, *self._statistics)
        if training and self.training:  # in evaluation mode the host's benchmark.py pads test images as in training
            _require_sizes(data)
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
        samples = data.get('data_samples')
        for sample, padding in zip(samples or (), paddings, strict=samples is not None):
            sample.set_metainfo(padding)
        return dict(inputs=inputs, data_samples=samples)

    def _normalised(self, image):
        """Normalise one (3, H, W) image as the host's own forward does before stacking."""
        if _converts_channels(self) and image.size(0) == 3:
            image = image[[2, 1, 0]]
        image = image.float()
        return (image - self.mean) / self.std if self._enable_normalize else image


def _converts_channels(preprocessor: HostDataPreProcessor) -> bool:
    """Whether a preprocessor swaps red and blue; MMSegmentation and its maintained fork name the attribute differently.

    The class of the fork (onedl) inherits from mmengine's `ImgDataPreprocessor`, which calls it
    ``_channel_conversion``.
    """
    name = 'channel_conversion' if hasattr(preprocessor, 'channel_conversion') else '_channel_conversion'
    return getattr(preprocessor, name)


def _require_sizes(data: dict) -> None:
    """Raise if a label map has another size than its image; the host would pad both and train on the result."""
    for image, sample in zip(data['inputs'], data.get('data_samples') or (), strict=False):
        labels = sample.gt_sem_seg.data.shape[-2:] if 'gt_sem_seg' in sample else image.shape[-2:]
        if labels != image.shape[-2:]:
            raise ValueError(
                f'image {sample.metainfo.get("img_path")} is {tuple(image.shape[-2:])} (height, width) after the '
                f'training pipeline, but its label map is {tuple(labels)}; expected equal sizes. Fix: remove the '
                'transform that resizes, crops or pads only one of the two.'
            )
