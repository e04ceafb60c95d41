"""Plots of the analyses as PNG, each whole or not at all; needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmmaskformer.formats.whole_files import whole_file

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError('plots of the analyses need matplotlib. Fix: pip install matplotlib') from error


def plot_unique_classes(unique: np.ndarray, title: str, file: Path) -> None:
    """Number of different classes of each query, as in the paper's figure.

    Args:
        unique: (Q,) integer, in descending order.
        title: above the plot.
        file: PNG to write; its folder is made.
    """
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axis = figure.subplots()
    axis.bar(np.arange(len(unique)), unique, width=1.0, edgecolor='white', linewidth=0.3)
    axis.set_xlabel('query, sorted')
    axis.set_ylabel('unique classes predicted')
    axis.set_title(title)
    _save(figure, file)


def plot_class_histogram(histogram: np.ndarray, mean: float, title: str, file: Path) -> None:
    """How many images have how many classes.

    Args:
        histogram: (n,) number of images with 0, 1, … classes.
        mean: classes per image.
        title: above the plot.
        file: PNG to write; its folder is made.
    """
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axis = figure.subplots()
    axis.bar(np.arange(len(histogram)), histogram)
    axis.axvline(mean, color='black', linestyle='--', label=f'mean {mean:.1f}')
    axis.set_xlabel('classes in the image')
    axis.set_ylabel('images')
    axis.set_title(title)
    axis.legend()
    _save(figure, file)


def plot_thresholds(
    pq: np.ndarray, object_thresholds: Sequence[float], overlap_thresholds: Sequence[float], title: str, file: Path
) -> None:
    """PQ as a heat map, the best pair marked; as lines if one kind of threshold has a single value.

    Args:
        pq: (A, O) in percent.
        object_thresholds: A, ascending.
        overlap_thresholds: O, ascending.
        title: above the plot.
        file: PNG to write; its folder is made.
    """
    figure = Figure(figsize=(8, 5), layout='constrained')
    axis = figure.subplots()
    if 1 in pq.shape:
        by_object = pq.shape[1] == 1
        axis.plot(object_thresholds if by_object else overlap_thresholds, pq.ravel(), marker='o', markersize=4)
        axis.set_xlabel(f'{"object" if by_object else "overlap"} threshold')
        axis.set_ylabel('PQ, %')
        axis.grid(alpha=0.25)
    else:
        shown = axis.imshow(pq, origin='lower', aspect='auto', cmap='viridis')
        axis.set_xticks(range(len(overlap_thresholds)), [f'{value:g}' for value in overlap_thresholds])
        axis.set_yticks(range(len(object_thresholds)), [f'{value:g}' for value in object_thresholds])
        axis.set_xlabel('overlap threshold')
        axis.set_ylabel('object threshold')
        figure.colorbar(shown, label='PQ, %')
        if not np.isnan(pq).all():
            row, column = np.unravel_index(np.nanargmax(pq), pq.shape)
            label = f'{pq[row, column]:.1f}'
            axis.plot(column, row, 's', markersize=12, markerfacecolor='none', color='red', label=label)
            axis.legend(title='best PQ')
    axis.set_title(title)
    _save(figure, file)


def plot_sweep(names: Sequence[str], results: Mapping[str, Sequence[float]], setting: str, file: Path) -> None:
    """Metrics against a setting: a panel for each, to scale if the values are numbers.

    Args:
        names: of the values, in their order.
        results: a value for each name by metric; NaN where there is none.
        setting: what was changed.
        file: PNG to write; its folder is made.
    """
    figure = Figure(figsize=(7, 2.6 * max(1, len(results)) + 0.6), layout='constrained')
    axes = figure.subplots(max(1, len(results)), 1, sharex=True, squeeze=False)[:, 0]
    try:
        places, numeric = [float(name) for name in names], True
    except ValueError:
        places, numeric = list(map(float, range(len(names)))), False
    for axis, (metric, values) in zip(axes, results.items(), strict=False):
        axis.plot(places, values, marker='o', linestyle='-' if numeric else 'none')
        axis.set_ylabel(metric)
        axis.grid(alpha=0.25)
    if numeric and min(places) > 0 and max(places) / min(places) > 20:
        axes[-1].set_xscale('log')
    axes[-1].set_xticks(places, names)
    axes[-1].minorticks_off()
    axes[-1].set_xlabel(setting)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        FigureCanvasAgg(figure).print_png(part)
