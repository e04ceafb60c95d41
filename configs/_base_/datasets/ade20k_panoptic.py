# ADE20K panoptic, 150 classes in the order of the semantic benchmark, 100 of them things: the published recipe with
# 640 x 640 crops (official configs).
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 150
# fmt: off
things = [
    7, 8, 10, 12, 14, 15, 18, 19, 20, 22, 23, 24, 27, 30, 31, 32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 47,
    49, 50, 53, 55, 56, 57, 58, 62, 64, 65, 66, 67, 69, 70, 71, 72, 73, 74, 75, 76, 78, 80, 81, 82, 83, 85, 86, 87,
    88, 89, 90, 92, 93, 95, 97, 98, 102, 103, 104, 107, 108, 110, 111, 112, 115, 116, 118, 119, 120, 121, 123, 124,
    125, 126, 127, 129, 130, 132, 133, 134, 135, 136, 137, 138, 139, 142, 143, 144, 146, 147, 148, 149,
]
# fmt: on
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
    dict(resize, short_edge=int(factor * test_short_edge), max_size=5 * test_short_edge) for factor in (0.75, 1.0, 1.25)
]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2 images = the published batch size of 16, which belongs to the learning rate.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.ADE20KPanopticDataset', data_root='data/ade/ADEChallengeData2016')
training = dict(
    ann_file='ade20k_panoptic_train.json', data_prefix=dict(img='images/training', seg='ade20k_panoptic_train')
)
# mIoU is computed against the label maps of the semantic benchmark, as published.
validation = dict(
    ann_file='ade20k_panoptic_val.json',
    data_prefix=dict(img='images/validation', seg='ade20k_panoptic_val', labels='annotations/validation'),
)
train_dataloader = dict(dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
# As published: one test gives PQ and mIoU, and PQ uses the areas of the JSON file, which for stuff are those before
# things cover it.
val_evaluator = dict(listed_areas=True, also=[dict(type='mmmaskformer.SemanticMetric')])
test_evaluator = val_evaluator
