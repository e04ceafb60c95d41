# Mapillary Vistas v1.2, 65 classes: the published recipe, crops of 1280 x 1280, tests with a long side of 2048.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes and label of ignored pixels; model configs read both.
num_classes = 65
ignore_index = 65
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
# The three scales of the paper; the official configs have none.
edges = [int(factor * test_long_edge) for factor in (0.5, 1.0, 1.5)]
scales = [dict(resize, short_edge=edge, max_size=edge) for edge in edges]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2 images = the published batch size of 16, which belongs to the learning rate.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.MapillaryDataset', data_root='data/mapillary')
training = dict(img_path='training/images', seg_map_path='training/labels')
validation = dict(img_path='validation/images', seg_map_path='validation/labels')
train_dataloader = dict(dataset=dict(**data, data_prefix=training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ignore_index=ignore_index)
test_evaluator = val_evaluator
