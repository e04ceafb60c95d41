# Order of the transforms, loaders and metric of every panoptic dataset base, as published (official configs). A dataset
# config adds sizes, to the transforms by their names, and folders.
# Unlike the official loader, images of both orientations share a batch: all crops have the same size.
_base_ = './loaders.py'

# No prefix: the hosts' inference functions compare this type name.
load_image = dict(type='LoadImageFromFile')
# As published, images without segments are used.
load_segments = dict(type='mmmaskformer.LoadPanopticAnnotations', allow_empty=True)
load_segments_if_any = dict(load_segments, allow_missing=True)
pack = dict(type='mmmaskformer.PackPanopticInputs')

train_pipeline = [
    load_image,
    load_segments,
    dict(type='mmmaskformer.ResizeShortestEdge'),
    dict(type='mmseg.RandomCrop'),
    dict(type='mmmaskformer.ColorJitterSSD'),
    dict(type='mmseg.RandomFlip', prob=0.5),
    # Pads the raw image, so 128 is not exactly the mean colour.
    dict(type='mmmaskformer.PadToSize', image_value=128),
    # As published, segments that the crop emptied stay targets.
    dict(pack, keep_vanished=True),
]
# Annotations are loaded after the resize: metrics compare at the size of the file.
after_resize = [load_segments_if_any, pack]
# For --tta: each scale, plain and flipped. Our choice: the paper augments semantic inference only.
views = [[dict(type='mmseg.RandomFlip', prob=prob) for prob in (0.0, 1.0)], [load_segments_if_any], [pack]]

val_evaluator = dict(type='mmmaskformer.PanopticMetric')
test_evaluator = val_evaluator
