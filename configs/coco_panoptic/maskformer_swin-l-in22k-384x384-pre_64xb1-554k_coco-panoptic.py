# Paper: PQ 52.7. As published, images in training are at most 1000 pixels long.
_base_ = [
    '../_base_/models/maskformer_swin-l-in22k_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/adamw_swin.py',
    '../_base_/schedules/multistep_554k_warmup.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things))
resize_in_training = dict(_base_.resize_in_training, max_size=1000)
crop = [*_base_.crop[:-1], resize_in_training]
load_image, load_segments, flip, choice, pack = _base_.train_pipeline
choice = dict(choice, transforms=[[resize_in_training], crop])
train_pipeline = [load_image, load_segments, flip, choice, pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
