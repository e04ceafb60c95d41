# CamVid panoptic on two CPU cores in about half an hour: training crops of 240 x 320, test at the full 360 x 480.
_base_ = [
    '../_base_/models/maskformer_effnet-lite0_panoptic.py',
    '../_base_/datasets/camvid_panoptic.py',
    '../_base_/default_runtime_mmdet.py',
]
max_iters = 1000
batch_size = 6
crop_size = (240, 320)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmmaskformer.LoadPanopticAnnotations'),
    dict(type='mmmaskformer.ResizeShortestEdge', short_edge=[180, 240, 300, 360, 420, 480], max_size=1440),
    dict(type='mmseg.RandomCrop', crop_size=crop_size),
    dict(type='mmmaskformer.ColorJitterSSD'),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmmaskformer.PadToSize', size=crop_size, image_value=128),
    dict(type='mmmaskformer.PackPanopticInputs'),
]
model = dict(
    panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things),
    test_cfg=dict(panoptic=dict(object_threshold=0.5)),
)
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
train_dataloader = dict(batch_size=batch_size, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmmaskformer.PublishedOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.3),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters + 1, by_epoch=False),
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=100, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
