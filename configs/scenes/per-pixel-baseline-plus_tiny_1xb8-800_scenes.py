# PerPixelBaseline+ on the synthetic scenes, with the schedule of maskformer_tiny_1xb8-800_scenes.py.
_base_ = [
    '../_base_/models/per-pixel-baseline-plus_tiny.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/adamw_scenes_800.py',
    '../_base_/default_runtime.py',
]
model = dict(decode_head=dict(num_classes=_base_.num_classes))
auto_scale_lr = dict(enable=False, base_batch_size=_base_.train_dataloader.batch_size)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
