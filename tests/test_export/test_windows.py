"""Shifted windows, compared with MMSegmentation's Swin Transformer."""

import pytest
import torch
from helpers.hosts import make_segmentor

from mmmaskformer.export.files import write_file
from mmmaskformer.export.modules import export_module
from mmmaskformer.export.windows import PortableWindows, make_windows_portable

SWIN = dict(type='SwinTransformer', embed_dims=4, depths=(2, 2, 2, 2), num_heads=(1, 1, 2, 2), window_size=7)


@pytest.fixture(scope='module')
def model():
    return make_segmentor(SWIN, in_channels=[4, 8, 16, 32])


@pytest.mark.parametrize('size', [(64, 96), (96, 224), (224, 224)])
def test_equals_mmsegmentation(model, size):
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model.backbone(x)
        portable = export_module(model, 'raw').model.backbone
        found = portable(x)
    assert sum(isinstance(part, PortableWindows) for part in portable.modules()) == 8
    for tensor, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, wanted, rtol=1e-5, atol=1e-5)


def test_other_modules_stay():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    make_windows_portable(model)
    assert type(model[0]) is torch.nn.Linear


def test_free_sizes_are_refused_where_the_exporter_cannot(model, tmp_path):
    with pytest.raises(ValueError, match='does not finish for Swin with free sizes. Fix: add --fixed-size H W'):
        write_file(export_module(model, 'raw'), 'raw', {}, 'torch-export', tmp_path / 'x')
