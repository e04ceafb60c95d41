# Paper: mIoU 46.0 single scale, 48.1 multi scale.
_base_ = [
    '../_base_/models/maskformer_r101c.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
