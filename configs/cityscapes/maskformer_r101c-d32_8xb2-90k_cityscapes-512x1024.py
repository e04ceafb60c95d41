# Paper: mIoU 79.7 single scale, 81.4 multi scale.
_base_ = [
    '../_base_/models/maskformer_r101c.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_90k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
