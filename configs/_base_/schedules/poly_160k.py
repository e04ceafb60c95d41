# 160k iterations, poly decay of power 0.9. mmengine reaches the end of a schedule one iteration before `end`, the
# published code after the last iteration: hence 160001.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160_000, val_interval=5000)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=160_001, by_epoch=False)]
