# Runtime of every semantic config: logging, checkpoints, reproducibility.
default_scope = 'mmseg'
custom_imports = dict(imports=['mmmaskformer.registry'], allow_failed_imports=False)
# One seed for weights, data order, augmentation and dropout. To change it: --cfg-options randomness.seed=1
randomness = dict(seed=0)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(
    type='mmmaskformer.SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
tta_model = dict(type='mmmaskformer.SemanticTTAModel')
custom_hooks = [
    dict(type='mmmaskformer.CheckConfigHook'),
    dict(type='mmmaskformer.CheckOutputsHook'),
    dict(type='mmmaskformer.CheckClassesHook'),
    dict(type='mmmaskformer.CheckDataHook'),
    dict(type='mmmaskformer.CheckBestKeyHook'),
    dict(type='mmmaskformer.RepeatableRunHook'),
    dict(type='mmmaskformer.ShareWeightsHook'),
    dict(type='mmmaskformer.CheckCheckpointHook'),
    dict(type='mmmaskformer.CheckImagesHook', on_non_finite='stop'),
    dict(type='mmmaskformer.CheckAnnotationsHook'),
    dict(type='mmmaskformer.ResumeHook'),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmmaskformer.WholeCheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=3, save_best='mIoU'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # With test.py --show-dir or draw=True, every image is drawn; the host's default is every 50th batch.
    visualization=dict(type='mmmaskformer.SegVisualizationHook', interval=1),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
