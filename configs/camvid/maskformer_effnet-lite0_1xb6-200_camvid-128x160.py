# CamVid at half its size on one CPU core in minutes, for the comparison in docs/results.md.
_base_ = [
    '../_base_/models/maskformer_effnet-lite0.py',
    '../_base_/datasets/camvid_180.py',
    '../_base_/schedules/adamw_camvid_200.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
auto_scale_lr = dict(enable=False, base_batch_size=_base_.train_dataloader.batch_size)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
