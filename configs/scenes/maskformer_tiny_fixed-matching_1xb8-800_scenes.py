# MaskFormer-fixed on the synthetic scenes: the segment of class k is matched to query k.
_base_ = './maskformer_tiny_1xb8-800_scenes.py'
model = dict(decode_head=dict(num_queries=_base_.num_classes, matcher=dict(type='mmmaskformer.FixedMatcher')))
