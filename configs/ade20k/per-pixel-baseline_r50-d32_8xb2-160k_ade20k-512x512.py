# Paper: mIoU 39.2 single scale, 40.9 multi scale; PQ-St 21.6.
_base_ = [
    '../_base_/models/per-pixel-baseline_r50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
