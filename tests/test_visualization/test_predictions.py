"""Drawing predictions: with a stand-in model and data set, and with a stock MMSegmentation model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmmaskformer.datasets.scene_files import write_scenes
from mmmaskformer.datasets.scenes import METAINFO
from mmmaskformer.visualization.predictions import Setup, draw_predictions, load_setup, predict_example, spread_indices

CONFIG = """
default_scope = 'mmseg'
norm_cfg = dict(type='BN')
data_preprocessor = dict(type='SegDataPreProcessor', mean=[128] * 3, std=[64] * 3, bgr_to_rgb=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=1, strides=(1,), dilations=(1,),
                  out_indices=(0,), norm_cfg=norm_cfg),
    decode_head=dict(type='FCNHead', in_channels=4, in_index=0, channels=4, num_convs=1, concat_input=False,
                     num_classes=9, norm_cfg=norm_cfg, align_corners=False),
    test_cfg=dict(mode='whole'))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', data_root='{root}', img_suffix='.png', metainfo=dict(classes={classes}, palette={palette}),
    data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 64), keep_ratio=True),
              dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Config and checkpoint of an untrained stock model on invented scenes."""
    pytest.importorskip('mmseg')
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    folder = tmp_path_factory.mktemp('run')
    write_scenes(folder / 'scenes', num_train=1, num_val=6)
    text = CONFIG
    for key, value in (('root', folder / 'scenes'), ('classes', METAINFO['classes']), ('palette', METAINFO['palette'])):
        text = text.replace(f'{{{key}}}', str(value))
    (folder / 'config.py').write_text(text)
    cfg = Config.fromfile(folder / 'config.py')
    init_default_scope('mmseg')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / 'good.pth')
    torch.save({'state_dict': model.decode_head.state_dict(), 'meta': {}}, folder / 'bad.pth')
    return folder


class StandInData:
    """Two pixels high, three wide; labels [[0, 1, 255], [0, 1, 1]] in a file, or in the sample."""

    def __init__(self, folder, labels=None, **info):
        self.path = str(folder / 'picture.png')
        Image.new('RGB', (3, 2), (10, 20, 30)).save(self.path)
        self.labels, self.info = labels, info

    def __getitem__(self, index):
        sample = BaseDataElement(metainfo={'img_path': self.path})
        if self.labels is not None:
            sample.gt_sem_seg = PixelData(data=torch.as_tensor(self.labels)[None])
        return {'inputs': torch.zeros(3, 2, 3), 'data_samples': sample}

    def get_data_info(self, index):
        return self.info


def stand_in_model(prediction):
    """Answers every image with the same label map."""

    def test_step(batch):
        sample = batch['data_samples'][0].clone()
        if prediction is not None:
            sample.pred_sem_seg = PixelData(data=torch.as_tensor(prediction)[None])
        return [sample]

    return SimpleNamespace(test_step=test_step)


def setup_of(dataset, prediction, ignore_label=255):
    return Setup(stand_in_model(prediction), dataset, ['a', 'b'], [[1, 2, 3], [4, 5, 6]], ignore_label)


LABELS = [[0, 1, 255], [0, 1, 1]]
PREDICTION = [[1, 1, 1], [0, 0, 0]]


def test_spread_indices():
    assert spread_indices(10, 4) == [0, 3, 6, 9]
    assert spread_indices(3, 8) == [0, 1, 2]
    assert spread_indices(5, 1) == [0]
    with pytest.raises(ValueError, match='test_dataloader.dataset: found no image'):
        spread_indices(0, 4)


def test_ground_truth_of_the_sample(tmp_path):
    name, example = predict_example(setup_of(StandInData(tmp_path, LABELS), PREDICTION), 0)
    assert name == 'picture'
    np.testing.assert_array_equal(example.image[1, 2], [10, 20, 30])
    np.testing.assert_array_equal(example.ground_truth, LABELS)
    np.testing.assert_array_equal(example.prediction, PREDICTION)


def test_ground_truth_of_the_label_file(tmp_path):
    path = tmp_path / 'labels.png'
    Image.fromarray(np.array([[0, 1, 2], [255, 3, 1]], np.uint8)).save(path)
    info = {'seg_map_path': str(path), 'reduce_zero_label': True, 'label_map': {0: 1, 1: 0}}
    _, example = predict_example(setup_of(StandInData(tmp_path, **info), PREDICTION), 0)
    np.testing.assert_array_equal(example.ground_truth, [[255, 1, 0], [255, 2, 1]])


def test_sixteen_bit_label_file(tmp_path):
    path = tmp_path / 'labels.png'
    stored = np.array([[0, 300, 846], [65535, 3, 1]], np.uint16)
    Image.fromarray(stored).save(path)
    _, example = predict_example(setup_of(StandInData(tmp_path, seg_map_path=str(path)), PREDICTION, 65535), 0)
    np.testing.assert_array_equal(example.ground_truth, stored)


def test_no_ground_truth(tmp_path):
    assert predict_example(setup_of(StandInData(tmp_path), PREDICTION), 0)[1].ground_truth is None


def test_sizes_must_agree(tmp_path):
    with pytest.raises(ValueError, match=r'gt_sem_seg: found size \(1, 3\), expected that of .*picture.png, \(2, 3\)'):
        predict_example(setup_of(StandInData(tmp_path, LABELS[:1]), PREDICTION), 0)
    with pytest.raises(ValueError, match=r'pred_sem_seg: found size \(1, 3\)'):
        predict_example(setup_of(StandInData(tmp_path, LABELS), PREDICTION[:1]), 0)


def test_model_of_another_task(tmp_path):
    with pytest.raises(ValueError, match=r"found a prediction with \['gt_sem_seg'\], expected pred_sem_seg"):
        predict_example(setup_of(StandInData(tmp_path, LABELS), None), 0)


def test_stock_model_from_config_to_pictures(run, tmp_path):
    files = draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=3)
    assert [file.name for file in files] == ['000000.png', '000002.png', '000005.png', 'overview.png']
    assert all(file.is_file() for file in files)
    assert Image.open(files[-1]).height > 2 * Image.open(files[0]).height


def test_ground_truth_is_at_the_size_of_the_file(run):
    setup = load_setup(run / 'config.py', run / 'good.pth')
    _, example = predict_example(setup, 0)
    stored = np.asarray(Image.open(run / 'scenes' / 'annotations' / 'val' / '000000.png'))
    np.testing.assert_array_equal(example.ground_truth, stored)
    assert not setup.model.training


def test_labels_loaded_before_resizing(run, tmp_path):
    pipeline = [{'type': kind} for kind in ('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackSegInputs')]
    pipeline[2].update(scale=(160, 64), keep_ratio=True)
    options = {'test_dataloader.dataset.pipeline': pipeline}
    with pytest.raises(ValueError, match='gt_sem_seg: found size .* Fix: in the test pipeline, load annotations after'):
        draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=1, cfg_options=options)


def test_weights_of_another_model(run, tmp_path):
    with pytest.raises(ValueError, match='bad.pth does not fit the model of the config: .*unexpected key'):
        draw_predictions(run / 'config.py', run / 'bad.pth', tmp_path)


def test_missing_files_and_bad_number(run, tmp_path):
    with pytest.raises(FileNotFoundError, match='config: nowhere.py does not exist'):
        draw_predictions('nowhere.py', run / 'good.pth', tmp_path)
    with pytest.raises(FileNotFoundError, match='checkpoint: nowhere.pth does not exist'):
        draw_predictions(run / 'config.py', 'nowhere.pth', tmp_path)
    with pytest.raises(ValueError, match='num: found 0, expected at least 1'):
        draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=0)


def test_configs_that_cannot_be_drawn(run, tmp_path):
    (tmp_path / 'empty.py').write_text('model = None')
    with pytest.raises(ValueError, match="empty.py: found no 'model'"):
        load_setup(tmp_path / 'empty.py', run / 'good.pth')
    options = {'test_dataloader.dataset.metainfo': {'_delete_': True}, 'test_dataloader.dataset.test_mode': False}
    with pytest.raises(ValueError, match='the metainfo of test_dataloader.dataset has classes None'):
        load_setup(run / 'config.py', run / 'good.pth', options)
