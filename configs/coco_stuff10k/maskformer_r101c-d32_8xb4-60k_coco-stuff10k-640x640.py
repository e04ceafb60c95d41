# Paper: mIoU 38.0 single scale, 39.3 multi scale.
_base_ = [
    '../_base_/models/maskformer_r101c.py',
    '../_base_/datasets/cocostuff10k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_60k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
