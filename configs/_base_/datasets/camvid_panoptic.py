# CamVid, 11 classes, approximate panoptic: the instances of car, pedestrian and bicyclist are connected components.
# 367 training and 101 validation images, 480 x 360 pixels (width x height). The augmentation of camvid.py.
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data and the labels of their things; the model takes both from here: _base_.num_classes, _base_.things.
num_classes = 11
things = [8, 9, 10]
data_root = 'data/camvid'
crop_size = (360, 480)
short_edges = [int(360 * x * 0.1) for x in range(5, 21)]
test_short_edge = 360
max_size = 1440

# No prefix: the hosts' inference functions look for this very name.
load_image = dict(type='LoadImageFromFile')
load_segments = dict(type='mmmaskformer.LoadPanopticAnnotations')
load_segments_if_any = dict(load_segments, allow_empty=True, allow_missing=True)
resize_for_test = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
pack = dict(type='mmmaskformer.PackPanopticInputs')

train_pipeline = [
    load_image,
    load_segments,
    dict(type='mmmaskformer.ResizeShortestEdge', short_edge=short_edges, max_size=max_size),
    dict(type='mmseg.RandomCrop', crop_size=crop_size),
    dict(type='mmmaskformer.ColorJitterSSD'),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmmaskformer.PadToSize', size=crop_size, image_value=128),
    pack,
]
# The segments come after the resize: scores are compared at the size of the file.
test_pipeline = [load_image, resize_for_test, load_segments_if_any, pack]
# For --tta: our choice, the paper augments semantic inference only.
tta_pipeline = [
    load_image,
    resize_for_test,
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [
                dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=max_size)
                for edge in (270, 360, 450)
            ],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_segments_if_any],
            [pack],
        ],
    ),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmmaskformer.ResumableSampler', shuffle=True),
    dataset=dict(
        type='mmmaskformer.CamVidPanopticDataset',
        data_root=data_root,
        ann_file='panoptic_train.json',
        data_prefix=dict(img='images/train', seg='panoptic_train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmaskformer.CamVidPanopticDataset',
        data_root=data_root,
        ann_file='panoptic_val.json',
        data_prefix=dict(img='images/val', seg='panoptic_val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskformer.PanopticMetric')
test_evaluator = val_evaluator
