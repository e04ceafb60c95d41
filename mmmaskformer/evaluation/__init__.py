"""Metrics for mmengine's evaluator; both work under MMSegmentation's and MMDetection's runners."""

from mmmaskformer.evaluation.panoptic_metric import PanopticMetric
from mmmaskformer.evaluation.semantic_metric import SemanticMetric

__all__ = ['PanopticMetric', 'SemanticMetric']
