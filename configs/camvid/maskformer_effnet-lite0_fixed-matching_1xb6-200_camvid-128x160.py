# MaskFormer-fixed on CamVid at half its size: the segment of class k goes to query k.
_base_ = './maskformer_effnet-lite0_1xb6-200_camvid-128x160.py'
model = dict(decode_head=dict(num_queries=_base_.num_classes, matcher=dict(type='mmmaskformer.FixedMatcher')))
