# Trains on invented scenes in minutes on two CPU cores; tools/quickstart.sh does it all.
_base_ = [
    '../_base_/models/maskformer_tiny.py',
    '../_base_/datasets/scenes.py',
    '../_base_/default_runtime.py',
]
max_iters = 800
model = dict(decode_head=dict(num_classes=_base_.num_classes))
auto_scale_lr = dict(enable=False, base_batch_size=_base_.train_dataloader.batch_size)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmmaskformer.PublishedOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters + 1, by_epoch=False),
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=50, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=400)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
