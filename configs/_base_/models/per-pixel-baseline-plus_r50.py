# PerPixelBaseline+ with ResNet-50, as published: the network of MaskFormer without its class head, with one query per
# class. A config that inherits from this adds model.decode_head.num_classes.
_base_ = './maskformer_r50.py'
model = dict(
    # As published: test images are not padded.
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
