"""Data transforms in the conventions of mmcv and MMSegmentation; the registry's location for `TRANSFORMS`.

They fill the places where the stock transforms differ from the published pipeline. Cropping and flipping do not:
take ``mmseg.RandomCrop`` with its default ``cat_max_ratio=1.0`` and ``mmseg.RandomFlip``.
"""

from mmmaskformer.datasets.transforms.color import ColorJitterSSD
from mmmaskformer.datasets.transforms.geometry import PadToSize, ResizeShortestEdge
from mmmaskformer.datasets.transforms.loading import LoadSegAnnotations

__all__ = ['ColorJitterSSD', 'LoadSegAnnotations', 'PadToSize', 'ResizeShortestEdge']
