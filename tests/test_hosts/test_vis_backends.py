"""Backends of the visualizers with and without a folder."""

import warnings

import pytest

from mmmaskformer.hosts.mmdet_visualizer import DetLocalVisualizer
from mmmaskformer.hosts.mmseg_visualizer import SegLocalVisualizer
from mmmaskformer.hosts.vis_backends import WholeVisBackend, writable_backends

TYPES = ('LocalVisBackend', 'mmengine.LocalVisBackend', 'mmmaskformer.WholeVisBackend')


@pytest.mark.parametrize('name', TYPES)
@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_local_files_need_a_folder(host, name, tmp_path):
    visualizer = {'mmdet': DetLocalVisualizer, 'mmseg': SegLocalVisualizer}[host]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert not visualizer(vis_backends=[dict(type=name)])._vis_backends
        found = visualizer(vis_backends=[dict(type=name)], save_dir=str(tmp_path))._vis_backends
    (backend,) = found.values()
    assert isinstance(backend, WholeVisBackend)


def test_other_backends_are_kept(tmp_path):
    others = [dict(type='TensorboardVisBackend'), dict(type='LocalVisBackend', save_dir=str(tmp_path))]
    assert [backend['type'] for backend in writable_backends(others, None)] == [
        'TensorboardVisBackend',
        'mmmaskformer.WholeVisBackend',
    ]
    assert writable_backends(None, None) is None
