"""Plots of the analyses as PNG files, each written completely or not at all; needs matplotlib."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmmaskformer.formats.whole_files import whole_file

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('plots of the analyses need matplotlib. Fix: pip install matplotlib') from error

WIDTH = 7.0
"""Width of a plot in inches."""
LETTERS_PER_INCH = 11
"""Letters per inch of titles and axis labels."""
MOST_TICKS = 20
MOST_BARS = 150
"""Maximum number of bars with a line between them."""
WIDE_RATIO = 20
"""Ratio of the largest and the smallest value from which an axis is logarithmic."""


def plot_unique_classes(unique: np.ndarray, title: str, file: Path) -> None:
    """Number of different classes of each query, as in the paper's figure.

    Args:
        unique: (Q,) integer, in descending order.
        title: above the plot.
        file: PNG to write; its folder is created.
    """
    figure, axis = _figure_of_counts(title, unique)
    axis.bar(np.arange(len(unique)), unique, width=1.0, edgecolor='white', linewidth=0.3 * (len(unique) <= MOST_BARS))
    axis.set_xlabel('query, sorted')
    axis.set_ylabel('unique classes predicted')
    _save(figure, file)


def plot_class_histogram(histogram: np.ndarray, mean: float, title: str, file: Path) -> None:
    """Histogram of the number of classes per image.

    Args:
        histogram: (n,) number of images with 0, 1, … classes.
        mean: classes per image.
        title: above the plot.
        file: PNG to write; its folder is created.
    """
    figure, axis = _figure_of_counts(f'{title}\nmean {mean:.1f} (dashed line)', histogram)
    axis.bar(np.arange(len(histogram)), histogram)
    axis.axvline(mean, color='black', linestyle='--')
    axis.set_xlabel('classes in the image')
    axis.set_ylabel('images')
    _save(figure, file)


def _figure_of_counts(title: str, counts: np.ndarray):
    """A figure and its axis with bars of integer counts at 0, 1, …."""
    figure = Figure(figsize=(WIDTH, 3.6), layout='constrained')
    _set_title(figure, title)
    axis = figure.subplots()
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axis.set_xlim(-0.6, len(counts) - 0.4)
    axis.set_ylim(0, 1.05 * max(1, int(counts.max(initial=0))))
    return figure, axis


def plot_thresholds(
    pq: np.ndarray, object_thresholds: Sequence[float], overlap_thresholds: Sequence[float], title: str, file: Path
) -> None:
    """PQ as a heat map, the best pair marked; as lines if one kind of threshold has a single value.

    Args:
        pq: (A, O) in percent; NaN is left white.
        object_thresholds: A, ascending.
        overlap_thresholds: O, ascending.
        title: above the plot.
        file: PNG to write; its folder is created.
    """
    figure = Figure(figsize=(8, 5), layout='constrained')
    axis = figure.subplots()
    best = None if np.isnan(pq).all() else np.unravel_index(np.nanargmax(pq), pq.shape)
    if 1 in pq.shape:
        by_object = pq.shape[1] == 1
        swept, fixed = (object_thresholds, overlap_thresholds) if by_object else (overlap_thresholds, object_thresholds)
        kinds = ('object', 'overlap') if by_object else ('overlap', 'object')
        axis.plot(swept, pq.ravel(), marker='o', markersize=4)
        axis.set_xlabel(f'{kinds[0]} threshold ({kinds[1]} threshold {fixed[0]:g})')
        axis.set_ylabel('PQ, %')
        axis.grid(alpha=0.25)
    else:
        shown = axis.imshow(pq, origin='lower', aspect='auto', cmap='viridis')
        _set_thresholds(axis.xaxis, 'overlap', overlap_thresholds, _letters(1))
        _set_thresholds(axis.yaxis, 'object', object_thresholds, math.inf)
        figure.colorbar(shown, label='PQ, %')
        if best is not None:
            corner = best[1] - 0.5, best[0] - 0.5
            for colour, width in (('white', 4.0), ('red', 2.0)):  # visible on all colours of the map
                axis.add_patch(Rectangle(corner, 1, 1, fill=False, color=colour, linewidth=width, clip_on=False))
    if best is not None:
        pair = f'object {object_thresholds[best[0]]:g}, overlap {overlap_thresholds[best[1]]:g}'
        title = f'{title}\nbest PQ {pq[best]:.1f} at {pair}'
    _set_title(figure, title)
    _save(figure, file)


def _set_thresholds(axis, kind: str, thresholds: Sequence[float], letters: float) -> None:
    """Label the cells of a heat map along an axis that has room for some letters; labels do not touch."""
    names = [f'{value:g}' for value in thresholds]
    most = min(MOST_TICKS, letters // (max(map(len, names)) + 2))
    step = math.ceil(len(names) / most)
    axis.set_ticks(range(0, len(names), step), names[::step])
    axis.set_label_text(f'{kind} threshold')


def plot_sweep(
    names: Sequence[str],
    results: Mapping[str, Sequence[float]],
    setting: str,
    file: Path,
    deviations: Mapping[str, Sequence[float]] | None = None,
    title: str = '',
) -> None:
    """Metrics against a setting, one panel per metric; to scale if the values are numbers that are not too close.

    Args:
        names: names of the values, in order.
        results: by metric, one result per name; NaN for a missing result.
        setting: name of the setting.
        file: PNG to write; its folder is created.
        deviations: standard deviations by metric, drawn as error bars; NaN for a missing one.
        title: above the plot.
    """
    places, scale = _places(names)
    tight = scale is None and max(map(len, names)) > _letters(len(names))
    height = 2.6 * max(1, len(results)) + 0.6 + tight
    figure = Figure(figsize=(WIDTH, height), layout='constrained')
    _set_title(figure, title)
    axes = figure.subplots(max(1, len(results)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (metric, values) in zip(axes, results.items(), strict=False):
        bars = (deviations or {}).get(metric)
        bars = bars if bars is not None and np.isfinite(bars).any() else None
        axis.errorbar(places, values, bars, marker='o', capsize=3, linestyle='none' if scale is None else '-')
        axis.set_ylabel(metric)
        axis.grid(alpha=0.25)
        if not np.isfinite(values).any():
            axis.set_yticks([])
            axis.text(0.5, 0.5, 'undefined', transform=axis.transAxes, ha='center', va='center')
    if scale == 'log':
        axes[-1].set_xscale('log')
    shown = [textwrap.fill(name, 24) for name in names]
    axes[-1].set_xticks(places, shown, **(dict(rotation=40, ha='right', rotation_mode='anchor') if tight else {}))
    axes[-1].minorticks_off()
    axes[-1].set_xlabel(setting)
    _save(figure, file)


def _places(names: Sequence[str]) -> tuple[list[float], str | None]:
    """Positions of the names on an axis, and its scale; None for names at equal distances."""
    in_turn = list(map(float, range(len(names))))
    try:
        values = [float(name) for name in names]
    except ValueError:
        return in_turn, None
    if not all(map(math.isfinite, values)):
        return in_turn, None
    least, most = min(values), max(values)
    scales = ['linear', 'log'] if least > 0 else ['linear']
    if least > 0 and most / least > WIDE_RATIO:
        scales.reverse()
    for scale in scales:
        if _have_room(names, np.log(values) if scale == 'log' else np.array(values)):
            return values, scale
    return in_turn, None


def _have_room(names: Sequence[str], values: np.ndarray) -> bool:
    """Whether names at these positions do not touch."""
    order = values.argsort()
    places = (values[order] - values.min()) / (np.ptp(values) or 1) * _letters(1)
    letters = np.array([len(names[index]) for index in order])
    return bool((np.diff(places) > (letters[1:] + letters[:-1]) / 2 + 1).all())


def _letters(columns: int) -> float:
    """Number of letters that fit into a column of an axis."""
    return 0.85 * WIDTH * LETTERS_PER_INCH / columns


def _set_title(figure: Figure, title: str) -> None:
    """Set a title with line breaks that fit the figure."""
    limit = int(figure.get_figwidth() * LETTERS_PER_INCH)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, limit)]
    if lines:
        figure.suptitle('\n'.join(lines), fontsize=10)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        FigureCanvasAgg(figure).print_png(part)
