"""The training curve of an mmengine run folder as a PNG; needs matplotlib."""

import json
import math
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter
except ImportError as error:
    raise ImportError('drawing a training curve needs matplotlib. Fix: pip install matplotlib') from error

from mmmaskformer.formats.whole_files import require_writable, write_whole

# Keys of a validation that are not metrics.
NO_METRICS = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
# MMDetection reports average precision and recall as fractions, such as coco/segm_mAP or coco/AR@100, -1 if undefined.
FRACTION = re.compile(r'(mAP|AR@)')
EARLIER_LAYER = re.compile(r'(^|\.)d\d+\.')
# Marker and line style of the first ten curves of a panel, of the next ten, and so on.
MARKS = (('o', '-'), ('s', '--'), ('^', ':'))


class Scalars(NamedTuple):
    """The scalars that a run has logged.

    Attributes:
        train: rows of training steps, {key: value}, ordered by 'step', the training iteration.
        val: rows of validations, likewise; 'step' is the training iteration at which it ran.
    """

    train: list[dict]
    val: list[dict]


def read_scalars(work_dir: str | Path) -> Scalars:
    """Read all logs of a run and join them by step.

    A resumed run has several logs. A later log replaces the rows of earlier ones from its first step on, since these
    steps were run again. A log may contain only a validation: that of the last iteration, if it was interrupted before.

    Args:
        work_dir: mmengine's ``work_dir``, with ``<timestamp>/vis_data/scalars.json`` inside.

    Returns:
        The rows, one per step.

    Raises:
        FileNotFoundError: if there is no such folder, or it has no log.
        ValueError: if a log is damaged, or none has a training step.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise FileNotFoundError(
            f'{work_dir}: no such folder; expected the work_dir of a training run. Fix: correct the path'
        )
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{work_dir}: found no */vis_data/scalars.json; expected the work_dir of a training run that has logged '
            'at least once. Fix: pass the folder that contains the folders named by date and time'
        )
    joined = Scalars([], [])
    for file in files:
        part = _read_log(file, joined.train[-1] if joined.train else None)
        if part.train or part.val:
            steps = [rows[0]['step'] if rows else math.inf for rows in part]
            kept = (
                [row for row in joined.train if row['step'] < steps[0]],
                [row for row in joined.val if row['step'] < min(steps)],
            )
            joined = Scalars(*(old + new for old, new in zip(kept, part, strict=True)))
    if not joined.train:
        raise ValueError(
            f'{files[-1]}: found no row with a loss, expected at least one. Fix: train a little longer, or log more '
            'often (default_hooks.logger.interval)'
        )
    return joined


def _read_log(file: Path, before: dict | None) -> Scalars:
    """Read one log; rows with a loss are training steps, rows with a known metric validations.

    Args:
        file: of the log.
        before: the last training step of the earlier logs.
    """
    train, val = [], []
    for row in _rows(file):
        last = train[-1] if train else before
        if 'loss' in row:
            row['step'] = row.get('iter', row.get('step'))
            train.append(row)
        elif last is not None and _is_validation(row):
            # An epoch-based run numbers validations by epoch, so take the training step before it.
            by_epoch = 'epoch' in last or (bool(train) and row.get('step', 0) < last['step'])
            row['step'] = last['step'] if by_epoch else row['step']
            val.append(row)
    return Scalars(train, val)


def last_validation(work_dir: str | Path) -> dict | None:
    """The row of a run's last validation; 'step' as it was logged, the iteration, or the epoch in epoch-based training.

    The run need not have logged training steps.

    Args:
        work_dir: as for `read_scalars`.

    Returns:
        The row; None if there is none.

    Raises:
        ValueError: if a log is broken.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    rows = [row for file in files for row in _rows(file) if 'loss' not in row and _is_validation(row)]
    return rows[-1] if rows else None


def _rows(file: Path) -> list[dict]:
    """The rows of a log, without the prefixes of the loops."""
    rows = []
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # the run was stopped, or is still writing
            raise ValueError(f'{file}: line {number} is not JSON: {error}. Fix: delete that line') from error
        rows.append({key.removeprefix('train/').removeprefix('val/'): value for key, value in row.items()})
    return rows


def _is_validation(row: dict) -> bool:
    """Whether a row without a loss is a validation; a test, without training, logs step 0."""
    return row.get('step', 0) > 0 and any(_is_metric(key) for key in row if isinstance(row[key], int | float))


def _is_metric(key: str) -> bool:
    return key not in NO_METRICS and not EARLIER_LAYER.search(key) and 'loss' not in key.split('.')[-1]


