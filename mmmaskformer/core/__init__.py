"""The MaskFormer model, its matching, losses and inference in plain PyTorch; imports no OpenMMLab package.

The names below are sufficient for most programs; docs/core.md has an example. They are imported lazily, so that parts
that need only numpy do not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmmaskformer.core.fast_paths import set_fast_paths
    from mmmaskformer.core.inference.instance import instance_inference
    from mmmaskformer.core.inference.labels.search import semantic_labels
    from mmmaskformer.core.inference.panoptic import panoptic_inference
    from mmmaskformer.core.inference.query_masks import QueryMasks
    from mmmaskformer.core.inference.semantic import semantic_inference
    from mmmaskformer.core.matches import Matches
    from mmmaskformer.core.model import MaskFormer, build_maskformer
    from mmmaskformer.core.modeling.fuse import fuse_for_inference
    from mmmaskformer.core.modeling.mask_classifier import MaskClassifier
    from mmmaskformer.core.segments import Segments
    from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Targets
    from mmmaskformer.core.training.criterion import SetCriterion
    from mmmaskformer.core.training.matcher import HungarianMatcher
    from mmmaskformer.core.training.targets import semantic_targets

__all__ = [
    'HungarianMatcher',
    'MaskClassifier',
    'MaskFormer',
    'MaskPrediction',
    'MaskTarget',
    'Matches',
    'QueryMasks',
    'Segments',
    'SetCriterion',
    'Targets',
    'build_maskformer',
    'fuse_for_inference',
    'instance_inference',
    'panoptic_inference',
    'semantic_inference',
    'semantic_labels',
    'semantic_targets',
    'set_fast_paths',
]

_MODULES = {
    'HungarianMatcher': 'training.matcher',
    'MaskClassifier': 'modeling.mask_classifier',
    'MaskFormer': 'model',
    'MaskPrediction': 'structures',
    'MaskTarget': 'structures',
    'Matches': 'matches',
    'QueryMasks': 'inference.query_masks',
    'Segments': 'segments',
    'SetCriterion': 'training.criterion',
    'Targets': 'structures',
    'build_maskformer': 'model',
    'fuse_for_inference': 'modeling.fuse',
    'instance_inference': 'inference.instance',
    'panoptic_inference': 'inference.panoptic',
    'semantic_inference': 'inference.semantic',
    'semantic_labels': 'inference.labels.search',
    'semantic_targets': 'training.targets',
    'set_fast_paths': 'fast_paths',
}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str):
        if name not in _MODULES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
