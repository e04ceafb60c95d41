# Not in the paper: its recipe for Cityscapes with its panoptic model.
_base_ = [
    '../_base_/models/maskformer_r50-6enc_panoptic.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_90k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things),
)
