# PerPixelBaseline with ResNet-50, as published: the pixel decoder of MaskFormer with one logit per class and pixel. A
# config that inherits from this adds model.decode_head.num_classes.
_base_ = './maskformer_r50.py'
model = dict(
    # As published: test images are not padded.
    data_preprocessor=dict(test_cfg=dict(size_divisor=1)),
    decode_head=dict(
        _delete_=True,
        type='mmmaskformer.PerPixelHead',
        channels=_base_.model.decode_head.channels,
        pixel_decoder=_base_.model.decode_head.pixel_decoder,
        criterion=dict(type='mmmaskformer.PixelCrossEntropy', loss_weight=1.0),
    ),
)
