# MaskFormer with Swin-T in MMDetection's stock detector, as published for panoptic segmentation: no encoder.
_base_ = './maskformer_r50-6enc_panoptic.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.SwinTransformer',
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.3,
        # The weights of Swin's authors; loading renames them.
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth',
        ),
    ),
    panoptic_head=dict(
        pixel_decoder=dict(_delete_=True, type='mmmaskformer.FPNPixelDecoder', norm_groups=32),
    ),
)
