"""Drawing predictions of a stand-in model and dataset, of a stock MMSegmentation model, and of a panoptic model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.fresh import ROOT
from helpers.hosts import detector_config
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

from mmmaskformer.apis.drawing import Setup, draw_predictions, load_setup, predict_example
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.datasets.scenes.scenes import METAINFO
from mmmaskformer.heads import results
from mmmaskformer.visualization.samples import ClassList

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
    """Config and checkpoint of an untrained stock model on synthetic scenes."""
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
    """Images of 2 x 3 pixels; labels [[0, 1, 255], [0, 1, 1]] in a file, or in the sample."""

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
    """Predicts the same label map for every image."""

    def test_step(batch):
        sample = batch['data_samples'][0].clone()
        if prediction is not None:
            sample.pred_sem_seg = PixelData(data=torch.as_tensor(prediction)[None])
        return [sample]

    return SimpleNamespace(test_step=test_step)


def setup_of(dataset, prediction, ignore_label=255):
    classes = ClassList(['a', 'b'], [[1, 2, 3], [4, 5, 6]], [True, True], ignore_label)
    return Setup(stand_in_model(prediction), dataset, classes)


LABELS = [[0, 1, 255], [0, 1, 1]]
PREDICTION = [[1, 1, 1], [0, 0, 0]]


def pixels(segments, ignore_label=255):
    """The class of every pixel."""
    return np.append(ignore_label, segments.labels)[segments.ids]


def test_ground_truth_of_the_sample(tmp_path):
    name, example = predict_example(setup_of(StandInData(tmp_path, LABELS), PREDICTION), 0)
    assert name == 'picture'
    np.testing.assert_array_equal(example.image[1, 2], [10, 20, 30])
    np.testing.assert_array_equal(pixels(example.ground_truth), LABELS)
    np.testing.assert_array_equal(pixels(example.prediction), PREDICTION)


def test_ground_truth_of_the_label_file(tmp_path):
    path = tmp_path / 'labels.png'
    Image.fromarray(np.array([[0, 1, 2], [255, 3, 1]], np.uint8)).save(path)
    info = {'seg_map_path': str(path), 'reduce_zero_label': True, 'label_map': {0: 1, 1: 0}}
    _, example = predict_example(setup_of(StandInData(tmp_path, **info), PREDICTION), 0)
    np.testing.assert_array_equal(pixels(example.ground_truth), [[255, 1, 0], [255, 2, 1]])


def test_sixteen_bit_label_file(tmp_path):
    path = tmp_path / 'labels.png'
    stored = np.array([[0, 300, 846], [65535, 3, 1]], np.uint16)
    Image.fromarray(stored).save(path)
    _, example = predict_example(setup_of(StandInData(tmp_path, seg_map_path=str(path)), PREDICTION, 65535), 0)
    np.testing.assert_array_equal(pixels(example.ground_truth, 65535), stored)


def test_no_ground_truth(tmp_path):
    assert predict_example(setup_of(StandInData(tmp_path), PREDICTION), 0)[1].ground_truth is None


def test_stock_model_from_config_to_pictures(run, tmp_path):
    files = draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=3)
    assert [file.name for file in files] == ['000000.png', '000002.png', '000005.png', 'overview.png']
    assert all(file.is_file() for file in files)
    assert Image.open(files[-1]).height > 2 * Image.open(files[0]).height


def test_ground_truth_is_at_the_size_of_the_file(run):
    setup = load_setup(run / 'config.py', run / 'good.pth')
    _, example = predict_example(setup, 0)
    stored = np.asarray(Image.open(run / 'scenes' / 'annotations' / 'val' / '000000.png'))
    np.testing.assert_array_equal(pixels(example.ground_truth), stored)
    assert not setup.model.training


def test_labels_loaded_before_resizing(run, tmp_path):
    pipeline = [{'type': kind} for kind in ('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackSegInputs')]
    pipeline[2].update(scale=(160, 64), keep_ratio=True)
    options = {'test_dataloader.dataset.pipeline': pipeline}
    with pytest.raises(
        ValueError, match='ground truth: found size .* Fix: in the test pipeline, load annotations after'
    ):
        draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=1, cfg_options=options)


def test_weights_of_another_model(run, tmp_path):
    with pytest.raises(ValueError, match='bad.pth does not fit the model of the config: .*unexpected key'):
        draw_predictions(run / 'config.py', run / 'bad.pth', tmp_path)


def test_missing_files_and_bad_number(run, tmp_path):
    with pytest.raises(FileNotFoundError, match='config nowhere.py: no such file'):
        draw_predictions('nowhere.py', run / 'good.pth', tmp_path)
    with pytest.raises(FileNotFoundError, match='checkpoint: nowhere.pth does not exist'):
        draw_predictions(run / 'config.py', 'nowhere.pth', tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f'checkpoint: {tmp_path} is a folder without config.json, expected a folder'
    ):
        draw_predictions(run / 'config.py', tmp_path, tmp_path)
    with pytest.raises(ValueError, match='num: found 0, expected at least 1'):
        draw_predictions(run / 'config.py', run / 'good.pth', tmp_path, num=0)


def test_configs_that_cannot_be_drawn(run, tmp_path):
    (tmp_path / 'empty.py').write_text('model = None')
    with pytest.raises(ValueError, match="empty.py: found no 'model'"):
        load_setup(tmp_path / 'empty.py', run / 'good.pth')
    options = {'test_dataloader.dataset.metainfo': {'_delete_': True}, 'test_dataloader.dataset.test_mode': False}
    with pytest.raises(ValueError, match='the metainfo of BaseSegDataset has classes None'):
        load_setup(run / 'config.py', run / 'good.pth', options)


@pytest.fixture(scope='module')
def panoptic_run(tmp_path_factory):
    """Config and checkpoint of an untrained panoptic model that predicts segments in every image."""
    folder = tmp_path_factory.mktemp('panoptic_run')
    write_scenes(folder / 'scenes', num_train=1, num_val=4)
    data = Config.fromfile(ROOT / 'configs/_base_/datasets/scenes_panoptic.py')
    loader = data.test_dataloader
    loader.dataset.data_root = str(folder / 'scenes')
    everything = dict(object_threshold=0.0, overlap_threshold=0.0)
    test_cfg = dict(panoptic=everything, semantic=dict(), instance=dict(), general=everything)
    model = detector_config(test_cfg, num_classes=9, things=data.things)
    Config(dict(default_scope='mmdet', model=model, test_dataloader=loader)).dump(folder / 'config.py')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(model).state_dict(), 'meta': {}}, folder / 'good.pth')
    return folder


def test_panoptic_model_from_config_to_pictures(panoptic_run, tmp_path):
    files = draw_predictions(panoptic_run / 'config.py', panoptic_run / 'good.pth', tmp_path, num=3)
    assert [file.name for file in files] == ['000000.png', '000002.png', '000003.png', 'overview.png']
    assert all(Image.open(file).width > 1000 for file in files), 'three panels'


def test_a_checkpoint_with_the_classes_in_another_order_is_refused(panoptic_run, tmp_path):
    config = panoptic_run / 'config.py'
    content = torch.load(panoptic_run / 'good.pth')
    content['meta'] = dict(dataset_meta=dict(classes=METAINFO['classes'][::-1]))
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth, which has the same classes in another order'):
        draw_predictions(config, tmp_path / 'other.pth', tmp_path / 'out')


def test_panoptic_truth_and_prediction_are_those_of_the_files(panoptic_run):
    setup = load_setup(panoptic_run / 'config.py', panoptic_run / 'good.pth')
    _, example = predict_example(setup, 1)
    semantic = np.asarray(Image.open(panoptic_run / 'scenes/annotations/val/000001.png'))
    np.testing.assert_array_equal(pixels(example.ground_truth), semantic)
    colours = np.asarray(Image.open(panoptic_run / 'scenes/panoptic_val/000001.png')).reshape(-1, 3)
    pairs = np.unique(np.column_stack([colours, example.ground_truth.ids.ravel()]), axis=0)
    assert len(pairs) == len(np.unique(colours, axis=0)), 'one segment for each colour of the PNG'
    assert len(example.prediction.labels) > 0
    assert example.prediction.ids.shape == semantic.shape


@pytest.mark.parametrize('field', ['pred_panoptic_seg', 'pred_sem_seg', 'pred_general_seg', 'pred_instances'])
def test_every_output_of_a_panoptic_model_can_be_drawn(panoptic_run, tmp_path, field):
    options = dict(num=1, field=field)
    files = draw_predictions(panoptic_run / 'config.py', panoptic_run / 'good.pth', tmp_path, **options)
    assert len(files) == 2


def test_an_empty_figure_explains_why_it_is_empty(panoptic_run, tmp_path):
    options = {'model.test_cfg.panoptic.object_threshold': 1.0}
    setup = load_setup(panoptic_run / 'config.py', panoptic_run / 'good.pth', options)
    _, example = predict_example(setup, 0)
    assert not len(example.prediction.labels) and not example.prediction.ids.any()
    assert 'queries are above model.test_cfg.panoptic.object_threshold=1.0; the highest' in example.prediction.void
    assert example.prediction.void.startswith('void: 0 of ')


def test_output_that_the_model_does_not_give(panoptic_run, tmp_path):
    with pytest.raises(ValueError, match='expected pred_detr_seg. Fix: .* add them to model.test_cfg'):
        draw_predictions(panoptic_run / 'config.py', panoptic_run / 'good.pth', tmp_path, field='pred_detr_seg')
    with pytest.raises(ValueError, match="field: found 'pred_masks'"):
        draw_predictions(panoptic_run / 'config.py', panoptic_run / 'good.pth', tmp_path, field='pred_masks')


OWN_RESULT = """
from mmmaskformer.core.inference.panoptic import general_inference
from mmmaskformer.heads.results import SEMANTIC, ResultKind, register_result


def thing_labels(class_logits, masks, *, is_thing, object_threshold=0.5):
    labels = general_inference(class_logits, masks, object_threshold=object_threshold)
    num_classes = len(is_thing)
    return labels.where((labels < num_classes) & is_thing[labels.clamp(max=num_classes - 1)], num_classes)


register_result(ResultKind('thing_labels', thing_labels, field='pred_thing_labels', form=SEMANTIC))
"""


def test_a_custom_result_is_drawn(panoptic_run, tmp_path, monkeypatch):
    monkeypatch.setattr(results, '_KINDS', dict(results.result_kinds()))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'own_result_of_a_test.py').write_text(OWN_RESULT)
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(panoptic_run / "config.py")!r}\n'
        "custom_imports = dict(imports=['own_result_of_a_test'])\n"
        'model = dict(test_cfg=dict(thing_labels=dict(object_threshold=0.0)))\n'
    )
    files = draw_predictions(config, panoptic_run / 'good.pth', tmp_path / 'out', num=1, field='pred_thing_labels')
    assert [file.name for file in files] == ['000000.png', 'overview.png']
