# Synthetic scenes of mmmaskformer.datasets.scenes, 9 classes, 80 to 112 pixels high and 112 to 144 wide.
# Augmentation is light and without colour jitter, because brightness and colours of the scenes already vary.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes; model configs read it: dict(num_classes=_base_.num_classes).
num_classes = 9
crop_size = (96, 96)
test_short_edge, max_size = 96, 288

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    ResizeShortestEdge=dict(short_edge=[72, 80, 88, 96, 112, 128, 144], max_size=max_size),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
)
steps = [step for step in _base_.train_pipeline if step.type != 'mmmaskformer.ColorJitterSSD']
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in steps]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=edge) for edge in (72, 96, 128)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

data = dict(type='mmmaskformer.ScenesDataset', data_root='data/scenes')
training, validation = (
    dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}') for split in ('train', 'val')
)
train_dataloader = dict(
    batch_size=8, num_workers=2, dataset=dict(**data, data_prefix=training, pipeline=train_pipeline)
)
val_dataloader = dict(
    num_workers=2, dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
