# CamVid, 11 classes, 480 x 360 pixels (width x height): 367 training, 101 validation and 233 test images.
# The published augmentation at the scale of these images, for small GPUs. Validation is easy: its frames come from the
# same drives as the training frames. Report results on the test images.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes; model configs read it: dict(num_classes=_base_.num_classes).
num_classes = 11
crop_size = (360, 480)
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

data = dict(type='mmmaskformer.CamVidDataset', data_root='data/camvid')
training, validation, testing = (
    dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}') for split in ('train', 'val', 'test')
)
train_dataloader = dict(
    batch_size=4, num_workers=2, dataset=dict(**data, data_prefix=training, pipeline=train_pipeline)
)
val_dataloader = dict(
    num_workers=2, dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline)
)
test_dataloader = dict(num_workers=2, dataset=dict(**data, data_prefix=testing, test_mode=True, pipeline=test_pipeline))
