# CamVid on two CPU cores in about half an hour: training crops of 240 x 320, test at the full 360 x 480.
_base_ = [
    '../_base_/models/maskformer_effnet-lite0.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/adamw_camvid_1000.py',
    '../_base_/default_runtime.py',
]
batch_size = 6
crop_size = (240, 320)
sizes = dict(
    ResizeShortestEdge=dict(short_edge=[180, 240, 300, 360, 420, 480]),
    RandomCrop=dict(crop_size=crop_size),
    PadToSize=dict(size=crop_size),
)
train_pipeline = [dict(step, **sizes.get(step.type.split('.')[-1], {})) for step in _base_.train_pipeline]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
train_dataloader = dict(batch_size=batch_size, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
