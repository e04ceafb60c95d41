# MaskFormer with Swin-B, pre-trained on ImageNet-22k at 384 x 384 pixels, as published.
_base_ = './maskformer_swin-s.py'
model = dict(
    backbone=dict(
        embed_dims=128,
        num_heads=(4, 8, 16, 32),
        window_size=12,
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_base_patch4_window12_384_22k_20220317-e5c09f74.pth',
        ),
    ),
)
