# MaskFormer with ResNet-50 and a transformer encoder of 6 layers in MMDetection's stock detector, as published for
# panoptic segmentation. A config that inherits from this sets the classes:
# panoptic_head=dict(num_classes=..., things=[...]); the fusion head takes them from there.
model = dict(
    type='mmdet.MaskFormer',
    data_preprocessor=dict(
        type='mmmaskformer.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        # COCO images are padded to the largest of the batch only.
        pad_size_divisor=1,
    ),
    backbone=dict(
        type='mmdet.ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        # Frozen: statistics and affine parameters of ImageNet.
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        # Without a checkpoint, mmdet would initialise the last norm of each block, which is frozen, with zeros.
        zero_init_residual=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    panoptic_head=dict(
        type='mmmaskformer.MaskFormerPanopticHead',
        num_queries=100,
        channels=256,
        pixel_decoder=dict(
            type='mmmaskformer.TransformerEncoderPixelDecoder',
            norm_groups=32,
            num_layers=6,
            num_heads=8,
            ffn_channels=2048,
            dropout=0.1,
        ),
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
    panoptic_fusion_head=dict(type='mmmaskformer.MaskFormerFusionHead'),
    train_cfg=None,
    # Further results of the same forward pass: semantic=dict(), general=dict(), instance=dict(), detr=dict().
    test_cfg=dict(panoptic=dict(object_threshold=0.8, overlap_threshold=0.8)),
)
