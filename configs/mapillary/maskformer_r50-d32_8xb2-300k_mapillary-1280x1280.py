# Paper: mIoU 53.1 single scale, 55.4 multi scale.
_base_ = [
    '../_base_/models/maskformer_r50.py',
    '../_base_/datasets/mapillary.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_300k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(seg_pad_val=_base_.ignore_index),
    decode_head=dict(num_classes=_base_.num_classes, ignore_index=_base_.ignore_index),
)
