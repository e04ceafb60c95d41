"""MMSegmentation's visualizer; a location for `VISUALIZERS` where MMSegmentation is installed."""

import numpy as np

from mmmaskformer.registry import VISUALIZERS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.visualization import SegLocalVisualizer as HostVisualizer  # isort: skip


@VISUALIZERS.register_module()
class SegLocalVisualizer(HostVisualizer):
    """MMSegmentation's visualizer for images of any memory layout.

    The host draws on an array laid out as the image is, which OpenCV refuses unless rows follow one another; its
    browse_dataset.py passes views of channels-first images.
    """

    def add_datasample(self, name: str, image: np.ndarray, *args, **kwargs) -> None:
        """Draw ground truth and prediction; arguments of the host's method.

        Args:
            name: of the picture.
            image: (H, W, 3) uint8, RGB.
            args: of the host.
            kwargs: of the host.
        """
        super().add_datasample(name, np.ascontiguousarray(image), *args, **kwargs)
