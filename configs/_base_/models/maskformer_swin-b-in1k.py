# MaskFormer with Swin-B, pre-trained on ImageNet-1k at 384 x 384 pixels, as published.
_base_ = './maskformer_swin-b-in22k.py'
model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_base_patch4_window12_384_20220317-55b0104a.pth',
        ),
    ),
)
