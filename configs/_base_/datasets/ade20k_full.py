# ADE20K-Full, 847 classes, labels of 16 bits: the published recipe, that of ADE20K with 512 x 512 crops.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes and label of ignored pixels; model configs read both.
num_classes = 847
ignore_index = 65535
crop_size = (512, 512)
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
# The paper has no multi-scale results here, and the official configs have no scales: these are detectron2's defaults.
scales = [dict(resize, short_edge=edge, max_size=4000) for edge in range(400, 1201, 100)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2 images = the published batch size of 16, which belongs to the learning rate.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.ADE20KFullDataset', data_root='data/ade20k_full')
training = dict(img_path='images/training', seg_map_path='annotations/training')
validation = dict(img_path='images/validation', seg_map_path='annotations/validation')
train_dataloader = dict(dataset=dict(**data, data_prefix=training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ignore_index=ignore_index)
test_evaluator = val_evaluator
