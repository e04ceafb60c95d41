# COCO panoptic, 133 classes, the 80 things first: the published recipe (official configs), augmented as for DETR: no
# colour jitter, no padding. Swin-L was trained with max_size = 1000; its config changes the training pipeline.
# Configs that inherit this file must override its pipelines: overriding short_edges alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 133
things = list(range(80))
test_short_edge, max_size = 800, 1333

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
resize_in_training = dict(resize, short_edge=list(range(480, 801, 32)))
crop = [
    dict(resize, short_edge=[400, 500, 600], max_size=None),
    dict(type='mmmaskformer.RandomCropRange', min_size=384, max_size=600),
    resize_in_training,
]
train_pipeline = [
    _base_.load_image,
    _base_.load_segments,
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmcv.RandomChoice', prob=[0.5, 0.5], transforms=[[resize_in_training], crop]),
    _base_.train_pipeline[-1],
]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=edge, max_size=2 * test_short_edge) for edge in (640, 800, 960)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 64 GPUs x 1 = the published batch of 64, which the learning rate is for.
auto_scale_lr = dict(enable=False, base_batch_size=64)
data = dict(type='mmmaskformer.CocoPanopticDataset', data_root='data/coco')
training = dict(
    ann_file='annotations/panoptic_train2017.json',
    data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
)
validation = dict(
    ann_file='annotations/panoptic_val2017.json', data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017')
)
train_dataloader = dict(batch_size=1, num_workers=2, dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(num_workers=2, dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
