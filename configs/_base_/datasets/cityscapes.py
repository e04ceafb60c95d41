# Cityscapes, 19 classes: the published recipe, crops of 512 x 1024, tests of whole images.
# Configs that inherit this file must override its pipelines: overriding crop_size alone has no effect.
_base_ = '../pipelines/semantic.py'
# Number of classes; model configs read it: dict(num_classes=_base_.num_classes).
num_classes = 19
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
# As published: each of the six scales, plain and flipped, resizes the image that was already resized for testing.
scales = [
    dict(resize, short_edge=int(factor * test_short_edge), max_size=4 * test_short_edge)
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
tta_pipeline = [_base_.load_image, resize, dict(type='mmcv.TestTimeAug', transforms=[scales, *_base_.views])]

# 8 GPUs x 2 images = the published batch size of 16, which belongs to the learning rate.
auto_scale_lr = dict(enable=False, base_batch_size=16)
data = dict(type='mmmaskformer.CityscapesDataset', data_root='data/cityscapes')
training = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
validation = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
train_dataloader = dict(dataset=dict(**data, data_prefix=training, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, data_prefix=validation, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
