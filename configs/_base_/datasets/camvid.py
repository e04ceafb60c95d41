# CamVid, 11 classes, 480 x 360 pixels (width x height): 367 training, 101 validation and 233 test images.
# The published augmentation at the scale of these images, for a small run that needs no large GPU. Validation is easy
# (frames of a drive that training has seen); report the number on test.
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data; the model takes it from here: dict(num_classes=_base_.num_classes).
num_classes = 11
data_root = 'data/camvid'
crop_size = (360, 480)
short_edges = [int(360 * x * 0.1) for x in range(5, 21)]
test_short_edge = 360
max_size = 1440

# No prefix: the hosts' inference functions look for this very name.
load_image = dict(type='LoadImageFromFile')
load_labels = dict(type='mmmaskformer.LoadSegAnnotations')
load_labels_if_any = dict(load_labels, allow_missing=True)
resize_for_test = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
pack = dict(type='mmseg.PackSegInputs')

train_pipeline = [
    load_image,
    load_labels,
    dict(type='mmmaskformer.ResizeShortestEdge', short_edge=short_edges, max_size=max_size),
    dict(type='mmseg.RandomCrop', crop_size=crop_size),
    dict(type='mmmaskformer.ColorJitterSSD'),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmmaskformer.PadToSize', size=crop_size, image_value=128),
    pack,
]
# The labels come after the resize: scores are compared at the size of the file.
test_pipeline = [load_image, resize_for_test, load_labels_if_any, pack]
tta_pipeline = [
    load_image,
    resize_for_test,
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [
                dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=2520)
                for edge in (180, 270, 360, 450, 540, 630)
            ],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_labels_if_any],
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
        type='mmmaskformer.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmaskformer.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_prefix = dict(img_path='images/test', seg_map_path='annotations/test')
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], data_prefix=test_prefix))
val_evaluator = dict(type='mmmaskformer.SemanticMetric')
test_evaluator = val_evaluator
