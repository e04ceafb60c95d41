"""Toy models inside the stock classes of MMSegmentation and MMDetection."""

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed

PREPROCESSOR = dict(
    type='mmmaskformer.SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size_divisor=32,
    test_cfg=dict(size_divisor=32),
)
DET_PREPROCESSOR = dict(
    type='DetDataPreprocessor',
    mean=PREPROCESSOR['mean'],
    std=PREPROCESSOR['std'],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
TINY_RESNET = dict(type='ResNet', depth=18, base_channels=4, stem_channels=8, norm_cfg=dict(type='BN'))
THINGS = [1, 3]
"""Labels of the things among the toy's 5 classes."""


def head_config(**changes) -> dict:
    """Config of a toy head with 5 classes for `TINY_RESNET`."""
    config = dict(
        type='mmmaskformer.MaskFormerHead',
        in_channels=[4, 8, 16, 32],
        num_classes=5,
        num_queries=7,
        channels=16,
        pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=4),
        transformer_decoder=dict(
            type='mmmaskformer.TransformerDecoder', num_layers=2, num_heads=4, ffn_channels=24, dropout=0.0
        ),
        matcher=dict(type='mmmaskformer.HungarianMatcher'),
        criterion=dict(type='mmmaskformer.SetCriterion'),
    )
    return config | changes


def make_segmentor(
    backbone: dict | None = None,
    test_cfg: dict | None = None,
    segmentor: str = 'EncoderDecoder',
    whole_head: dict | None = None,
    **head,
):
    """A toy `EncoderDecoder` in evaluation mode; ``head`` are changes to `head_config`, ``whole_head`` replaces it."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(
        ConfigDict(
            type=segmentor,
            data_preprocessor=PREPROCESSOR,
            backbone=backbone or TINY_RESNET,
            decode_head=whole_head or head_config(**head),
            train_cfg=dict(),
            test_cfg=test_cfg or dict(mode='whole'),
        )
    )
    return model.eval()


def detector_config(test_cfg: dict | None = None, fusion: dict | None = None, **head) -> ConfigDict:
    """Config of a toy `MaskFormer` detector with 5 classes."""
    encoder = dict(type='mmmaskformer.TransformerEncoderPixelDecoder', norm_groups=4, num_layers=1, num_heads=4,
                   ffn_channels=24, dropout=0.0)  # fmt: skip
    panoptic = dict(type='mmmaskformer.MaskFormerPanopticHead', things=THINGS, pixel_decoder=encoder)
    return ConfigDict(
        type='MaskFormer',
        data_preprocessor=DET_PREPROCESSOR,
        backbone=TINY_RESNET,
        panoptic_head=head_config(**panoptic) | head,
        panoptic_fusion_head=fusion or dict(type='mmmaskformer.MaskFormerFusionHead'),
        train_cfg=None,
        test_cfg=test_cfg or dict(panoptic=dict()),
    )


def make_detector(test_cfg: dict | None = None, **head):
    """A toy `MaskFormer` detector in evaluation mode."""
    import mmdet.models  # noqa: F401  registers them

    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(detector_config(test_cfg, **head)).eval()


def make_panoptic_sample(size: tuple[int, int], *, seed: int = 0, **meta):
    """A (3, H, W) uint8 image and its `DetDataSample` in our form, with blocks of segments and void."""
    from mmdet.structures import DetDataSample

    generator = np.random.default_rng(seed)
    segments = generator.integers(-1, 6, (size[0] // 16 + 1, size[1] // 16 + 1)).astype(np.int16)
    segment_map = segments.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    sample = DetDataSample(
        metainfo=dict(img_id=seed, ori_shape=size, img_shape=size, seg_map_path='panoptic/a.png') | meta
    )
    labels = tuple(generator.integers(0, 5, 6).tolist())
    sample.gt_panoptic_seg = PixelData(metainfo=dict(labels=labels), segment_map=torch.from_numpy(segment_map[None]))
    return torch.from_numpy(generator.integers(0, 256, (3, *size), dtype=np.uint8)), sample


def make_sample(size: tuple[int, int], *, num_classes: int = 5, seed: int = 0, **meta):
    """A (3, H, W) uint8 image and its `SegDataSample`, with blocks of classes and some ignored pixels."""
    from mmseg.structures import SegDataSample

    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, num_classes + 1, (size[0] // 16 + 1, size[1] // 16 + 1))
    labels = coarse.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    labels[labels == num_classes] = 255
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, seg_map_path='labels/a.png') | meta)
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels[None]))
    image = torch.from_numpy(generator.integers(0, 256, (3, *size), dtype=np.uint8))
    return image, sample
