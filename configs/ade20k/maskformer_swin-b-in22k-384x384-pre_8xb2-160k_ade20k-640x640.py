# Paper: mIoU 52.7 single scale, 53.9 multi scale.
_base_ = [
    '../_base_/models/maskformer_swin-b-in22k.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/adamw_swin.py',
    '../_base_/schedules/poly_160k_warmup.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
