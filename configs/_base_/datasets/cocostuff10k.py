# COCO-Stuff-10K, 171 classes: the published recipe, 640 x 640 crops at 0.5 to 1.5 times the size of the test.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes; model configs read it: dict(num_classes=_base_.num_classes).
num_classes = 171
crop_size = (640, 640)
test_short_edge = crop_size[0]
max_size = 4 * test_short_edge

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    ResizeShortestEdge=dict(short_edge=[int(test_short_edge * x * 0.1) for x in range(5, 16)], max_size=max_size),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
)
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in _base_.train_pipeline]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
# As on ADE20K.
scales = [
    dict(resize, short_edge=int(factor * test_short_edge), max_size=7 * test_short_edge)
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 4 = the published batch of 32, which the learning rate is for.
auto_scale_lr = dict(enable=False, base_batch_size=32)
data = dict(type='mmmaskformer.COCOStuff10KDataset', data_root='data/coco_stuff10k')
training = dict(img_path='images/train2014', seg_map_path='annotations/train2014')
validation = dict(img_path='images/test2014', seg_map_path='annotations/test2014')
train_dataloader = dict(batch_size=4, dataset=dict(**data, data_prefix=training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
