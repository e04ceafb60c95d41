"""Generated configs for given weights: of this package, based on the shipped configs, and of the hosts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmengine.config import Config

from mmmaskformer.apis.config_files import SHIPPED
from mmmaskformer.checkpoints.classes import class_lists, find_permutation
from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.sizes import Architecture, ResNet, Swin

DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
}
"""Depth of a ResNet of the hosts by kind and number of blocks."""

BASES = {
    ('mask', 'semantic'): ('models/maskformer_r50.py', 'default_runtime.py'),
    ('mask', 'panoptic'): ('models/maskformer_r50-6enc_panoptic.py', 'default_runtime_mmdet.py'),
    ('per pixel', 'semantic'): ('models/per-pixel-baseline_r50.py', 'default_runtime.py'),
    ('per pixel plus', 'semantic'): ('models/per-pixel-baseline-plus_r50.py', 'default_runtime.py'),
}
"""Shipped configs to start from, by kind of head and task."""


class NoConfigError(ValueError):
    """No config can be generated for the model."""


def with_published_size(settings: Settings, known: Mapping[str, Any], task: str) -> tuple[Settings, list[str]]:
    """Settings with the image size of the published models, if the source does not state one.

    Args:
        settings: settings of the model, with its classes.
        known: settings that the source stores, as arguments of `Settings`.
        task: 'semantic' or 'panoptic'.

    Returns:
        The settings, and notes.
    """
    if any(key in known for key in ('short_edge', 'image_size', 'resize')):
        return settings, []
    same = [name for name, entry in class_lists().items() if find_permutation(settings.classes, entry['classes'])]
    kinds = [f'{name.removesuffix("_panoptic")}{"_panoptic" * (task == "panoptic")}' for name in same]
    for name in (*kinds, *same):  # ADE20K has one list for both tasks
        data = SHIPPED / f'_base_/datasets/{name}.py'
        sizes = Config.fromfile(data) if data.is_file() else {}
        if 'test_short_edge' in sizes and 'max_size' in sizes:
            settings = replace(settings, short_edge=sizes['test_short_edge'], max_size=sizes['max_size'])
            break
    return settings, [
        f'the source does not state to which size images are resized: a short edge of {settings.short_edge} and a '
        f'long edge of at most {settings.max_size} pixels are assumed. If these are wrong, use --config'
    ]


def own_config(architecture: Architecture, settings: Settings, task: str) -> Config:
    """Config of a model of this package that predicts without a dataset on disk.

    Args:
        architecture: architecture of the model.
        settings: settings that do not show in the weights.
        task: 'semantic' for MMSegmentation, 'panoptic' for MMDetection.

    Raises:
        NoConfigError: if no config is known for the backbone.
    """
    head = architecture.head
    if (head.kind, task) not in BASES:
        raise NoConfigError(f'a {head.kind} head predicts no segments; found --task {task}. Fix: use --task semantic')
    lines = [f'_base_ = {[str(SHIPPED / "_base_" / base) for base in BASES[head.kind, task]]!r}']
    pixel_decoder = dict(_delete_=True, type='mmmaskformer.FPNPixelDecoder', norm_groups=settings.norm_groups)
    if head.encoder_layers:
        pixel_decoder |= dict(type='mmmaskformer.TransformerEncoderPixelDecoder', num_layers=head.encoder_layers)
        pixel_decoder |= dict(num_heads=settings.num_heads, ffn_channels=head.encoder_ffn_channels)
    settings_of_head = dict(num_classes=head.num_classes, channels=head.channels, pixel_decoder=pixel_decoder)
    if head.kind != 'per pixel':
        settings_of_head['transformer_decoder'] = dict(
            num_layers=head.decoder_layers, num_heads=settings.num_heads, ffn_channels=head.ffn_channels
        )
    if head.kind == 'mask':
        settings_of_head['num_queries'] = head.num_queries
        settings_of_head['criterion'] = dict(no_object_weight=settings.no_object_weight)
    padding = dict(size_divisor=settings.size_divisor, test_cfg=dict(size_divisor=settings.size_divisor))
    if task == 'panoptic':
        settings_of_head['things'] = _things(head.num_classes, settings)
        padding = dict(pad_size_divisor=max(1, settings.size_divisor))
    preprocessor = dict(mean=list(settings.mean), std=list(settings.std), bgr_to_rgb=settings.red_first, **padding)
    key = 'panoptic_head' if task == 'panoptic' else 'decode_head'
    backbone = dict(_delete_=True, **backbone_config(architecture, settings))
    model = dict(data_preprocessor=preprocessor, backbone=backbone)
    lines.append(f'model = {dict(model, **{key: settings_of_head})!r}')
    lines.append(_data_of(task, settings, head.num_classes))
    return Config.fromstring('\n'.join(lines), '.py')


def host_config(package: str, architecture: Architecture, settings: Settings) -> Config:
    """Config of the model of a host's own MaskFormer.

    Args:
        package: 'mmseg' or 'mmdet'.
        architecture: architecture of the model.
        settings: settings that do not show in the weights.

    Raises:
        NoConfigError: if no config is known for the backbone.
    """
    head = architecture.head
    bases = {
        'mmseg': 'mmseg::maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
        'mmdet': 'mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    }
    cfg = Config.fromstring(f'_base_ = {bases[package]!r}\n', '.py')
    model = cfg.model
    own = model.decode_head if package == 'mmseg' else model.panoptic_head
    # The data preprocessors of both hosts take the same settings.
    model.data_preprocessor.update(mean=list(settings.mean), std=list(settings.std), bgr_to_rgb=settings.red_first)
    backbone = backbone_config(architecture, settings)
    model.backbone = backbone if package == 'mmseg' else _of_mmdet(backbone)
    own.update(in_channels=list(head.widths), feat_channels=head.channels, out_channels=head.channels)
    own.num_queries = head.num_queries
    own.loss_cls.class_weight = [1.0] * head.num_classes + [settings.no_object_weight]
    own.positional_encoding.num_feats = head.channels // 2
    own.enforce_decoder_input_project = head.projects_memory and head.widths[-1] == head.channels
    _set_image_size(cfg, settings)
    prefix = 'mmdet.' if package == 'mmseg' else ''
    norm = dict(type='GN', num_groups=settings.norm_groups)
    own.pixel_decoder = dict(type=f'{prefix}PixelDecoder', norm_cfg=norm, act_cfg=dict(type='ReLU'))
    if head.encoder_layers:
        attention = dict(embed_dims=head.channels, num_heads=settings.num_heads, dropout=0.1, batch_first=True)
        layer = dict(self_attn_cfg=attention, ffn_cfg=_ffn(head.channels, head.encoder_ffn_channels))
        own.pixel_decoder |= dict(
            type=f'{prefix}TransformerEncoderPixelDecoder',
            encoder=dict(num_layers=head.encoder_layers, layer_cfg=layer),
            positional_encoding=dict(num_feats=head.channels // 2, normalize=True),
        )
    own.transformer_decoder.num_layers = head.decoder_layers
    layer = own.transformer_decoder.layer_cfg
    for attention in (layer.self_attn_cfg, layer.cross_attn_cfg):
        attention.update(embed_dims=head.channels, num_heads=settings.num_heads)
    layer.ffn_cfg.update(embed_dims=head.channels, feedforward_channels=head.ffn_channels)
    if package == 'mmseg':
        own.num_classes = head.num_classes
    else:
        things = len(_things(head.num_classes, settings))
        for part in (own, model.panoptic_fusion_head):
            part.update(num_things_classes=things, num_stuff_classes=head.num_classes - things)
    return cfg


def backbone_config(architecture: Architecture, settings: Settings) -> dict:
    """The ``backbone`` of a config, for either host.

    Raises:
        NoConfigError: if none is known.
    """
    net = architecture.backbone
    if isinstance(net, Swin):
        return dict(
            type='mmseg.SwinTransformer',
            embed_dims=net.channels,
            depths=net.blocks,
            num_heads=net.heads,
            window_size=net.window,
            patch_size=net.patch,
            mlp_ratio=int(net.mlp_ratio) if net.mlp_ratio == int(net.mlp_ratio) else net.mlp_ratio,
            strides=(net.patch, 2, 2, 2),
            drop_path_rate=0.3,
            **settings.backbone,
        )
    has_groups = isinstance(net, ResNet) and net.groups > 1
    if isinstance(net, ResNet) and (net.bottleneck, net.blocks) in DEPTHS and (has_groups or not net.inner):
        config = dict(
            type='mmseg.ResNeXt' if has_groups else 'mmseg.ResNetV1c' if len(net.stem) > 1 else 'mmseg.ResNet',
            depth=DEPTHS[net.bottleneck, net.blocks],
            base_channels=net.planes,
            stem_channels=net.stem[-1],
            out_indices=(0, 1, 2, 3),
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
            style='pytorch',
        )
        multi_grid = dict(multi_grid=settings.dilations) if set(settings.dilations) != {1} else {}
        groups = dict(groups=net.groups, base_width=(net.inner or net.planes) // net.groups) if has_groups else {}
        stem = dict(deep_stem=True) if has_groups and len(net.stem) > 1 else {}
        return config | multi_grid | groups | stem | settings.backbone
    what = 'no backbone' if net is None else net.describe()
    raise NoConfigError(f'{what}: no config is known for it. Fix: pass your own with --config')


def _of_mmdet(backbone: dict) -> dict:
    """The same backbone from MMDetection, so that its users need no MMSegmentation; unchanged if only that has it."""
    if 'multi_grid' in backbone:
        return backbone
    if backbone['type'] == 'mmseg.ResNetV1c':
        return backbone | dict(type='mmdet.ResNet', deep_stem=True)
    return backbone | dict(type=backbone['type'].replace('mmseg.', 'mmdet.'))


def _set_image_size(cfg: Config, settings: Settings) -> None:
    """Set the image size of the settings in the test pipelines of a host's config."""
    size = dict(scale=(settings.max_size, settings.short_edge), keep_ratio=True)
    if settings.image_size is not None:
        size = dict(scale=settings.image_size[::-1], keep_ratio=False, backend='pillow')
    for pipeline in (cfg.test_pipeline, *(cfg[f'{part}_dataloader'].dataset.pipeline for part in ('test', 'val'))):
        for step in [step for step in pipeline if step['type'] == 'Resize']:
            step.update(size)
            if not settings.resize:
                pipeline.remove(step)


