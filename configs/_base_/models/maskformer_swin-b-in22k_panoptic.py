# MaskFormer with Swin-B, pre-trained on ImageNet-22k at 384 x 384, in MMDetection's stock detector, as published.
_base_ = './maskformer_swin-s_panoptic.py'
model = dict(
    backbone=dict(
        embed_dims=128,
        num_heads=(4, 8, 16, 32),
        window_size=12,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384_22k.pth'
        ),
    ),
)
