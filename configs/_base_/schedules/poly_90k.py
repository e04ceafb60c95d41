# 90k iterations, poly decay of power 0.9; 90001 as in poly_160k.py.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90_000, val_interval=5000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=90_001, by_epoch=False)]
