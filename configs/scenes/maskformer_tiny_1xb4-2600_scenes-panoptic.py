# Panoptic segmentation of synthetic scenes on two CPU cores. tools/quickstart.sh trains it in minutes, starting from
# the semantic model (load_from).
_base_ = [
    '../_base_/models/maskformer_tiny_panoptic.py',
    '../_base_/datasets/scenes_panoptic.py',
    '../_base_/default_runtime_mmdet.py',
]
max_iters = 2600
model = dict(
    panoptic_head=dict(num_classes=_base_.num_classes, things=_base_.things),
    test_cfg=dict(panoptic=dict(object_threshold=0.4, overlap_threshold=0.6), semantic=dict()),
)
# One dict, so that --cfg-options test_evaluator.KEY=VALUE works as with a single metric.
val_evaluator = dict(type='mmmaskformer.PanopticMetric', also=[dict(type='mmmaskformer.SemanticMetric')])
test_evaluator = val_evaluator
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
# In a given time, many small steps learn more than few large ones.
batch_size = 4
train_dataloader = dict(batch_size=batch_size)
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1300)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=400))
