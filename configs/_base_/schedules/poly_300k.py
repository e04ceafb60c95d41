# 300k iterations, poly decay of power 0.9; 300001 as in poly_160k.py.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300_000, val_interval=5000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=300_001, by_epoch=False)]
