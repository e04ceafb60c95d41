"""MMDetection classes with the smallest change that helps; `mmmaskformer.catalog` imports them when they are built."""

from collections.abc import Sequence

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor as HostDataPreprocessor

from mmmaskformer.core.checks import POSITIVE, checked, list_of, number, whole
from mmmaskformer.hosts.bands import require_bands, statistics_of, warn_of_range


@checked(mean=list_of(number()).or_none(), std=list_of(POSITIVE).or_none(), pad_value=number(), seg_pad_value=whole())
class DetDataPreprocessor(HostDataPreprocessor):
    """MMDetection's data preprocessor for images of any number of bands.

    The host's takes one or three values for mean and std, and where it swaps colours it cuts images to three bands.
    With three bands the two are the same.

    Args:
        mean: one value for each band, or one in all; None does not normalise.
        std: the same.
        settings: all other arguments of the host's class.

    Raises:
        ValueError: if mean and std differ in number; when called, if images have another number of bands.
    """

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **settings) -> None:
        super().__init__(**settings)
        if (mean is None) != (std is None) or (mean is not None and len(mean) != len(std)):
            raise ValueError(
                f'DetDataPreprocessor: found mean={mean} and std={std}, expected one value of each for each band, or '
                'neither.'
            )
        # Done here: the host would cut images of more bands to three.
        self.channel_conversion, self._channel_conversion = self._channel_conversion, False
        self._enable_normalize = mean is not None
        if mean is not None:
            self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
            self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)
        self._statistics = statistics_of(mean, std)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, swap the colours of images of three bands, and pad, as the host does.

        Args:
            data: ``inputs``, a list of (bands, H, W) uint8 or float32, and ``data_samples``.
            training: whether targets are padded as well.

        Returns:
            ``inputs`` (B, bands, H, W) float32 and ``data_samples``.
        """
        if self._enable_normalize:
            require_bands(data, len(self.mean))
            warn_of_range(data, *self._statistics)
        if self.channel_conversion:
            data = dict(data, inputs=[image[[2, 1, 0]] if len(image) == 3 else image for image in data['inputs']])
        return super().forward(data, training)
