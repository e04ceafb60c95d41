"""Data transforms in the conventions of mmcv and MMSegmentation; the registry's location for `TRANSFORMS`.

They fill the places where the stock transforms differ from the published pipeline. Cropping to one size and flipping
do not: take ``mmseg.RandomCrop`` with its default ``cat_max_ratio=1.0`` and ``mmseg.RandomFlip``, which move every
map in ``seg_fields``, panoptic ones too. `packing`, which makes MMDetection's data samples, is a location of its own.
"""

from mmmaskformer.datasets.transforms.color import ColorJitterSSD
from mmmaskformer.datasets.transforms.framing import PadToSize, RandomCropRange
from mmmaskformer.datasets.transforms.geometry import ResizeShortestEdge
from mmmaskformer.datasets.transforms.loading import LoadSegAnnotations
from mmmaskformer.datasets.transforms.panoptic_loading import LoadPanopticAnnotations

__all__ = [
    'ColorJitterSSD',
    'LoadPanopticAnnotations',
    'LoadSegAnnotations',
    'PadToSize',
    'RandomCropRange',
    'ResizeShortestEdge',
]
