# Paper: mIoU 32.4 single scale, 34.4 multi scale; PQ-St 15.5.
_base_ = [
    '../_base_/models/per-pixel-baseline_r50.py',
    '../_base_/datasets/cocostuff10k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_60k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
