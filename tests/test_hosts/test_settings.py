"""Invalid values in configs of data, metrics, hooks and optimisers are named when the part is built."""

import inspect

import pytest
from mmengine.registry import DATASETS, HOOKS, METRICS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed

PARTS = {
    TRANSFORMS: (
        'ResizeShortestEdge', 'RandomCropRange', 'PadToSize', 'LoadSegAnnotations', 'LoadPanopticAnnotations',
        'PackPanopticInputs', 'ColorJitterSSD',
    ),
    METRICS: ('SemanticMetric', 'PanopticMetric'),
    HOOKS: ('DrawPredictionsHook',),
}  # fmt: skip
CHECKED_ELSEWHERE = {
    'LoadPanopticAnnotations': {'things'},
    'SemanticMetric': {'also', 'destination'},
    'PanopticMetric': {'also', 'destination'},
}
"""Settings that the class checks together with others; the destination is one of its settings."""


@pytest.mark.parametrize('registry, name', [(registry, name) for registry, names in PARTS.items() for name in names])
def test_every_setting_is_declared(registry, name):
    cls = registry.get(f'mmmaskformer.{name}')
    own = [base.__init__ for base in cls.__mro__ if base.__module__.startswith('mmmaskformer.')]
    parameters = [parameter for init in own for parameter in inspect.signature(init).parameters.values()]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    settings = {parameter.name for parameter in parameters if parameter.kind not in variable} - {'self'}
    assert settings - CHECKED_ELSEWHERE.get(name, set()) <= set(getattr(cls, 'setting_checks', {}))


@pytest.mark.parametrize(
    'registry, config, message',
    [
        (
            TRANSFORMS,
            dict(type='PadToSize', size=(4, 4), image_value='128'),
            r"PadToSize.image_value: found '128', expected",
        ),
        (TRANSFORMS, dict(type='PadToSize', size=(4, 4), ignore_index=1.5), r'PadToSize.ignore_index: found 1.5'),
        (TRANSFORMS, dict(type='LoadSegAnnotations', num_classes=0), r'LoadSegAnnotations.num_classes: found 0'),
        (
            TRANSFORMS,
            dict(type='LoadSegAnnotations', allow_missing=1),
            r'allow_missing: found 1, expected True or False',
        ),
        (TRANSFORMS, dict(type='LoadPanopticAnnotations', allow_empty='yes'), r"allow_empty: found 'yes'"),
        (
            TRANSFORMS,
            dict(type='PackPanopticInputs', meta_keys='img_path'),
            r"meta_keys: found 'img_path', expected a l",
        ),
        (METRICS, dict(type='SemanticMetric', ignore_index='255'), r"SemanticMetric.ignore_index: found '255'"),
        (
            METRICS,
            dict(type='SemanticMetric', collect_device='cuda'),
            r"collect_device: found 'cuda', expected 'cpu' or",
        ),
        (METRICS, dict(type='PanopticMetric', field=None), r'PanopticMetric.field: found None, expected a string'),
        (METRICS, dict(type='PanopticMetric', classwise='no'), r"PanopticMetric.classwise: found 'no'"),
        (HOOKS, dict(type='DrawPredictionsHook', num=2.5), r'DrawPredictionsHook.num: found 2.5, expected a whole'),
        (DATASETS, dict(type='PanopticDataset', ann_file=7), r'PanopticDataset.ann_file: found 7, expected a path'),
        (DATASETS, dict(type='CamVidDataset', ignore_index=2.5), r'CamVidDataset.ignore_index: found 2.5'),
        (DATASETS, dict(type='CamVidDataset', reduce_zero_label='no'), r"CamVidDataset.reduce_zero_label: found 'no'"),
        (DATASETS, dict(type='CamVidDataset', max_refetch=-1), r'CamVidDataset.max_refetch: found -1'),
    ],
)
def test_wrong_values_are_named(registry, config, message):
    with pytest.raises(ValueError, match=message):
        registry.build(config | dict(type=f'mmmaskformer.{config["type"]}'))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(paramwise_cfg=dict(backbone_lr_mult=-0.1)), r'optim_wrapper.paramwise_cfg.backbone_lr_mult: found -0.1'),
        (dict(optimizer=dict(type='AdamW', lr='1e-4')), r"optim_wrapper.optimizer.lr: found '1e-4', expected a number"),
        (dict(optimizer=dict(type='AdamW')), r'optim_wrapper.optimizer.lr: found None'),
        (dict(optimizer=dict(type='AdamW', lr=float('nan'))), r'optim_wrapper.optimizer.lr: found nan'),
        (
            dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=-1)),
            r'optim_wrapper.optimizer.weight_decay: found -1',
        ),
        (dict(accumulative_counts=1.5), r'optim_wrapper.accumulative_counts: found 1.5'),
        (dict(clip_grad=3), r'optim_wrapper.clip_grad: found 3, expected a dict'),
        (dict(clip_grad=dict(max_norm=-1)), r'optim_wrapper.clip_grad.max_norm: found -1, expected a number above 0'),
        (dict(clip_grad=dict(max_norm=float('nan'))), r'optim_wrapper.clip_grad.max_norm: found nan'),
        (dict(clip_grad=dict(max_norm=1, norm_type='two')), r"optim_wrapper.clip_grad.norm_type: found 'two'"),
        (dict(clip_grad=dict(type='value', clip_value=0)), r'optim_wrapper.clip_grad.clip_value: found 0'),
        (dict(clip_grad=dict(type='values')), r"optim_wrapper.clip_grad.type: found 'values', expected 'norm' or"),
        (dict(clip_grad=dict(maxnorm=1)), r"optim_wrapper.clip_grad does not take the key 'maxnorm'"),
        (dict(optimizer=dict(type='AdamW', lr=1.0, betas=0.9)), r'optim_wrapper.optimizer.betas: found 0.9'),
    ],
)
def test_wrong_values_of_the_optimiser_are_named(changes, message):
    config = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4)) | changes
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get('mmmaskformer.PublishedOptimWrapperConstructor')
    with pytest.raises((ValueError, TypeError), match=message):
        constructor(config, config.pop('paramwise_cfg', None))
