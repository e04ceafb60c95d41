# MaskFormer-fixed: the segment of class k is matched to query k. Paper, table 4: mIoU 43.7, PQ-St 30.3; with bipartite
# matching and the same number of queries 44.2 and 33.4.
_base_ = './maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
model = dict(decode_head=dict(num_queries=_base_.num_classes, matcher=dict(type='mmmaskformer.FixedMatcher')))
