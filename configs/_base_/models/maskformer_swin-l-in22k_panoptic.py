# MaskFormer with Swin-L, pre-trained on ImageNet-22k at 384 x 384, in MMDetection's stock detector, as published.
_base_ = './maskformer_swin-b-in22k_panoptic.py'
model = dict(
    backbone=dict(
        embed_dims=192,
        num_heads=(6, 12, 24, 48),
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth'
        ),
    ),
)
