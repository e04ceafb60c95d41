# ADE20K for the models with 640 x 640 crops: every size of ade20k.py times 1.25.
_base_ = './ade20k.py'
crop_size = (640, 640)
test_short_edge = crop_size[0]
max_size = 4 * test_short_edge

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    ResizeShortestEdge=dict(short_edge=[int(test_short_edge * x * 0.1) for x in range(5, 21)], max_size=max_size),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
)
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in _base_.train_pipeline]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [
    dict(resize, short_edge=int(factor * test_short_edge), max_size=7 * test_short_edge)
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