def _things(num_classes: int, settings: Settings) -> list[int]:
    flags = settings.dataset_meta.get('isthing')
    return [label for label, flag in enumerate(flags) if flag] if flags else list(range(num_classes))


def _ffn(channels: int, hidden: int) -> dict:
    act = dict(type='ReLU', inplace=True)
    return dict(embed_dims=channels, feedforward_channels=hidden, num_fcs=2, ffn_drop=0.1, act_cfg=act)


def _data_of(task: str, settings: Settings, num_classes: int) -> str:
    """Config lines for a test pipeline of single images and a dataset with a class list but no files."""
    resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=settings.short_edge, max_size=settings.max_size)
    if settings.image_size is not None:  # with PIL, as the transform above and transformers resize
        resize = dict(type='Resize', scale=settings.image_size[::-1], keep_ratio=False, backend='pillow')
    pack = dict(type='mmseg.PackSegInputs') if task == 'semantic' else dict(type='mmmaskformer.PackPanopticInputs')
    classes = settings.classes or tuple(f'class {label}' for label in range(num_classes))
    metainfo: dict = dict(classes=classes)
    if settings.dataset_meta.get('palette'):
        metainfo['palette'] = settings.dataset_meta['palette']
    if task == 'semantic':
        dataset = dict(type='mmseg.BaseSegDataset', data_prefix=dict(img_path='', seg_map_path=''))
    else:
        things = set(_things(num_classes, settings))
        metainfo['isthing'] = [label in things for label in range(num_classes)]
        dataset = dict(type='mmmaskformer.PanopticDataset', ann_file='panoptic.json', data_prefix=dict(img='.'))
    return '\n'.join(
        (
            f'test_pipeline = {[dict(type="LoadImageFromFile"), *[resize] * settings.resize, pack]!r}',
            f'test_dataset = {dict(dataset, metainfo=metainfo, test_mode=True, lazy_init=True)!r}',
            'test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(test_dataset, pipeline=test_pipeline))',
        )
    )
