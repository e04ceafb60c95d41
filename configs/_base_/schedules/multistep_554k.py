# 554.4k iterations with the learning rate divided by 10 after two thirds, as published for COCO panoptic.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=554_400, val_interval=27_720)
param_scheduler = [dict(type='MultiStepLR', milestones=[369_600], gamma=0.1, by_epoch=False)]
