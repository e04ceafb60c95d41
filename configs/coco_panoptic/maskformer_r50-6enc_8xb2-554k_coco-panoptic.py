# The R50 model on 8 GPUs with a batch of 16: iterations and learning rate are those of the batch of 64, so it runs for
# a quarter of the epochs (75). The authors found about the same PQ (facebookresearch/MaskFormer#56).
_base_ = './maskformer_r50-6enc_64xb1-554k_coco-panoptic.py'
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
