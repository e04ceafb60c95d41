# Paper: PQ 47.6.
_base_ = [
    '../_base_/models/maskformer_r101-6enc_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/multistep_554k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things))
