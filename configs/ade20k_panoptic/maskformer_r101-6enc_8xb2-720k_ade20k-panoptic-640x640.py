# Paper: PQ 35.7.
_base_ = [
    '../_base_/models/maskformer_r101-6enc_panoptic.py',
    '../_base_/datasets/ade20k_panoptic.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/poly_720k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things),
    test_cfg=dict(panoptic=dict(object_threshold=0.7), semantic=dict()),
)
