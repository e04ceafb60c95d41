# Instance segmentation with the panoptic recipe. Not in the paper.
_base_ = [
    '../_base_/models/maskformer_r50-6enc_panoptic.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/adamw_resnet.py',
    '../_base_/schedules/multistep_554k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things),
    test_cfg=dict(_delete_=True, instance=dict(max_per_image=100)),
)
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
