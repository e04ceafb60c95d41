# The schedule of the Swin models: multistep_554k times a linear warm-up over 1500 iterations.
_base_ = './multistep_554k.py'
param_scheduler = [
    dict(type='MultiStepLR', milestones=[369_600], gamma=0.1, by_epoch=False),
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1501, by_epoch=False),
]
