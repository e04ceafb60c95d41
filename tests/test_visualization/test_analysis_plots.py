"""Plots of the analyses: all text is inside the figure, and no two names overlap."""

import itertools

import numpy as np
import pytest

pytest.importorskip('matplotlib')

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from PIL import Image  # noqa: E402

from mmmaskformer.visualization import analysis_plots  # noqa: E402
from mmmaskformer.visualization.analysis_plots import (  # noqa: E402
    plot_class_histogram,
    plot_sweep,
    plot_thresholds,
    plot_unique_classes,
)

LONG = (
    'maskformer_swin-l-in22k-384x384-pre_64xb1-554k_coco-panoptic-test-dev: panoptic quality in percent, 20288 images'
)
CASES = [
    '6 layers',
    'no self-attention',
    'no deep supervision',
    'bipartite, 150 queries',
    'fixed matching, 150 queries',
    'box matching',
    'PerPixelBaseline',
    'PerPixelBaseline+',
]
PARTS = [f"dict(type='mmmaskformer.VeryLongPartName{i}', some_setting={i})" for i in range(3)]


@pytest.fixture
def figure(monkeypatch, tmp_path):
    """The figure of the saved plot, drawn."""
    found = []

    def save(figure, file):
        FigureCanvasAgg(figure).draw()
        found.append(figure)

    monkeypatch.setattr(analysis_plots, '_save', save)
    return lambda plot, *args, **kwargs: plot(*args, file=tmp_path / 'plot.png', **kwargs) or found[-1]


def texts_of(figure):
    """The visible texts that are not rotated, with their boxes."""
    shown = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        shown += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
    shown = [text for text in shown if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in shown if text.get_rotation() in (0, 90)]


def require_readable(figure):
    """All texts are inside the figure, and none overlap."""
    texts, (width, height) = texts_of(figure), figure.bbox.size
    assert texts
    for text, box in texts:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, box), (two, other) in itertools.combinations(texts, 2):
        assert not (box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1), (one, two)


def ticks(axis):
    low, high = axis.get_view_interval()
    return [float(tick) for tick in axis.get_ticklocs() if low <= tick <= high]


@pytest.mark.parametrize('unique', [[0], [1], [1, 1, 0, 0, 0], list(range(120, 20, -1)), [3] * 1000])
def test_numbers_of_classes_are_whole(figure, unique):
    drawn = figure(plot_unique_classes, np.array(unique), LONG)
    require_readable(drawn)
    (axis,) = drawn.axes
    assert all(tick == int(tick) for tick in ticks(axis.yaxis) + ticks(axis.xaxis))
    assert [bar.get_height() for bar in axis.patches] == unique
    assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] >= max(1, *unique)


@pytest.mark.parametrize('histogram', [[5], [0, 3], list(range(40))])
def test_histogram_of_classes(figure, histogram):
    drawn = figure(plot_class_histogram, np.array(histogram), 8.2, LONG)
    require_readable(drawn)
    assert 'mean 8.2' in drawn._suptitle.get_text() and [bar.get_height() for bar in drawn.axes[0].patches] == histogram


def values_between(number):
    return [index / number for index in range(number)]


@pytest.mark.parametrize('size', [(20, 10), (2, 2), (101, 101), (1, 5), (5, 1), (1, 1)])
def test_thresholds_name_the_best_pair_and_hide_no_cell(figure, size):
    pq = np.random.default_rng(0).random(size) * 50
    pq[0, 0] = 60
    drawn = figure(plot_thresholds, pq, values_between(size[0]), values_between(size[1]), LONG)
    require_readable(drawn)
    assert 'best PQ 60.0 at object 0, overlap 0' in drawn._suptitle.get_text() and not drawn.axes[0].get_legend()
    if 1 not in size:
        (image,) = drawn.axes[0].images
        np.testing.assert_array_equal(image.get_array(), pq)


def test_thresholds_without_a_number(figure):
    drawn = figure(plot_thresholds, np.full((2, 3), np.nan), [0.1, 0.2], [0.3, 0.4, 0.5], 'a')
    require_readable(drawn)
    assert drawn._suptitle.get_text() == 'a'


@pytest.mark.parametrize(
    'names, scale',
    [
        (['20', '50', '100', '150', '300', '1000'], 'log'),
        (['1', '2', '3', '4', '5', '6'], 'linear'),
        (['0.0001', '0.0003', '0.001'], 'linear'),
        (['0', '0.0003', '0.001', '0.01'], None),
        (['5'], 'linear'),
        (['1', 'inf'], None),
        (['nan', '1'], None),
        (['True', 'False'], None),
        (['-1', '1000', '1001'], None),
        ([str(number) for number in range(40)], None),
        (CASES, None),
        (PARTS, None),
    ],
    ids=lambda value: '' if value is None else ' '.join(value)[:20] if isinstance(value, list) else value,
)
def test_values_of_a_sweep_do_not_overlap(figure, names, scale):
    results = {'mIoU': [40.0 + place for place in range(len(names))], 'panoptic/PQ': [float('nan')] * len(names)}
    drawn = figure(plot_sweep, names, results, 'a.b', title=LONG)
    require_readable(drawn)
    axis = drawn.axes[-1]
    assert [label.get_text().replace('\n', ' ').split() for label in axis.get_xticklabels()] == [
        ' '.join(name.split()).split() for name in names
    ] or names == PARTS
    assert axis.get_xscale() == (scale or 'linear')
    places = list(axis.get_xticks())
    assert places == (list(map(float, names)) if scale else list(range(len(names))))
    assert 'undefined' in [text for text, _ in texts_of(drawn)]


def test_deviations_are_error_bars(figure):
    results = {'mIoU': [1.0, 2.0], 'PQ': [3.0, 4.0]}
    deviations = {'mIoU': [0.5, float('nan')], 'PQ': [float('nan')] * 2}
    drawn = figure(plot_sweep, ['5', '20'], results, 'queries', deviations=deviations)
    assert [axis.containers[0].has_yerr for axis in drawn.axes] == [True, False]


def test_a_plot_is_written(tmp_path):
    plot_sweep(['5'], {}, 'queries', tmp_path / 'new' / 'plot.png')
    assert Image.open(tmp_path / 'new' / 'plot.png').width == 700
