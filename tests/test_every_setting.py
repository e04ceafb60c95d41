"""Every setting of every class that a config can name is declared; a wrong value or key is named in the error."""

import inspect
import math
import re

import pytest
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import Registry, init_default_scope
from mmengine.visualization import Visualizer
from torch import nn

from mmmaskformer import registry
from mmmaskformer.core.checks import Check
from mmmaskformer.evaluation import PanopticMetric, SemanticMetric
from mmmaskformer.heads.base import FeatureHead
from mmmaskformer.heads.fusion_head import MaskFormerFusionHead
from mmmaskformer.heads.mask_classification_head import MaskClassificationHead
from mmmaskformer.heads.maskformer_head import MaskFormerHead
from mmmaskformer.hosts.mmdet import DetDataPreprocessor
from mmmaskformer.hosts.tta import PanopticTTAModel, SemanticTTAModel
from mmmaskformer.hosts.vis_backends import WholeVisBackend

REGISTRIES = [value for name, value in vars(registry).items() if isinstance(value, Registry) and name.isupper()]
for each in REGISTRIES:
    each.import_from_location()
PARTS = {
    cls
    for each in REGISTRIES
    if each.scope == registry.SCOPE
    for cls in each.module_dict.values()
    if inspect.isclass(cls) and cls.__module__.startswith('mmmaskformer.')
} | {DetDataPreprocessor}

# (class, setting) → what checks it instead of a declaration
PART = 'a part: what describes or is one is looked at where it is built, see test_heads/test_settings.py'
OTHERWISE = {
    **{(cls, key): PART for cls in (FeatureHead,) for key in
       ('classifier', 'pixel_decoder', 'transformer_decoder', 'matcher', 'criterion')},
    **{(cls, 'things'): 'thing_mask' for cls in (MaskClassificationHead, MaskFormerFusionHead)},
    **{(cls, 'also'): 'MetricWithOthers' for cls in (SemanticMetric, PanopticMetric)},
    **{(cls, 'destination'): 'output_dir and outfile_prefix' for cls in (SemanticMetric, PanopticMetric)},
    **{(cls, key): 'the host hands in the model' for cls in (SemanticTTAModel, PanopticTTAModel)
       for key in ('module', 'data_preprocessor')},
}  # fmt: skip
BY_HOSTS = {
    'MaskClassifier': {'pixel_decoder', 'transformer_decoder'},
    'SetCriterion': {'matcher', 'mask_loss', 'box_loss'},
    'HungarianMatcher': {'costs', 'mask_loss'},
    'SetMatcher': {'assignment', 'costs', 'mask_loss'},
    'PerPixelClassifier': {'pixel_decoder'},
    'PerPixelPlusClassifier': {'pixel_decoder', 'transformer_decoder'},
    'PixelMaskLosses': {'mask_loss'},
    'EncoderDecoder': {'backbone', 'decode_head', 'neck', 'auxiliary_head', 'train_cfg', 'test_cfg',
                       'data_preprocessor', 'pretrained', 'init_cfg'},
    'ResumableSampler': {'dataset'},
    'BFloat16OptimWrapper': {'optimizer'},
    'SegLocalVisualizer': {'image', 'vis_backends', 'classes', 'palette', 'dataset_name', 'fig_save_cfg',
                           'fig_show_cfg'},
    'DetLocalVisualizer': {'image', 'vis_backends', 'bbox_color', 'text_color', 'mask_color', 'fig_save_cfg',
                           'fig_show_cfg'},
}  # fmt: skip
"""Modules that are passed in, and settings that the host's class checks itself."""

WRONG = [math.nan, -1, -0.5, 'abcd', object(), [math.nan], {'a': math.nan}]


def parameters(cls: type) -> set[str]:
    """The settings of a class and of those bases to which it passes its keyword arguments."""
    found = set()
    for base in cls.__mro__:
        if base in (object, nn.Module):
            break
        if '__init__' not in vars(base):
            continue
        taken = list(inspect.signature(base.__init__).parameters.values())[1:]
        found |= {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in taken):
            break
    return found


def named(cls: type) -> set[str]:
    """Settings that are checked elsewhere."""
    return BY_HOSTS.get(cls.__name__, set()) | {key for owner, key in OTHERWISE if issubclass(cls, owner)}


def test_the_walk_finds_every_kind_of_part():
    names = {cls.__name__ for cls in PARTS}
    assert len(names) > 45
    for kind in (BaseDataset, BaseMetric, Hook, nn.Module, Visualizer):
        assert any(issubclass(cls, kind) for cls in PARTS), kind


@pytest.mark.parametrize('cls', sorted(PARTS, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_every_setting_is_declared_and_wrong_values_are_named(cls):
    init_default_scope('mmdet')
    checks = getattr(cls, 'setting_checks', {})
    missing = sorted(parameters(cls) - named(cls) - set(checks))
    assert not missing, f'{cls.__name__} takes {missing}, which @checked of core/checks.py does not declare'
    where = getattr(cls, 'config_key', cls.__name__)
    for key, check in ((key, checks[key]) for key in set(checks) & parameters(cls)):
        assert isinstance(check, Check) and not check.accepts(math.nan) and not check.accepts(object())
        for value in WRONG:
            if not check.accepts(value):
                with pytest.raises(ValueError) as caught:
                    cls(**needed(cls) | {key: value})
                # for a dict, the wrong item is named
                assert re.match(rf'{where}\.{key}(\.a)?: found ', str(caught.value))


@pytest.mark.parametrize('cls', sorted(PARTS, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_misspelt_keys_are_named(cls):
    init_default_scope('mmdet')
    with pytest.raises(TypeError, match='intervall'):
        cls(**needed(cls), intervall=3)


def needed(cls: type) -> dict:
    """Settings without which the class does not check others."""
    if issubclass(cls, MaskClassificationHead):
        parts = dict(matcher=dict(type='HungarianMatcher'), criterion=dict(type='SetCriterion'))
        return dict(parts, num_classes=1, **({} if cls is MaskFormerHead else dict(things=[0])))
    if issubclass(cls, FeatureHead):
        return dict(num_classes=1, pixel_decoder=dict(type='FPNPixelDecoder'))
    if issubclass(cls, BaseDataset):
        meta, prefix = dict(classes=('a',), isthing=(True,)), dict(img='', seg='')
        return dict(metainfo=meta, ann_file='a', data_prefix=prefix, lazy_init=True)
    return dict(save_dir=None) if cls is WholeVisBackend else {}


@pytest.mark.parametrize('value', [math.nan, -1, 'abcd', 3, [3], [[0]], [-1], [0, 0], [True], [0.5]])
@pytest.mark.parametrize('cls', [MaskFormerFusionHead, PanopticMetric, SemanticMetric])
def test_settings_that_are_checked_elsewhere(cls, value):
    key, more = ('things', dict(num_classes=2)) if cls is MaskFormerFusionHead else ('also', {})
    with pytest.raises((ValueError, TypeError), match=key):
        cls(**{key: value}, **more)