def _is_last_layer_loss(key: str) -> bool:
    return key.split('.')[-1].startswith('loss_') and not EARLIER_LAYER.search(key)


def plot_run(work_dir: str | Path, out_file: str | Path) -> None:
    """Draw the total loss, the losses of the last decoder layer and the validation metrics of a run.

    Args:
        work_dir: as for `read_scalars`.
        out_file: PNG file to write; its folder is created.

    Raises:
        FileNotFoundError: if there is no log.
        ValueError: if a log is damaged or empty, or ``out_file`` does not end in .png.
        OSError: if ``out_file`` cannot be written; an older file is kept.
    """
    out_file = Path(out_file)
    if out_file.suffix != '.png':
        raise ValueError(f'out_file: found {out_file}, expected a name that ends in .png')
    require_writable(out_file, 'out_file')
    scalars = read_scalars(work_dir)
    panels = metric_panels(scalars.val)
    figure = Figure(figsize=(8, 4.2 + 2.8 * len(panels)), layout='constrained')
    axes = figure.subplots(1 + len(panels), 1, sharex=True, squeeze=False)[:, 0]
    _plot_losses(axes[0], scalars.train)
    for axis, (unit, metrics) in zip(axes[1:], panels.items(), strict=True):
        _plot_metrics(axis, unit, metrics)
    axes[0].set_title(Path(work_dir).resolve().name)
    axes[-1].set_xlabel('training step (iterations)')
    out_file.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    write_whole(out_file, content.getvalue())


def _series(rows: Sequence[dict], wanted) -> dict[str, tuple[list, list]]:
    """Steps and values of every requested key, in the order in which the keys occur."""
    series: dict[str, tuple[list, list]] = {}
    for row in rows:
        for key in filter(wanted, row):
            if not isinstance(row[key], int | float):
                continue
            steps, values = series.setdefault(key, ([], []))
            steps.append(row['step'])
            values.append(row[key])
    return series


def _plot_losses(axis, rows: Sequence[dict]) -> None:
    total = [row['loss'] for row in rows]
    axis.plot([row['step'] for row in rows], total, color='black', linewidth=1.8, label='total, all layers')
    for key, (steps, values) in _series(rows, _is_last_layer_loss).items():
        axis.plot(steps, values, linewidth=1.2, label=key)
    axis.set_yscale('log')
    # Plain numbers at 1, 2, 5, 10: losses seldom span more than three powers of ten.
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter('{x:g}')
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel('weighted loss (log scale, no unit)')
    axis.grid(which='both', alpha=0.25)
    # The legend is next to the curves: the panel has no free corner, and the last losses matter most.
    axis.legend(fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5))


def metric_panels(rows: Sequence[dict]) -> dict[str, dict[str, tuple[list, list]]]:
    """All metrics of the validations, grouped by unit: '%', 'fraction', or '' for values outside of [0, 100].

    Undefined values, NaN and the -1 of MMDetection's average precision, are left out; a metric without any other value
    keeps an empty series.

    Args:
        rows: of `Scalars.val`.

    Returns:
        {unit: {key: (steps, values)}}, without empty units.
    """
    panels: dict[str, dict[str, tuple[list, list]]] = {'%': {}, 'fraction': {}, '': {}}
    for key, (steps, values) in _series(rows, _is_metric).items():
        fraction = FRACTION.search(key.split('/')[-1])
        lowest = 0 if fraction else -math.inf
        kept = [(step, value) for step, value in zip(steps, values, strict=True) if value >= lowest]
        percent = all(0 <= value <= 100 for _, value in kept)
        unit = 'fraction' if fraction else '%' if percent else ''
        panels[unit][key] = [step for step, _ in kept], [value for _, value in kept]
    return {unit: metrics for unit, metrics in panels.items() if metrics}


def _plot_metrics(axis, unit: str, metrics: dict[str, tuple[list, list]]) -> None:
    for position, (key, (steps, values)) in enumerate(metrics.items()):
        # matplotlib has ten colours; other markers distinguish the next ten curves.
        mark, line = MARKS[position // 10 % len(MARKS)]
        last = f'last {values[-1]:.{3 if unit == "fraction" else 1}f}' if values else 'undefined'
        axis.plot(steps, values, marker=mark, linestyle=line, markersize=4, label=f'{key}, {last}')
    axis.set_ylabel(f'validation ({unit})' if unit else 'validation')
    if unit:
        axis.set_ylim(0, 100 if unit == '%' else 1)
    axis.grid(alpha=0.25)
    # The legend is next to the curves, since a run may report more metrics than fit into a corner.
    axis.legend(fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5), ncols=math.ceil(len(metrics) / 14))
