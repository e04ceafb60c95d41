# The panoptic version of maskformer_tiny.py: the same model in MMDetection's detector.
_base_ = './maskformer_r50-6enc_panoptic.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='mmseg.TIMMBackbone',
        model_name='resnet10t',
        features_only=True,
        pretrained=False,
        out_indices=(0, 1, 2, 3),
    ),
    panoptic_head=dict(
        num_queries=20,
        channels=64,
        pixel_decoder=dict(_delete_=True, type='mmmaskformer.FPNPixelDecoder', norm_groups=8),
        transformer_decoder=dict(num_layers=3, num_heads=4, ffn_channels=256, dropout=0.0),
        # Dice weights small things more than the mean over all pixels does.
        criterion=dict(loss_weights=dict(dice=3.0)),
    ),
)
