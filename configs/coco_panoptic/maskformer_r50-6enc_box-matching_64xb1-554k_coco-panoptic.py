# Matching by boxes as in DETR, with a box head and its losses. Paper, table 5: PQ 43.7; by masks 46.5.
_base_ = './maskformer_r50-6enc_64xb1-554k_coco-panoptic.py'
model = dict(panoptic_head=dict(matcher=dict(type='mmmaskformer.BoxMatcher')))
