# Paper: mIoU 54.1 single scale, 55.6 multi scale.
_base_ = [
    '../_base_/models/maskformer_swin-l-in22k.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/adamw_swin.py',
    '../_base_/schedules/poly_160k_warmup.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
