# MaskFormer with ResNet-101, as published.
_base_ = './maskformer_r50.py'
model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
