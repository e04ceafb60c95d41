# 1000 iterations of fine-tuning on two CPU cores: AdamW with a warm-up over 100, poly decay of power 0.9.
max_iters = 1000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmmaskformer.PublishedOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.3),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters + 1, by_epoch=False),
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=100, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=500)
