# COCO panoptic, 133 classes, the 80 things first: the published recipe (official configs), augmented as for DETR.
# Left out: the official loader puts images of one orientation into a batch.
# Swin-L was trained with max_size = 1000; its config changes the training pipeline.
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data and the labels of their things; the model takes both from here: _base_.num_classes, _base_.things.
num_classes = 133
things = list(range(80))
data_root = 'data/coco'
short_edges = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
test_short_edge = 800
max_size = 1333

# No prefix: the hosts' inference functions look for this very name.
load_image = dict(type='LoadImageFromFile')
# As published, images without segments are used.
load_segments = dict(type='mmmaskformer.LoadPanopticAnnotations', allow_empty=True)
load_segments_if_any = dict(load_segments, allow_missing=True)
resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=short_edges, max_size=max_size)
resize_for_test = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)

train_pipeline = [
    load_image,
    load_segments,
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(
        type='mmcv.RandomChoice',
        prob=[0.5, 0.5],
        transforms=[
            [resize],
            [
                dict(type='mmmaskformer.ResizeShortestEdge', short_edge=[400, 500, 600], max_size=None),
                dict(type='mmmaskformer.RandomCropRange', min_size=384, max_size=600),
                resize,
            ],
        ],
    ),
    # As published, segments that the crop emptied stay targets.
    dict(type='mmmaskformer.PackPanopticInputs', keep_vanished=True),
]
# The segments come after the resize: scores are compared at the size of the file.
test_pipeline = [load_image, resize_for_test, load_segments_if_any, dict(type='mmmaskformer.PackPanopticInputs')]
# For --tta: our choice, the paper augments semantic inference only.
tta_pipeline = [
    load_image,
    resize_for_test,
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=1600) for edge in (640, 800, 960)],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_segments_if_any],
            [dict(type='mmmaskformer.PackPanopticInputs')],
        ],
    ),
]

# 64 GPUs x 1 = the published batch of 64, which the learning rate is for.
auto_scale_lr = dict(enable=False, base_batch_size=64)
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmmaskformer.ResumableSampler', shuffle=True),
    dataset=dict(
        type='mmmaskformer.CocoPanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017', seg='annotations/panoptic_train2017'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmaskformer.CocoPanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017', seg='annotations/panoptic_val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskformer.PanopticMetric')
test_evaluator = val_evaluator
