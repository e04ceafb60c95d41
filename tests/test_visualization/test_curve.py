"""Training curves from the logs of mmengine."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('matplotlib')

from mmmaskformer.visualization import curve  # noqa: E402
from mmmaskformer.visualization.curve import last_validation, metric_panels, plot_run, read_scalars  # noqa: E402


def train_row(step, loss, **more):
    row = {'lr': 0.1, 'loss': loss, 'decode.loss_cls': loss / 2, 'decode.d0.loss_cls': loss / 2}
    return {**row, 'iter': step, 'step': step, **more}


def write_log(work_dir, name, rows, ending='\n'):
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(row) for row in rows) + ending)


def test_rows_are_distinguished(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0), train_row(20, 2.0), {'mIoU': 12.5, 'time': 0.1, 'step': 25}])
    scalars = read_scalars(tmp_path)
    assert [(row['step'], row['loss']) for row in scalars.train] == [(10, 4.0), (20, 2.0)]
    assert [(row['step'], row['mIoU']) for row in scalars.val] == [(25, 12.5)]


def test_a_resumed_run_replaces_rows_from_its_first_step_on(tmp_path):
    write_log(tmp_path, '20260102', [train_row(21, 20.0), {'mIoU': 2.0, 'step': 30}])
    first = [train_row(10, 1.0), {'mIoU': 1.0, 'step': 15}, train_row(20, 1.0)]
    write_log(tmp_path, '20260101', [*first, train_row(30, 1.0), {'mIoU': 9.0, 'step': 35}, train_row(40, 1.0)])
    scalars = read_scalars(tmp_path)
    assert [(row['step'], row['loss']) for row in scalars.train] == [(10, 1.0), (20, 1.0), (21, 20.0)]
    assert [(row['step'], row['mIoU']) for row in scalars.val] == [(15, 1.0), (30, 2.0)]


def test_log_of_a_test_does_not_count(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0), {'mIoU': 30.0, 'step': 10}])
    write_log(tmp_path, '2', [{'mIoU': 50.0, 'step': 0}])
    assert [len(rows) for rows in read_scalars(tmp_path)] == [1, 1]
    assert last_validation(tmp_path)['mIoU'] == 30.0


def test_a_validation_that_was_cut_off_is_in_the_log_of_the_resumed_run(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0), {'mIoU': 1.0, 'step': 10}, train_row(20, 3.0)])
    write_log(tmp_path, '2', [{'mIoU': 2.0, 'step': 20}])
    scalars = read_scalars(tmp_path)
    assert [row['step'] for row in scalars.train] == [10, 20]
    assert [(row['step'], row['mIoU']) for row in scalars.val] == [(10, 1.0), (20, 2.0)]
    assert last_validation(tmp_path)['mIoU'] == 2.0


def test_a_validation_is_kept_if_later_steps_were_lost(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0), train_row(20, 3.0), train_row(25, 2.0)])
    write_log(tmp_path, '2', [{'mIoU': 2.0, 'step': 20}, train_row(21, 1.0), {'mIoU': 3.0, 'step': 30}])
    scalars = read_scalars(tmp_path)
    assert [row['step'] for row in scalars.train] == [10, 20, 21]
    assert [(row['step'], row['mIoU']) for row in scalars.val] == [(20, 2.0), (30, 3.0)]


def test_the_last_validation_needs_no_logged_training_step(tmp_path):
    assert last_validation(tmp_path) is None
    write_log(tmp_path, '1', [{'mIoU': 1.0, 'step': 5}, {'mIoU': 2.0, 'step': 10}])
    assert last_validation(tmp_path) == {'mIoU': 2.0, 'step': 10}


def test_epochs_become_iterations(tmp_path):
    rows = [train_row(7, 2.0, epoch=1), {'coco_panoptic/PQ': 3.0, 'step': 1}]
    write_log(tmp_path, '1', [*rows, train_row(14, 1.0, epoch=2), {'coco_panoptic/PQ': 5.0, 'step': 2}])
    assert [(row['step'], row['coco_panoptic/PQ']) for row in read_scalars(tmp_path).val] == [(7, 3.0), (14, 5.0)]


def test_hierarchical_keys(tmp_path):
    write_log(tmp_path, '1', [{'train/loss': 2.0, 'iter': 5, 'step': 5}, {'val/mIoU': 3.0, 'step': 5}])
    scalars = read_scalars(tmp_path)
    assert scalars.train[0]['loss'] == 2.0 and scalars.val[0]['mIoU'] == 3.0


def test_unfinished_last_line_is_skipped(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0)], ending='\n{"loss": 3.')
    assert len(read_scalars(tmp_path).train) == 1


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere: no such folder'):
        read_scalars(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'found no \*/vis_data/scalars.json; expected the work_dir'):
        read_scalars(tmp_path)
    write_log(tmp_path, '1', [{'lr': 0.1, 'step': 1}])
    with pytest.raises(ValueError, match='scalars.json: found no row with a loss'):
        read_scalars(tmp_path)


def test_broken_line(tmp_path):
    write_log(tmp_path, '1', [train_row(10, 4.0)], ending='\noops\n{}\n')
    with pytest.raises(ValueError, match='scalars.json: line 2 is not JSON'):
        read_scalars(tmp_path)


def test_out_file_must_be_png(tmp_path):
    with pytest.raises(ValueError, match='out_file: found curve.pdf, expected a name that ends in .png'):
        plot_run(tmp_path, 'curve.pdf')


@pytest.fixture
def figures(monkeypatch):
    """The drawn figures, to inspect their lines."""
    drawn = []

    class Recorder(curve.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(curve, 'Figure', Recorder)
    return drawn


def test_plot_with_validation(tmp_path, figures):
    rows = [train_row(10, 4.0), train_row(20, 2.0), {'mIoU': 40.0, 'step': 20}]
    write_log(tmp_path / 'run', '1', rows)
    out_file = tmp_path / 'new' / 'curve.png'
    plot_run(tmp_path / 'run', out_file)
    losses, metrics = figures[0].axes
    lines = {line.get_label(): line for line in losses.lines}
    assert set(lines) == {'total, all layers', 'decode.loss_cls'}, 'earlier layers are left out'
    np.testing.assert_array_equal(lines['decode.loss_cls'].get_xydata(), [[10, 2.0], [20, 1.0]])
    assert losses.get_yscale() == 'log' and 'loss' in losses.get_ylabel()
    np.testing.assert_array_equal(metrics.lines[0].get_xydata(), [[20, 40.0]])
    assert 'iterations' in metrics.get_xlabel() and '%' in metrics.get_ylabel()
    assert Image.open(out_file).width == 800


def test_legends_hide_no_curve_and_every_metric_looks_different(tmp_path, figures):
    metrics = {f'metric_{index}': float(index) for index in range(16)}
    write_log(tmp_path, '1', [train_row(10, 4.0), train_row(20, 2.0), {**metrics, 'step': 20}])
    plot_run(tmp_path, tmp_path / 'curve.png')
    for axis in figures[0].axes:
        assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1
        looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axis.lines}
        assert len(looks) == len(axis.lines)
    assert len(figures[0].axes[1].lines) == 16


def test_plot_without_validation(tmp_path, figures):
    write_log(tmp_path, '1', [{'loss': 2.0, 'loss_mask': 1.0, 'd3.loss_mask': 1.0, 'step': 5}])
    plot_run(tmp_path, tmp_path / 'curve.png')
    (losses,) = figures[0].axes
    assert [line.get_label() for line in losses.lines] == ['total, all layers', 'loss_mask']
    assert 'iterations' in losses.get_xlabel()


def test_every_metric_is_drawn_in_a_panel_of_its_unit(tmp_path):
    rows = [
        {'mIoU': 50.0, 'PQ-St': 20.0, 'time': 0.1, 'data_time': 0.2, 'step': 5, 'note': 'text'},
        {'coco/segm_mAP': 0.25, 'coco/segm_mAP_s': -1.0, 'coco/AR@100': 0.5, 'pixels': 1234.0, 'step': 5},
    ]
    panels = metric_panels(rows)
    assert list(panels) == ['%', 'fraction', '']
    assert list(panels['%']) == ['mIoU', 'PQ-St'] and list(panels['']) == ['pixels']
    assert panels['fraction'] == {
        'coco/segm_mAP': ([5], [0.25]), 'coco/segm_mAP_s': ([], []), 'coco/AR@100': ([5], [0.5])
    }  # fmt: skip
    write_log(tmp_path, '1', [train_row(5, 4.0), *rows])
    plot_run(tmp_path, tmp_path / 'curve.png')
    assert np.asarray(Image.open(tmp_path / 'curve.png')).std() > 0
