# PerPixelBaseline+ on CamVid at half its size, with the schedule of maskformer_effnet-lite0_1xb6-200_camvid-128x160.py.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_effnet-lite0.py',
    '../_base_/datasets/camvid_180.py',
    '../_base_/schedules/adamw_camvid_200.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
auto_scale_lr = dict(enable=False, base_batch_size=_base_.train_dataloader.batch_size)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
