# A small MaskFormer to train from scratch on two CPU cores: ResNet-10 with features from stride 2 on,
# 64 channels, 3 decoder layers.
_base_ = './maskformer_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg.TIMMBackbone',
        model_name='resnet10t',
        features_only=True,
        pretrained=False,
        out_indices=(0, 1, 2, 3),
    ),
    decode_head=dict(
        num_queries=20,
        channels=64,
        pixel_decoder=dict(norm_groups=8),
        transformer_decoder=dict(num_layers=3, num_heads=4, ffn_channels=256, dropout=0.0),
        # In a short training run, queries learn "no object" sooner with the full weight.
        criterion=dict(no_object_weight=1.0),
    ),
)
