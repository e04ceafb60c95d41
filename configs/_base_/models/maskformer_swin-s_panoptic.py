# MaskFormer with Swin-S in MMDetection's stock detector, as published.
_base_ = './maskformer_swin-t_panoptic.py'
model = dict(
    backbone=dict(
        depths=(2, 2, 18, 2),
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
        ),
    ),
)
