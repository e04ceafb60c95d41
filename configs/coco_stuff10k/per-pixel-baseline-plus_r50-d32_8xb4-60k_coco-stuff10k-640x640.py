# Paper: mIoU 34.2 single scale, 35.8 multi scale; PQ-St 24.6.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_r50.py',
    '../_base_/datasets/cocostuff10k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_60k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
