# MaskFormer with ResNet-50, as published. A config that inherits from this adds model.decode_head.num_classes.
# MMSegmentation's EncoderDecoder also works; ours computes the same labels with a fraction of the time and memory.
model = dict(
    type='mmmaskformer.EncoderDecoder',
    data_preprocessor=dict(
        type='mmmaskformer.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='mmseg.ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        # Frozen: statistics and affine parameters of ImageNet.
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        # Without a checkpoint, mmseg would initialise the last norm of each block, which is frozen, with zeros.
        zero_init_residual=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    decode_head=dict(
        type='mmmaskformer.MaskFormerHead',
        num_queries=100,
        channels=256,
        pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=32),
        transformer_decoder=dict(
            type='mmmaskformer.TransformerDecoder', num_layers=6, num_heads=8, ffn_channels=2048, dropout=0.1
        ),
        # Its costs take the weights of the losses.
        matcher=dict(type='mmmaskformer.HungarianMatcher'),
        criterion=dict(
            type='mmmaskformer.SetCriterion',
            loss_weights=dict(cls=1.0, mask=20.0, dice=1.0),
            no_object_weight=0.1,
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
