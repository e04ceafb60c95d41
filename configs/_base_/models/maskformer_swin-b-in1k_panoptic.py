# MaskFormer with Swin-B, pre-trained on ImageNet-1k at 384 x 384, in MMDetection's stock detector, as published.
_base_ = './maskformer_swin-b-in22k_panoptic.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384.pth'
        )
    )
)
