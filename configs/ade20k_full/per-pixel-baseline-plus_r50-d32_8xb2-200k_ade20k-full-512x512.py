# Paper: mIoU 13.9 single scale; PQ-St 9.0.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_r50.py',
    '../_base_/datasets/ade20k_full.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_200k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(seg_pad_val=_base_.ignore_index),
    decode_head=dict(num_classes=_base_.num_classes, ignore_index=_base_.ignore_index),
)
