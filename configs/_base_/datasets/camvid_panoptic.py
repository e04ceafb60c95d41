# CamVid, 11 classes, approximate panoptic: the instances of car, pedestrian and bicyclist are connected components.
# 367 training and 101 validation images, 480 x 360 pixels (width x height). The augmentation of camvid.py; every image
# has segments, and segments without a pixel in the crop are dropped.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 11
things = [8, 9, 10]
crop_size = (360, 480)
test_short_edge = crop_size[0]
max_size = 4 * test_short_edge

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    LoadPanopticAnnotations=dict(allow_empty=False),
    ResizeShortestEdge=dict(short_edge=[int(test_short_edge * x * 0.1) for x in range(5, 21)], max_size=max_size),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
    PackPanopticInputs=dict(keep_vanished=False),
)
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in _base_.train_pipeline]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=int(factor * test_short_edge)) for factor in (0.75, 1.0, 1.25)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

data = dict(type='mmmaskformer.CamVidPanopticDataset', data_root='data/camvid')
training, validation = (
    dict(ann_file=f'panoptic_{split}.json', data_prefix=dict(img=f'images/{split}', seg=f'panoptic_{split}'))
    for split in ('train', 'val')
)
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
