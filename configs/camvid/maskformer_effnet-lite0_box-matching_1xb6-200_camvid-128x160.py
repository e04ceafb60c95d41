# Matching by boxes on CamVid at half its size, with a box head and its losses.
_base_ = './maskformer_effnet-lite0_1xb6-200_camvid-128x160.py'
model = dict(decode_head=dict(matcher=dict(type='mmmaskformer.BoxMatcher')))
