# ADE20K, 150 classes: the published recipe for 512 x 512 crops (paper, implementation details; official configs).
# Left out: the official loader puts images of one orientation into a batch; here every sample is padded to 512 anyway.
# The models with 640 x 640 crops: replace 512 by 640 throughout (short edges 320 to 1280, test scales 320 to 1120).
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data; the model takes it from here: dict(num_classes=_base_.num_classes).
num_classes = 150
data_root = 'data/ade/ADEChallengeData2016'
crop_size = (512, 512)
short_edges = [int(512 * x * 0.1) for x in range(5, 21)]
test_short_edge = 512
max_size = 2048

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
    # On the raw image, so 128 is not exactly the mean colour.
    dict(type='mmmaskformer.PadToSize', size=crop_size, image_value=128),
    pack,
]
# The labels come after the resize: scores are compared at the size of the file.
test_pipeline = [load_image, resize_for_test, load_labels_if_any, pack]
# Published: each of the six scales, plain and flipped, is made of the image already resized for testing.
tta_pipeline = [
    load_image,
    resize_for_test,
    dict(
        type='mmcv.TestTimeAug',
        transforms=[
            [
                dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=3584)
                for edge in (256, 384, 512, 640, 768, 896)
            ],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_labels_if_any],
            [pack],
        ],
    ),
]

# 8 GPUs x 2 = the published batch of 16, which the learning rate is for.
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmmaskformer.ResumableSampler', shuffle=True),
    dataset=dict(
        type='mmmaskformer.ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmaskformer.ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskformer.SemanticMetric')
test_evaluator = val_evaluator
