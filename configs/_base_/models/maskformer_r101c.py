# MaskFormer with ResNet-101c, as published: a stem of three convolutions, the last of 128 channels, and dilations 1, 2
# and 4 in the three blocks of the last stage, whose stride stays 32.
# Its ImageNet weights come from detectron2; the first run downloads and converts them.
_base_ = './maskformer_r101.py'
model = dict(
    backbone=dict(
        type='mmseg.ResNetV1c',
        stem_channels=128,
        multi_grid=(1, 2, 4),
        init_cfg=dict(checkpoint='zoo://deeplab_r103'),
    ),
)
