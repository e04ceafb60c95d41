"""Data transforms in the conventions of mmcv and MMSegmentation; the registry's location for `TRANSFORMS`.

They replace the stock transforms that differ from the published pipeline. Cropping to a fixed size and flipping do not
differ: use ``mmseg.RandomCrop`` with its default ``cat_max_ratio=1.0`` and ``mmseg.RandomFlip``, which move every map
in ``seg_fields``, including panoptic ones. `packing`, which creates MMDetection's data samples, is a separate location.
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
