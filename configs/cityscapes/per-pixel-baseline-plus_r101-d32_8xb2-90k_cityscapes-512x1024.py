# Paper, table 2: mIoU 78.5, PQ-St 60.2. There is no official config or checkpoint of it.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_r101.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_90k.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
