# AdamW as published for Swin backbones. Norms, embeddings and position tables are not decayed; see the constructor.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmmaskformer.PublishedOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=1.0),
)
