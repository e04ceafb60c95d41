# Synthetic scenes, 9 classes, things and stuff mixed, 80 to 112 pixels high and 112 to 144 wide, for MMDetection.
# The augmentation of scenes.py; tests are at a larger scale, because the things are small. Every image has segments;
# segments without a pixel in the crop are dropped.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 9
things = [1, 3, 5, 7, 8]
crop_size = (96, 96)
test_short_edge, max_size = 128, 288

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    LoadPanopticAnnotations=dict(allow_empty=False),
    ResizeShortestEdge=dict(short_edge=[72, 80, 88, 96, 112, 128, 144], max_size=max_size),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
    PackPanopticInputs=dict(keep_vanished=False),
)
steps = [step for step in _base_.train_pipeline if step.type != 'mmmaskformer.ColorJitterSSD']
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in steps]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=edge) for edge in (96, 128, 160)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

data = dict(type='mmmaskformer.ScenesPanopticDataset', data_root='data/scenes')
training, validation = (
    dict(ann_file=f'panoptic_{split}.json', data_prefix=dict(img=f'images/{split}', seg=f'panoptic_{split}'))
    for split in ('train', 'val')
)
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
