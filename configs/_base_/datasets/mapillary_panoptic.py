# Mapillary Vistas v1.2 panoptic, 65 classes, 37 of them things. Not in the paper: its recipe for Mapillary Vistas
# (mapillary.py) with panoptic targets.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 65
# fmt: off
things = [
    0, 1, 8, 19, 20, 21, 22, 23, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 44, 45, 46, 47, 48, 49, 50, 51, 52,
    53, 54, 55, 56, 57, 59, 60, 61, 62,
]
# fmt: on
crop_size = (1280, 1280)
test_long_edge = 2048

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_long_edge, max_size=test_long_edge)
sizes = dict(
    ResizeShortestEdge=dict(
        short_edge=[int(test_long_edge * x * 0.1) for x in range(5, 21)], max_size=4 * test_long_edge
    ),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
)
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in _base_.train_pipeline]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=edge, max_size=edge) for edge in (1536, 2048, 2560)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.MapillaryPanopticDataset', data_root='data/mapillary')
training = dict(
    ann_file='training/panoptic/panoptic_2018.json', data_prefix=dict(img='training/images', seg='training/panoptic')
)
validation = dict(
    ann_file='validation/panoptic/panoptic_2018.json',
    data_prefix=dict(img='validation/images', seg='validation/panoptic'),
)
train_dataloader = dict(dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
