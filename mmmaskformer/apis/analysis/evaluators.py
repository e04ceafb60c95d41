"""Settings of a config's metrics for reading the ground truth; an analysis uses the same settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

SETTINGS = {'SemanticMetric': ('ignore_index', 'backend_args'), 'PanopticMetric': ('listed_areas', 'backend_args')}
"""Settings of our metrics that change the ground truth."""


def truth_settings(config: Config, metric: str) -> dict[str, Any]:
    """Settings with which the first metric of a type in a config's ``test_evaluator`` reads the ground truth.

    Args:
        config: config of a training run.
        metric: a key of `SETTINGS`.

    Returns:
        The settings that it has; empty if the config has no such metric.
    """
    for found in _metrics(config.get('test_evaluator')):
        kind = found.get('type', '')
        if getattr(kind, '__name__', str(kind)).rpartition('.')[2] == metric:
            return {key: found[key] for key in SETTINGS[metric] if key in found}
    return {}


def _metrics(evaluator: Any) -> Iterator[Mapping]:
    """The metrics of an evaluator (a dict, a list or `Evaluator(metrics=[...])`), including those in ``also``."""
    if isinstance(evaluator, Mapping):
        yield evaluator
        for key in ('metrics', 'also'):
            yield from _metrics(evaluator.get(key))
    elif isinstance(evaluator, list | tuple):
        for metric in evaluator:
            yield from _metrics(metric)
