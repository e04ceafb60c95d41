"""The metrics of an evaluator, with those that a metric of ours brings along in ``also``."""

from collections.abc import Iterator, Sequence

from mmengine.evaluator import BaseMetric


def all_metrics(metrics: Sequence[BaseMetric]) -> Iterator[BaseMetric]:
    """Metrics and those that they bring along, depth first.

    Args:
        metrics: ``metrics`` of mmengine's evaluator.
    """
    for metric in metrics:
        yield metric
        yield from all_metrics(getattr(metric, 'also', ()))
