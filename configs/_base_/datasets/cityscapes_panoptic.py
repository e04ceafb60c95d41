# Cityscapes panoptic, 19 classes in the order of their train ids, 8 of them things. Not in the paper: its recipe for
# Cityscapes (cityscapes.py) with panoptic targets.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/panoptic.py'
# Number of classes and labels of the things; model configs read both: _base_.num_classes, _base_.things.
num_classes = 19
things = [11, 12, 13, 14, 15, 16, 17, 18]
crop_size = (512, 1024)
test_short_edge, max_size = 1024, 2048

resize = dict(type='mmmaskformer.ResizeShortestEdge', short_edge=test_short_edge, max_size=max_size)
sizes = dict(
    ResizeShortestEdge=dict(
        short_edge=[int(test_short_edge * x * 0.1) for x in range(5, 21)], max_size=4 * test_short_edge
    ),
    RandomCrop=dict(crop_size=crop_size),
)
# As published, without padding: every crop fits into an image of 1024 x 2048.
steps = [step for step in _base_.train_pipeline if step.type != 'mmmaskformer.PadToSize']
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in steps]
test_pipeline = [_base_.load_image, resize, *_base_.after_resize]
scales = [dict(resize, short_edge=edge, max_size=2 * edge) for edge in (768, 1024, 1280)]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.CityscapesPanopticDataset', data_root='data/cityscapes')
training = dict(
    ann_file='gtFine/cityscapes_panoptic_train.json',
    data_prefix=dict(img='leftImg8bit/train', seg='gtFine/cityscapes_panoptic_train'),
)
validation = dict(
    ann_file='gtFine/cityscapes_panoptic_val.json',
    data_prefix=dict(img='leftImg8bit/val', seg='gtFine/cityscapes_panoptic_val'),
)
train_dataloader = dict(dataset=dict(**data, **training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, **validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
