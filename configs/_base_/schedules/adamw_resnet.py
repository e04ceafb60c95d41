# AdamW as published for ResNet backbones. Norms and embeddings are not decayed; see the constructor.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmmaskformer.PublishedOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1),
)
