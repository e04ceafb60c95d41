"""Metrics of predictions against ground truth: IoU, accuracy, PQ and PQ-St."""
