# Runtime of every config for MMDetection: panoptic and instance segmentation.
_base_ = './default_runtime.py'
default_scope = 'mmdet'
visualizer = dict(type='mmmaskformer.DetLocalVisualizer')
tta_model = dict(type='mmmaskformer.PanopticTTAModel')
default_hooks = dict(
    checkpoint=dict(save_best='panoptic/PQ', rule='greater'),
    visualization=dict(_delete_=True, type='mmdet.DetVisualizationHook'),
)
