# ADE20K panoptic, 150 classes in the order of the semantic benchmark, 100 of them things: the published recipe with
# 640 x 640 crops (official configs). Left out: the official loader puts images of one orientation into a batch; here
# every sample is padded to 640 anyway.
# A config that inherits this file changes its pipelines, not crop_size and the like, which are used up here.
# K of these data and the labels of their things; the model takes both from here: _base_.num_classes, _base_.things.
num_classes = 150
# fmt: off
things = [
    7, 8, 10, 12, 14, 15, 18, 19, 20, 22, 23, 24, 27, 30, 31, 32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 47,
    49, 50, 53, 55, 56, 57, 58, 62, 64, 65, 66, 67, 69, 70, 71, 72, 73, 74, 75, 76, 78, 80, 81, 82, 83, 85, 86, 87,
    88, 89, 90, 92, 93, 95, 97, 98, 102, 103, 104, 107, 108, 110, 111, 112, 115, 116, 118, 119, 120, 121, 123, 124,
    125, 126, 127, 129, 130, 132, 133, 134, 135, 136, 137, 138, 139, 142, 143, 144, 146, 147, 148, 149,
]
# fmt: on
data_root = 'data/ade/ADEChallengeData2016'
crop_size = (640, 640)
short_edges = [int(640 * x * 0.1) for x in range(5, 21)]
test_short_edge = 640
max_size = 2560

# No prefix: the hosts' inference functions look for this very name.
load_image = dict(type='LoadImageFromFile')
# As published, images without segments are used.
load_segments = dict(type='mmmaskformer.LoadPanopticAnnotations', allow_empty=True)
load_segments_if_any = dict(load_segments, allow_missing=True)
resize_for_test = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)

train_pipeline = [
    load_image,
    load_segments,
    dict(type='mmmaskformer.ResizeShortestEdge', short_edge=short_edges, max_size=max_size),
    dict(type='mmseg.RandomCrop', crop_size=crop_size),
    dict(type='mmmaskformer.ColorJitterSSD'),
    dict(type='mmseg.RandomFlip', prob=0.5),
    # On the raw image, so 128 is not exactly the mean colour.
    dict(type='mmmaskformer.PadToSize', size=crop_size, image_value=128),
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
            [dict(type='mmmaskformer.ResizeShortestEdge', short_edge=edge, max_size=3200) for edge in (480, 640, 800)],
            [dict(type='mmseg.RandomFlip', prob=0.0), dict(type='mmseg.RandomFlip', prob=1.0)],
            [load_segments_if_any],
            [dict(type='mmmaskformer.PackPanopticInputs')],
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
        type='mmmaskformer.ADE20KPanopticDataset',
        data_root=data_root,
        ann_file='ade20k_panoptic_train.json',
        data_prefix=dict(img='images/training', seg='ade20k_panoptic_train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmaskformer.ADE20KPanopticDataset',
        data_root=data_root,
        ann_file='ade20k_panoptic_val.json',
        data_prefix=dict(img='images/validation', seg='ade20k_panoptic_val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskformer.PanopticMetric')
test_evaluator = val_evaluator
