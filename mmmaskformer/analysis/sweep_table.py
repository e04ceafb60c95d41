"""The table of a sweep: a row for each case, the mean over its runs, and the curves to plot."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mmmaskformer.analysis.tables import Cell

METRICS = ('mIoU', 'PQ_St', 'SQ_St', 'RQ_St', 'PQ', 'PQ_th', 'PQ_st')
"""Shown by default, as far as the validation gives them; the part before '/' does not count."""


class CaseResult(NamedTuple):
    """A row.

    Attributes:
        name: of the case.
        parameters: of its model.
        results: metrics of the runs that have ended.
        num_runs: with those that have not.
        num_failed: runs that ended with an error.
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
        curves: mean of each metric for each case; NaN where no run has ended.
    """

    header: list[str]
    rows: list[list[Cell]]
    curves: dict[str, list[float]]


def metric_columns(
    results: Iterable[Mapping[str, float]], metrics: Sequence[str] | None, *, complete: bool = True
) -> list[str]:
    """Which metrics to show.

    Args:
        results: of all runs that have ended.
        metrics: wanted; None for those of `METRICS` that there are.
        complete: all runs have ended. Before that, a metric that none has given may be one of another row.

    Raises:
        ValueError: if a metric is unknown.
    """
    found = list(dict.fromkeys(key for result in results for key in result))
    if metrics is None:
        return [key for name in METRICS for key in found if key.split('/')[-1] == name]
    unknown = [key for key in metrics if found and complete and key not in found]
    if unknown:
        raise ValueError(f'metrics: found {unknown}, expected some of {found}, which the validation gives')
    return list(metrics)


def sweep_table(cases: Sequence[CaseResult], setting: str, metrics: Sequence[str] | None = None) -> SweepTable:
    """Average the runs of each case; with several runs a column gives the standard deviation (n - 1).

    Args:
        cases: the rows.
        setting: what is changed, the head of the first column.
        metrics: see `metric_columns`.

    Raises:
        ValueError: if a metric is unknown.
    """
    complete = all(len(case.results) == case.num_runs for case in cases)
    columns = metric_columns((result for case in cases for result in case.results), metrics, complete=complete)
    several = any(case.num_runs > 1 for case in cases)
    header = [setting, *(part for key in columns for part in ([key, f'{key} ±'] if several else [key]))]
    rows: list[list[Cell]] = []
    curves: dict[str, list[float]] = {key: [] for key in columns}
    for case in cases:
        row: list[Cell] = [case.name]
        for key in columns:
            values = [result[key] for result in case.results if key in result]
            mean = statistics.fmean(values) if values else math.nan
            curves[key].append(mean)
            row.append(mean)
            if several:
                row.append(statistics.stdev(values) if len(values) > 1 else math.nan)
        failed = f', {case.num_failed} failed' if case.num_failed else ''
        rows.append([*row, case.parameters / 1e6, f'{len(case.results)} of {case.num_runs}{failed}'])
    return SweepTable([*header, 'parameters (M)', 'runs'], rows, curves)
