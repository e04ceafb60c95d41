"""Figures of the results of `train_step.py` and `inference.py`."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
from stopwatch import STAGES

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

from mmmaskformer.formats.whole_files import write_whole  # noqa: E402


def plot(reports: list[dict], file: str, stages: Sequence[str] = STAGES) -> None:
    """Write a figure: the stages of one case as bars, or step time and memory of several cases as lines.

    Args:
        reports: of one case, or of cases that differ in one field; see `train_step.measure`.
        file: to write to; its suffix sets the format.
        stages: parts of a step, in order.
    """
    figure = _bars(reports[0], stages) if len(reports) == 1 else _lines(reports)
    content = BytesIO()
    figure.savefig(content, format=Path(file).suffix[1:] or 'png', dpi=150, bbox_inches='tight')
    write_whole(file, content.getvalue())
    plt.close(figure)


def _bars(report: dict, stages: Sequence[str]) -> plt.Figure:
    figure, axis = plt.subplots(figsize=(9, 0.6 * len(report['seconds']) + 1.6))
    heads = list(report['seconds'])[::-1]
    left = [0.0] * len(heads)
    for stage in stages:
        widths = [report['seconds'][head][stage] * 1e3 for head in heads]
        axis.barh(heads, widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.set_xlabel('milliseconds')
    axis.legend(ncols=3, loc='lower center', bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def _lines(reports: list[dict]) -> plt.Figure:
    cases = [report['case'] for report in reports]
    field = next(field for field in cases[0] if len({case[field] for case in cases}) > 1)
    values = [case[field] for case in cases]
    has_memory = all(report['MiB'] for report in reports)
    figure, axes = plt.subplots(1, 1 + has_memory, figsize=(5 * (1 + has_memory), 3.5), squeeze=False)
    for head in reports[0]['seconds']:
        axes[0, 0].plot(values, [report['seconds'][head]['step'] * 1e3 for report in reports], 'o-', label=head)
        if has_memory:
            axes[0, 1].plot(values, [report['MiB'][head] for report in reports], 'o-', label=head)
    for axis, what in zip(axes[0], ('milliseconds per step', 'MiB above weights and inputs'), strict=False):
        axis.set(xlabel=field, ylabel=what, ylim=(0, None))
        axis.legend()
    return figure
