"""The table of a sweep: a row for each case, the mean over its runs, and the curves to plot."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mmmaskformer.analysis.tables import Cell

METRICS = ('mIoU', 'PQ_St', 'SQ_St', 'RQ_St', 'PQ', 'PQ_th', 'PQ_st')
"""Metrics that are shown by default if the validation reports them; a prefix up to '/' is ignored."""
NO_METRICS = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
"""Entries of a validation that are not metrics."""


class CaseResult(NamedTuple):
    """One row of the table.

    Attributes:
        name: of the case.
        parameters: of its model.
        results: metrics of the finished runs.
        num_runs: number of all runs, finished or not.
        num_failed: number of runs that ended with an error.
    """

    name: str
    parameters: int
    results: Sequence[Mapping[str, float]]
    num_runs: int
    num_failed: int


class SweepTable(NamedTuple):
    """A table with its curves.

    Attributes:
        header: of the columns.
        rows: one per case.
        curves: mean of each metric for each case; NaN where no run has finished.
        deviations: standard deviation of each metric for each case; NaN where fewer than two runs have finished.
    """

    header: list[str]
    rows: list[list[Cell]]
    curves: dict[str, list[float]]
    deviations: dict[str, list[float]]


def metric_columns(results: Iterable[Mapping[str, float]], metrics: Sequence[str] | None) -> list[str]:
    """The metrics to show.

    Args:
        results: metrics of all finished runs.
        metrics: requested metrics; None for those of `METRICS` that the runs have, or for all metrics if they have none
            of these.

    Raises:
        ValueError: if a metric is unknown.
    """
    found = list(dict.fromkeys(key for result in results for key in result))
    if metrics is None:
        usual = [key for name in METRICS for key in found if key.split('/')[-1] == name]
        return usual or [key for key in found if key not in NO_METRICS]
    unknown = [key for key in metrics if found and key not in found]
    if unknown:
        raise ValueError(
            f'metrics: found {unknown}, expected some of {found}, which the validation reports. Fix: correct --metrics'
        )
    return list(metrics)


def sweep_table(cases: Sequence[CaseResult], setting: str, metrics: Sequence[str] | None = None) -> SweepTable:
    """Average the runs of each case; with several runs a column gives the standard deviation (n - 1).

    Args:
        cases: the rows.
        setting: name of the swept setting, the title of the first column.
        metrics: see `metric_columns`.

    Raises:
        ValueError: if a metric is unknown.
    """
    columns = metric_columns((result for case in cases for result in case.results), metrics)
    several = any(case.num_runs > 1 for case in cases)
    header = [setting, *(part for key in columns for part in ([key, f'{key} ±'] if several else [key]))]
    rows: list[list[Cell]] = []
    curves: dict[str, list[float]] = {key: [] for key in columns}
    deviations: dict[str, list[float]] = {key: [] for key in columns}
    for case in cases:
        row: list[Cell] = [case.name]
        for key in columns:
            mean, deviation = _mean_and_deviation([result[key] for result in case.results if key in result])
            curves[key].append(mean)
            deviations[key].append(deviation)
            row += [mean, deviation] if several else [mean]
        failed = f', {case.num_failed} failed' if case.num_failed else ''
        rows.append([*row, case.parameters / 1e6, f'{len(case.results)} of {case.num_runs}{failed}'])
    return SweepTable([*header, 'parameters (M)', 'runs'], rows, curves, deviations)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); NaN where there is none, or where a value is inf or NaN."""
    if not values or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan
