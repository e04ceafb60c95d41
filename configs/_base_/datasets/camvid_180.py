# CamVid at half its size, for comparisons on one CPU core: the sizes are half of those of the configs with crops of
# 240 x 320. Scores are still counted at the size of the files.
_base_ = './camvid.py'
crop_size = (128, 160)
test_short_edge = 180
max_size = 4 * test_short_edge

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    ResizeShortestEdge=dict(short_edge=[90, 120, 150, 180, 210, 240], max_size=max_size),
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

train_dataloader = dict(batch_size=6, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
