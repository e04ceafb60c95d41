# Paper: mIoU 41.9 single scale, 42.9 multi scale; PQ-St 28.3.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_r50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
