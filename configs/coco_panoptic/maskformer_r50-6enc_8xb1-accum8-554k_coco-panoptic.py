# The R50 model on 8 GPUs with the published batch of 64: eight forward and backward passes for each optimiser step.
# mmengine counts forward passes, so all numbers of iterations are eight times the published ones. Losses are divided by
# the number of segments of one pass, not of all 64 images.
_base_ = './maskformer_r50-6enc_64xb1-554k_coco-panoptic.py'
passes = 8
optim_wrapper = dict(accumulative_counts=passes)
train_cfg = dict(max_iters=passes * _base_.train_cfg.max_iters, val_interval=passes * _base_.train_cfg.val_interval)
milestones = [passes * iteration for iteration in _base_.param_scheduler[0].milestones]
param_scheduler = [dict(_base_.param_scheduler[0], milestones=milestones)]
default_hooks = dict(checkpoint=dict(interval=passes * _base_.default_hooks.checkpoint.interval))
auto_scale_lr = dict(base_batch_size=8)
