# PerPixelBaseline+ with the backbone and the widths of maskformer_effnet-lite0.py; see per-pixel-baseline-plus_r50.py.
_base_ = './maskformer_effnet-lite0.py'
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=1)),
    decode_head=dict(
        _delete_=True,
        type='mmmaskformer.PerPixelPlusHead',
        channels=_base_.model.decode_head.channels,
        pixel_decoder=_base_.model.decode_head.pixel_decoder,
        transformer_decoder=_base_.model.decode_head.transformer_decoder,
        criterion=dict(type='mmmaskformer.PixelCrossEntropy', loss_weight=1.0),
    ),
)
