"""Subclasses of MMDetection's classes; `mmmaskformer.catalog` imports them when they are built."""

from collections.abc import Sequence

import torch
from mmdet.models.data_preprocessors import BatchFixedSizePad, BatchResize, BatchSyncRandomResize
from mmdet.models.data_preprocessors import DetDataPreprocessor as HostDataPreprocessor

from mmmaskformer.core.checks import BOOLEAN, MAPPING, POSITIVE, checked, list_of, number, whole
from mmmaskformer.hosts.bands import require_bands, require_packed, statistics_of, warn_of_range


@checked(
    mean=list_of(number()).or_none(),
    std=list_of(POSITIVE).or_none(),
    pad_size_divisor=whole(1),
    pad_value=number(),
    pad_mask=BOOLEAN,
    mask_pad_value=whole(),
    pad_seg=BOOLEAN,
    seg_pad_value=whole(),
    bgr_to_rgb=BOOLEAN,
    rgb_to_bgr=BOOLEAN,
    boxtype2tensor=BOOLEAN,
    non_blocking=BOOLEAN.or_none(),
    batch_augments=list_of(MAPPING).or_none(),
)
class DetDataPreprocessor(HostDataPreprocessor):
    """MMDetection's data preprocessor for images with any number of bands.

    The host's class takes one or three values for mean and std, and cuts images to three bands when it swaps colours.
    For images with three bands both classes give the same result.

    ``batch_augments`` is restricted to those that support masks and segments: `BatchFixedSizePad` pads what the samples
    have (our panoptic samples have neither ``masks`` nor ``gt_sem_seg``; the head pads their segments). `BatchResize`
    and `BatchSyncRandomResize`, which resize only images and boxes, are refused.

    Args:
        mean: one value for each band, or a single value; None disables normalisation.
        std: likewise.
        settings: all other arguments of the host's class.

    Raises:
        ValueError: if mean and std have different lengths; when called, if images have another number of bands, or in
            training if a batch augmentation resizes the images of samples that have masks or segments.
    """

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **settings) -> None:
        super().__init__(**settings)
        if (mean is None) != (std is None) or (mean is not None and len(mean) != len(std)):
            raise ValueError(
                f'DetDataPreprocessor: found mean={mean} and std={std}, expected one value for each band in both, or '
                'neither.'
            )
        # Done here, since the host would cut images with more bands to three.
        self.channel_conversion, self._channel_conversion = self._channel_conversion, False
        self._enable_normalize = mean is not None
        if mean is not None:
            self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
            self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)
        self._statistics = statistics_of(mean, std)
        pads = [augment for augment in self.batch_augments or () if isinstance(augment, BatchFixedSizePad)]
        self._wanted_padding = [(augment.pad_mask, augment.pad_seg) for augment in pads]

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, swap the colours of images of three bands, and pad, as the host does.

        Args:
            data: ``inputs``, a list of (bands, H, W) uint8 or float32, and ``data_samples``.
            training: whether targets are padded as well.

        Returns:
            ``inputs`` (B, bands, H, W) float32 and ``data_samples``.
        """
        require_packed(data)
        if self._enable_normalize:
            require_bands(data, len(self.mean))
            warn_of_range(data, *self._statistics)
        if self.channel_conversion:
            data = dict(data, inputs=[image[[2, 1, 0]] if len(image) == 3 else image for image in data['inputs']])
        if training and self.batch_augments is not None:
            self._adapt_augments(data['data_samples'][0])
        return super().forward(data, training)

    def _adapt_augments(self, sample) -> None:
        """Adapt the batch augmentations to samples like this one, the first of its batch."""
        has_masks = 'gt_instances' in sample and 'masks' in sample.gt_instances
        resizing = [
            augment for augment in self.batch_augments if isinstance(augment, BatchResize | BatchSyncRandomResize)
        ]
        if resizing and (has_masks or 'gt_panoptic_seg' in sample):
            name = type(resizing[0]).__name__
            raise ValueError(
                f'model.data_preprocessor.batch_augments: found {name}, which resizes images and boxes but not '
                f'masks and segments. Fix: remove {name} and resize in the pipeline, for example with '
                "dict(type='mmcv.RandomResize', resize_type='mmdet.Resize', scale=[...], keep_ratio=True)."
            )
        pads = (augment for augment in self.batch_augments if isinstance(augment, BatchFixedSizePad))
        for augment, (pad_mask, pad_seg) in zip(pads, self._wanted_padding, strict=True):
            augment.pad_mask, augment.pad_seg = pad_mask and has_masks, pad_seg and 'gt_sem_seg' in sample
