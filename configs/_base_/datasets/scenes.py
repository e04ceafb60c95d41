# Invented scenes, 9 classes, 80 to 112 pixels high and 112 to 144 wide; mmmaskformer.datasets.scenes.scenes makes them.
# Light augmentation without colour jitter: the scenes come in varied light and colours already.
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data; the model takes it from here: dict(num_classes=_base_.num_classes).
num_classes = 9
data_root = 'data/scenes'
crop_size = (96, 96)
short_edges = [72, 80, 88, 96, 112, 128, 144]
test_short_edge = 96
max_size = 288

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
                dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=max_size)
                for edge in (72, 96, 128)
            ],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_labels_if_any],
            [pack],
        ],
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmmaskformer.ResumableSampler', shuffle=True),
    dataset=dict(
        type='mmmaskformer.ScenesDataset',
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
        type='mmmaskformer.ScenesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskformer.SemanticMetric')
test_evaluator = val_evaluator
