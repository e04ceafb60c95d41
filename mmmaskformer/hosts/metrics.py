"""The metrics of an evaluator, including those in ``also`` of our metrics."""

from collections.abc import Iterator, Sequence

from mmengine.evaluator import BaseMetric


def all_metrics(metrics: Sequence[BaseMetric]) -> Iterator[BaseMetric]:
    """All metrics, including those in ``also``, depth first.

    Args:
        metrics: ``metrics`` of mmengine's evaluator.
    """
    for metric in metrics:
        yield metric
        yield from all_metrics(getattr(metric, 'also', ()))
