# 200k iterations, poly decay of power 0.9; 200001 as in poly_160k.py.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200_000, val_interval=5000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=200_001, by_epoch=False)]
