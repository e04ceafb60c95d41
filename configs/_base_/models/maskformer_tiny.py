# A MaskFormer small enough to train from scratch on two CPU cores: ResNet-18 of half width, 64 channels, 3 layers.
_base_ = './maskformer_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        style='pytorch',
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        num_queries=20,
        channels=64,
        pixel_decoder=dict(norm_groups=8),
        transformer_decoder=dict(num_layers=3, num_heads=4, ffn_channels=256),
    ),
)
