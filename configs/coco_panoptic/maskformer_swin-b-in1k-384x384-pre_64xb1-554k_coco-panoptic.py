# Paper: PQ 51.1.
_base_ = [
    '../_base_/models/maskformer_swin-b-in1k_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/adamw_swin.py',
    '../_base_/schedules/multistep_554k_warmup.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things))
