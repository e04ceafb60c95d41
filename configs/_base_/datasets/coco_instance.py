# COCO instance segmentation, 80 classes, all things. Not in the paper. The dataset and metric extend MMDetection's and
# report faults of the annotation file.
# The augmentation of coco_panoptic.py with MMDetection's transforms, which also transform boxes and masks.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/loaders.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 80
things = list(range(80))
max_size = 1333

# No prefix: the hosts' inference functions compare this type name.
load_image = dict(type='LoadImageFromFile')
load_instances = dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(
    type='mmcv.RandomChoiceResize',
    resize_type='mmdet.Resize',
    scales=[(max_size, edge) for edge in range(480, 801, 32)],
    keep_ratio=True,
    backend='pillow',
)

train_pipeline = [
    load_image,
    load_instances,
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(
        type='mmcv.RandomChoice',
        prob=[0.5, 0.5],
        transforms=[
            [resize],
            [
                # No limit.
                dict(resize, scales=[(10000, edge) for edge in (400, 500, 600)]),
                dict(
                    type='mmdet.RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True
                ),
                resize,
            ],
        ],
    ),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='mmdet.Resize', scale=(max_size, 800), keep_ratio=True, backend='pillow'),
    dict(type='mmdet.PackDetInputs'),
]

# 64 GPUs x 1 = a batch of 64, as for panoptic, which the learning rate is for.
auto_scale_lr = dict(enable=False, base_batch_size=64)
data = dict(type='mmmaskformer.CocoInstanceDataset', data_root='data/coco')
training = dict(ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017'))
validation = dict(ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017'))
filter_cfg = dict(filter_empty_gt=True, min_size=32)
train_dataloader = dict(
    batch_size=1, num_workers=2, dataset=dict(**data, **training, filter_cfg=filter_cfg, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=2, dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmmaskformer.CocoInstanceMetric', ann_file='data/coco/' + validation['ann_file'], metric=['segm']
)
test_evaluator = val_evaluator
