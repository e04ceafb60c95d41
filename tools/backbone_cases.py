"""Backbones and necks that `check_backbones.py` combines with the head."""

MMSEG_CONFIGS = {
    'ann': ['ann_r50-d8_4xb4-80k_ade20k-512x512'],
    'apcnet': ['apcnet_r50-d8_4xb4-80k_ade20k-512x512'],
    'beit': ['beit-base_upernet_8xb2-160k_ade20k-640x640'],
    'bisenetv1': ['bisenetv1_r50-d32_4xb4-160k_cityscapes-1024x1024'],
    'bisenetv2': ['bisenetv2_fcn_4xb8-160k_cityscapes-1024x1024'],
    'ccnet': ['ccnet_r50-d8_4xb4-80k_ade20k-512x512'],
    'cgnet': ['cgnet_fcn_4xb4-60k_cityscapes-680x680'],
    'convnext': ['convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512'],
    'danet': ['danet_r50-d8_4xb4-80k_ade20k-512x512'],
    'ddrnet': ['ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024'],
    'deeplabv3': ['deeplabv3_r50-d8_4xb4-80k_ade20k-512x512', 'deeplabv3_r18b-d8_4xb2-80k_cityscapes-769x769'],
    'deeplabv3plus': ['deeplabv3plus_r50-d8_4xb4-80k_isaid-896x896'],
    'dmnet': ['dmnet_r50-d8_4xb4-80k_ade20k-512x512'],
    'dnlnet': ['dnl_r50-d8_4xb4-80k_ade20k-512x512'],
    'dpt': ['dpt_vit-b16_8xb2-160k_ade20k-512x512'],
    'dsdl': ['voc'],
    'emanet': ['emanet_r50-d8_4xb2-80k_cityscapes-769x769'],
    'encnet': ['encnet_r50-d8_4xb4-80k_ade20k-512x512'],
    'erfnet': ['erfnet_fcn_4xb4-160k_cityscapes-512x1024'],
    'fastfcn': ['fastfcn_r50-d32_jpu_psp_4xb4-80k_ade20k-512x512'],
    'fastscnn': ['fast_scnn_8xb4-160k_cityscapes-512x1024'],
    'fcn': ['fcn_r50-d8_4xb4-80k_ade20k-512x512', 'fcn_r50b-d8_4xb2-80k_cityscapes-769x769'],
    'gcnet': ['gcnet_r50-d8_4xb4-80k_ade20k-512x512'],
    'hrnet': ['fcn_hr18s_4xb4-80k_isaid-896x896'],
    'icnet': ['icnet_r50-d8_4xb2-80k_cityscapes-832x832'],
    'isanet': ['isanet_r50-d8_4xb4-80k_ade20k-512x512'],
    'knet': [
        'knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512',
        'knet-s3_swin-t_upernet_8xb2-adamw-80k_ade20k-512x512',
    ],
    'mae': ['mae-base_upernet_8xb2-amp-160k_ade20k-512x512'],
    'mask2former': ['mask2former_r50_8xb2-160k_ade20k-512x512', 'mask2former_swin-t_8xb2-160k_ade20k-512x512'],
    'maskformer': ['maskformer_r50-d32_8xb2-160k_ade20k-512x512', 'maskformer_swin-t_upernet_8xb2-160k_ade20k-512x512'],
    'mobilenet_v2': ['mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512'],
    'mobilenet_v3': ['mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024'],
    'nonlocal_net': ['nonlocal_r50-d8_4xb4-80k_ade20k-512x512'],
    'ocrnet': ['ocrnet_hr18s_4xb4-80k_ade20k-512x512', 'ocrnet_r101-d8_8xb2-40k_cityscapes-512x1024'],
    'pidnet': ['pidnet-s_2xb6-120k_1024x1024-cityscapes'],
    'point_rend': ['pointrend_r50_4xb4-160k_ade20k-512x512'],
    'poolformer': ['fpn_poolformer_s12_8xb4-40k_ade20k-512x512'],
    'psanet': ['psanet_r50-d8_4xb4-80k_ade20k-512x512'],
    'pspnet': ['pspnet_r50-d8_4xb4-80k_isaid-896x896', 'pspnet_r18b-d8_4xb2-80k_cityscapes-769x769'],
    'resnest': ['resnest_s101-d8_fcn_4xb4-160k_ade20k-512x512'],
    'san': ['san-vit-b16_coco-stuff164k-640x640'],
    'segformer': ['segformer_mit-b0_8xb2-160k_ade20k-512x512'],
    'segmenter': ['segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512'],
    'segnext': ['segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512'],
    'sem_fpn': ['fpn_r50_4xb4-160k_ade20k-512x512'],
    'setr': ['setr_vit-l_mla_8xb2-160k_ade20k-512x512', 'setr_vit-l_pup_8xb2-160k_ade20k-512x512'],
    'stdc': ['stdc1_4xb12-80k_cityscapes-512x1024'],
    'swin': ['swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512'],
    'twins': [
        'twins_svt-s_uperhead_8xb2-160k_ade20k-512x512',
        'twins_pcpvt-s_uperhead_8xb4-160k_ade20k-512x512',
        'twins_svt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512',
        'twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512',
    ],
    'unet': ['unet-s5-d16_fcn_4xb4-40k_hrf-256x256'],
    'upernet': ['upernet_r50_4xb4-80k_ade20k-512x512'],
    'vit': ['vit_deit-b16_upernet_8xb2-80k_ade20k-512x512', 'vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512'],
    'vpd': ['vpd_sd_4xb8-25k_nyu-512x512'],
}
"""Folders of MMSegmentation's configs, each with one config for every kind of backbone and neck in it."""

