# The schedule of the Swin models: poly_160k times a linear warm-up over 1500 iterations.
_base_ = './poly_160k.py'
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=160_001, by_epoch=False),
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1501, by_epoch=False),
]
