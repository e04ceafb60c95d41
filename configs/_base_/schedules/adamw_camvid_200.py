# adamw_camvid_1000.py in 200 iterations.
_base_ = './adamw_camvid_1000.py'
max_iters = 200
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters + 1), dict(_base_.param_scheduler[1], end=50)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