PUBLISHED = {
    'R101c of the paper': dict(
        type='ResNetV1c',
        depth=50,
        stem_channels=128,
        multi_grid=(1, 2, 4),
        contract_dilation=False,
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
    ),
}
"""Backbones of the paper that no config of MMSegmentation has: a deep stem, multi-grid, strides up to 32."""

_MAPS_ALONE = (dict(output_cls_token=False), 'with `output_cls_token=False`')
CHANGES = {'dpt': _MAPS_ALONE, 'san': _MAPS_ALONE}
"""Changes to the backbone that users of a family need, and their text in the table."""

_FOUR_LAYERS = dict(num_layers=4, img_size=(64, 64))
_SMALL_DARKNET = dict(deepen_factor=0.33, widen_factor=0.25)
SMALL = {
    'VisionTransformer': _FOUR_LAYERS,
    'BEiT': _FOUR_LAYERS,
    'MAE': _FOUR_LAYERS,
    'ResNetV1c': dict(depth=50),
    'ResNeSt': dict(depth=50),
    'SwinTransformer': dict(depths=(1, 1, 1, 1)),
    'SVT': dict(depths=(1, 1, 1, 1)),
    'PCPVT': dict(depths=(1, 1, 1, 1)),
    'UNet': dict(base_channels=16),
    'mmpretrain.ConvNeXt': dict(arch=dict(depths=[1, 1, 1, 1], channels=[96, 192, 384, 768])),
}
"""By type: settings that make a backbone cheaper without changing channels, strides or rounding."""

_R18 = dict(type='ResNet', depth=18)
_R18_CHANNELS = [64, 128, 256, 512]
MMDET = {
    'ResNet': (_R18, None),
    'ResNeXt': (dict(type='ResNeXt', depth=50, groups=32, base_width=4), None),
    'Res2Net': (dict(type='Res2Net', depth=50, scales=4, base_width=26), None),
    'RegNet': (dict(type='RegNet', arch='regnetx_400mf'), None),
    'ResNeSt': (dict(type='ResNeSt', depth=50), None),
    'HRNet': (
        dict(
            type='HRNet',
            extra=dict(
                stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(16,)),
                stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1,) * 2, num_channels=(8, 16)),
                stage3=dict(
                    num_modules=1, num_branches=3, block='BASIC', num_blocks=(1,) * 3, num_channels=(8, 16, 32)
                ),
                stage4=dict(
                    num_modules=1, num_branches=4, block='BASIC', num_blocks=(1,) * 4, num_channels=(8, 16, 32, 64)
                ),
            ),
        ),
        None,
    ),
    'SwinTransformer': (dict(type='SwinTransformer', depths=(1, 1, 1, 1), window_size=7), None),
    'PyramidVisionTransformer': (dict(type='PyramidVisionTransformer', num_layers=[1] * 4), None),
    'PyramidVisionTransformerV2': (
        dict(type='PyramidVisionTransformerV2', embed_dims=32, num_layers=[1] * 4),
        None,
    ),
    'MobileNetV2': (dict(type='MobileNetV2', out_indices=(1, 2, 4, 7)), None),
    'EfficientNet': (dict(type='EfficientNet', arch='b0', out_indices=(2, 3, 4, 5)), None),
    'CSPDarknet': (dict(type='CSPDarknet', out_indices=(1, 2, 3, 4), **_SMALL_DARKNET), None),
    'CSPNeXt': (dict(type='CSPNeXt', out_indices=(1, 2, 3, 4), **_SMALL_DARKNET), None),
    'Darknet': (dict(type='Darknet', out_indices=(2, 3, 4, 5)), None),
    'HourglassNet': (
        dict(type='HourglassNet', downsample_times=2, num_stacks=2, stage_channels=(16, 16, 24),
             stage_blocks=(1, 1, 1), feat_channel=16),
        None,
    ),
    'SSDVGG': (dict(type='SSDVGG', depth=16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4),
                    out_feature_indices=(15, 22, 34)), None),
    'TridentResNet': (
        dict(type='TridentResNet', depth=50, num_branch=3, test_branch_idx=1, trident_dilations=(1, 2, 3),
             num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
        None,
    ),
    'DetectoRS_ResNet': (dict(type='DetectoRS_ResNet', depth=50, conv_cfg=dict(type='ConvAWS')), None),
    'ResNet + FPN': (_R18, dict(type='FPN', in_channels=_R18_CHANNELS, out_channels=16, num_outs=5)),
    'ResNet + PAFPN': (_R18, dict(type='PAFPN', in_channels=_R18_CHANNELS, out_channels=16, num_outs=4)),
    'ResNet + ChannelMapper': (_R18, dict(type='ChannelMapper', in_channels=_R18_CHANNELS, out_channels=16)),
    'ResNet + HRFPN': (_R18, dict(type='HRFPN', in_channels=_R18_CHANNELS, out_channels=16)),
    'ResNet + NASFPN': (
        _R18,
        dict(type='NASFPN', in_channels=_R18_CHANNELS, out_channels=16, num_outs=5, stack_times=1),
    ),
    'ResNet + CSPNeXtPAFPN': (
        dict(_R18, out_indices=(1, 2, 3)),
        dict(type='CSPNeXtPAFPN', in_channels=_R18_CHANNELS[1:], out_channels=16, num_csp_blocks=1),
    ),
}  # fmt: skip
"""MMDetection's backbones, and its necks behind a ResNet-18."""

