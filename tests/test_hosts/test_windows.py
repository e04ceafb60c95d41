"""Settings of sliding windows must cover all pixels."""

import pytest
import torch
from helpers import hosts

from mmmaskformer.hosts.windows import require_windows


@pytest.mark.parametrize('stride', [(48, 32), (32, 33)])
def test_stride_larger_than_the_window(stride):
    with pytest.raises(
        ValueError, match=rf'crop_size=\(32, 32\) and stride=\({stride[0]}, {stride[1]}\): a stride larger'
    ):
        require_windows(dict(mode='slide', crop_size=(32, 32), stride=stride))


@pytest.mark.parametrize('settings', [
    dict(crop_size=(32, 32)),
    dict(stride=(32, 32)),
    dict(crop_size=32, stride=16),
    dict(crop_size=(32, 32), stride=(0, 16)),
    dict(crop_size=(32.0, 32), stride=(16, 16)),
])  # fmt: skip
def test_windows_without_sizes(settings):
    with pytest.raises(
        ValueError, match=r"mode 'slide' with crop_size=.* and stride=.*, expected two positive integers"
    ):
        require_windows(dict(mode='slide') | settings)


@pytest.mark.parametrize('test_cfg', [
    dict(mode='slide', crop_size=(32, 48), stride=[32, 48]),
    dict(mode='whole', crop_size=(32, 32), stride=(48, 48)),
    dict(semantic=dict()),
])  # fmt: skip
def test_windows_that_cover_every_image(test_cfg):
    require_windows(test_cfg)


@torch.no_grad()
def test_settings_changed_after_the_model_was_built():
    model = hosts.make_segmentor(segmentor='mmmaskformer.EncoderDecoder')
    image, sample = hosts.make_sample((64, 64))
    model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(48, 48))
    with pytest.raises(ValueError, match='a stride larger than the window'):
        model.test_step(dict(inputs=[image], data_samples=[sample]))
