# Matching by boxes on the synthetic scenes, with a box head and its losses.
_base_ = './maskformer_tiny_1xb8-800_scenes.py'
model = dict(decode_head=dict(matcher=dict(type='mmmaskformer.BoxMatcher')))
