"""How a config's own metrics read the ground truth, so that an analysis reads it alike."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

SETTINGS = {'SemanticMetric': ('ignore_index', 'backend_args'), 'PanopticMetric': ('listed_areas', 'backend_args')}
"""Of our metrics, those that change what the ground truth is."""


def truth_settings(config: Config, metric: str) -> dict[str, Any]:
    """Settings with which the first metric of a kind in a config's ``test_evaluator`` reads the ground truth.

    Args:
        config: of a training run.
        metric: a key of `SETTINGS`.

    Returns:
        Those that it sets; none if the config has no such metric.
    """
    for found in _metrics(config.get('test_evaluator')):
        kind = found.get('type', '')
        if getattr(kind, '__name__', str(kind)).rpartition('.')[2] == metric:
            return {key: found[key] for key in SETTINGS[metric] if key in found}
    return {}


def _metrics(evaluator: Any) -> Iterator[Mapping]:
    """The metrics of an evaluator: a dict, a list, `Evaluator(metrics=[...])`, and what they bring along."""
    if isinstance(evaluator, Mapping):
        yield evaluator
        for key in ('metrics', 'also'):
            yield from _metrics(evaluator.get(key))
    elif isinstance(evaluator, list | tuple):
        for metric in evaluator:
            yield from _metrics(metric)