_PATCHES = dict(dynamic_img_size=True, dynamic_img_pad=True, depth=4, out_indices=(3,))
_FIXED = dict(img_size=64)
TIMM = {
    'resnet10t': {},
    'resnext26ts': {},
    'res2net50_26w_4s': {},
    'seresnext26ts': {},
    'resnest14d': {},
    'regnetx_002': {},
    'regnety_002': {},
    'hrnet_w18_small': {},
    'densenet121': {},
    'dla34': {},
    'vgg11_bn': {},
    'cspdarknet53': {},
    'xception41': {},
    'repvgg_a0': {},
    'dm_nfnet_f0': {},
    'ese_vovnet19b_dw': {},
    'hgnetv2_b0': {},
    'mnasnet_small': {},
    'ghostnetv2_100': {},
    'mobilenetv3_small_050': {},
    'mobilenetv4_conv_small_035': {},
    'mobilenetv4_hybrid_medium': {},
    'efficientnet_b0': {},
    'tf_efficientnet_lite0': {},
    'tf_efficientnetv2_b0': {},
    'convnext_atto': {},
    'convnextv2_atto': {},
    'inception_next_atto': {},
    'mambaout_femto': {},
    'starnet_s050': {},
    'rdnet_tiny': {},
    'fastvit_t8': {},
    'repvit_m0_9': {},
    'edgenext_xx_small': {},
    'mobilevit_xxs': {},
    'mobilevitv2_050': {},
    'efficientvit_b0': {},
    'efficientvit_m0': {},
    'tiny_vit_5m_224': {},
    'nextvit_small': {},
    'poolformer_s12': {},
    'poolformerv2_s12': {},
    'caformer_s18': {},
    'pvt_v2_b0': {},
    'twins_svt_small': {},
    'twins_pcpvt_small': {},
    'swin_tiny_patch4_window7_224': _FIXED,
    'swinv2_tiny_window8_256': _FIXED,
    'swinv2_cr_tiny_ns_224': _FIXED,
    'davit_tiny': {},
    'focalnet_tiny_srf': {},
    'maxvit_nano_rw_256': _FIXED,
    'hieradet_small': {},
    'mvitv2_tiny': {},
    'vit_tiny_patch16_224': _PATCHES,
    'deit3_small_patch16_224': _PATCHES,
    'vit_small_patch14_dinov2': _PATCHES,
    'vit_small_patch16_dinov3': _PATCHES,
    'eva02_tiny_patch14_224': _PATCHES,
    'beitv2_base_patch16_224': dict(_FIXED, depth=4, out_indices=(3,)),
    'samvit_base_patch16': dict(_FIXED, depth=4, out_indices=(3,)),
    'xcit_nano_12_p8_224': dict(depth=4, out_indices=(3,)),
    'crossvit_tiny_240': {},
    'tresnet_m': {},
}
"""timm's models through MMSegmentation's `TIMMBackbone`, with settings besides ``features_only``."""

TIMM_OF_ONE_SIZE = {
    'inception_v3': 128,
    'efficientformerv2_s0': 224,
    'coatnet_nano_rw_224': 224,
    'coat_lite_tiny': 224,
    'hiera_tiny_224': 224,
    'levit_128s': 224,
    'gcvit_xxtiny': 224,
}
"""Further models of timm that need a larger image, or one of a fixed size."""
