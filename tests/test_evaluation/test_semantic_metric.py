"""The metric in mmengine's evaluator equals MMSegmentation's, and is the same in both hosts."""

import copy
import os

import cv2
import numpy as np
import pytest
import torch
from helpers.official import load
from helpers.scene_samples import Scenes, add_crowds_and_void
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.evaluation import SemanticMetric
from mmmaskformer.formats.label_maps import write_label_map

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.structures import SegDataSample  # isort: skip

KEYS = ['mIoU', 'mAcc', 'aAcc', 'fwIoU', 'PQ_St', 'SQ_St', 'RQ_St']
NAMES = tuple('abcdefgh')


def seg_samples(truths, predictions, **meta) -> list[SegDataSample]:
    samples = []
    for index, (truth, prediction) in enumerate(zip(truths, predictions, strict=True)):
        sample = SegDataSample(
            metainfo={'img_path': f'images/{index}.jpg', 'seg_map_path': f'labels/{index}.png'} | meta
        )
        sample.pred_sem_seg = PixelData(data=torch.from_numpy(np.asarray(prediction))[None])
        if truth is not None:
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(np.asarray(truth))[None])
        samples.append(sample)
    return samples


def random_samples(seed: int = 0, count: int = 5, num_classes: int = 8, **meta) -> list[SegDataSample]:
    """Maps of different odd sizes; the last class never occurs, the one before it occurs only in predictions."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        size = tuple(rng.integers(5, 30, 2))
        truth = rng.integers(0, num_classes - 2, (size[0] // 4 + 1, size[1] // 4 + 1)).repeat(4, 0).repeat(4, 1)
        truth = truth[: size[0], : size[1]]
        prediction = np.where(rng.random(size) < 0.7, truth, rng.integers(0, num_classes - 1, size))
        pairs.append((np.where(rng.random(size) < 0.1, 255, truth), prediction))
    return seg_samples(*zip(*pairs, strict=True), **meta)


def evaluate(samples: list, metric: dict, *, scope: str = 'mmseg', **meta) -> dict:
    """Evaluate as the hosts' loops do, two samples at a time."""
    init_default_scope(scope)
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {'classes': NAMES} | meta
    samples = copy.deepcopy(samples)
    for start in range(0, len(samples), 2):
        evaluator.process(samples[start : start + 2])
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize('seed', range(3))
def test_equal_to_mmseg(seed):
    samples = random_samples(seed)
    ours = evaluate(samples, dict(type='mmmaskformer.SemanticMetric'))
    theirs = evaluate(samples, dict(type='IoUMetric'))
    assert list(ours) == KEYS
    for key in ('mIoU', 'mAcc', 'aAcc'):
        assert ours[key] == pytest.approx(float(theirs[key]), rel=0, abs=0.0051)  # MMSegmentation rounds to 0.01


def test_pq_st_of_the_official_tool():
    official = load('pq_semantic')
    samples = seg_samples(official['gt'].numpy(), official['pred'].numpy())
    found = evaluate(samples, dict(type='mmmaskformer.SemanticMetric'))
    for key in ('pq', 'sq', 'rq'):
        assert found[f'{key.upper()}_St'] == pytest.approx(100 * official[key], rel=0, abs=1e-10)
    assert found['mIoU'] == pytest.approx(100 * official['miou_of_2021'], rel=0, abs=1e-10)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(folder, num_train=1, num_val=5)
    add_crowds_and_void(folder)
    return Scenes(folder)


@pytest.mark.parametrize('ignore_index', [255, 65535])
def test_same_numbers_under_both_hosts(scenes, ignore_index):
    """MMDetection's samples, with the truth in the panoptic PNG, against label maps built from it pixel by pixel."""
    samples = scenes.samples()
    assert any((sample.pred_sem_seg.sem_seg == 9).any() for sample in samples)  # 9 is no class
    truths = []
    for index in range(len(samples)):
        ids, segments = scenes.truth(index)
        labels = np.full(ids.shape, 255)
        for segment in segments:
            if not segment['iscrowd']:
                labels[ids == segment['id']] = segment['category']
        truths.append(labels)
    as_mmseg = seg_samples(truths, [sample.pred_sem_seg.sem_seg[0].numpy() for sample in samples])
    expected = evaluate(as_mmseg, dict(type='mmmaskformer.SemanticMetric'), **scenes.meta)
    metric = dict(type='mmmaskformer.SemanticMetric', ignore_index=ignore_index)
    assert evaluate(samples, metric, scope='mmdet', **scenes.meta) == expected
    assert 20 < expected['mIoU'] < 95


def test_label_files_take_precedence_over_the_panoptic_ground_truth(scenes, tmp_path):
    """As published for ADE20K panoptic: things without instances are void in the PNG, but not in the label files."""
    samples, truths = scenes.samples(), []
    rng = np.random.default_rng(0)
    for index, sample in enumerate(samples):
        truths.append(rng.integers(0, 9, sample.pred_sem_seg.sem_seg[0].shape).astype(np.uint8))
        truths[-1][:3] = 255
        path = tmp_path / f'{index}.png'
        write_label_map(path, truths[-1] + np.uint8(1))  # 255 + 1 wraps to 0, the ignored label of such files
        sample.set_metainfo(dict(semantic_label_path=str(path), reduce_zero_label=True, label_map=None))
    as_mmseg = seg_samples(truths, [sample.pred_sem_seg.sem_seg[0].numpy() for sample in samples])
    expected = evaluate(as_mmseg, dict(type='mmmaskformer.SemanticMetric'), **scenes.meta)
    found = evaluate(samples, dict(type='mmmaskformer.SemanticMetric'), scope='mmdet', **scenes.meta)
    assert found == expected and 0 < found['mIoU'] < 30


def test_a_class_that_is_only_predicted_counts_as_0():
    """The formula at the time of the paper: 2 classes occur in the ground truth, 3 there or in predictions."""
    truth = np.array([[0, 0, 0, 1]])
    found = evaluate(seg_samples([truth], [np.array([[0, 0, 2, 1]])]), dict(type='mmmaskformer.SemanticMetric'))
    assert found['mIoU'] == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert found['mAcc'] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_another_field_and_prefix(scenes):
    samples = scenes.samples()
    expected = evaluate(samples, dict(type='mmmaskformer.SemanticMetric'), scope='mmdet', **scenes.meta)
    for sample in samples:
        sample.pred_general_seg = sample.pred_sem_seg
        del sample.pred_sem_seg
    metric = dict(type='mmmaskformer.SemanticMetric', field='pred_general_seg', prefix='general')
    found = evaluate(samples, metric, scope='mmdet', **scenes.meta)
    assert found == {f'general/{key}': value for key, value in expected.items()}


def test_images_that_a_sampler_repeats_count_once():
    samples = random_samples()
    metric = dict(type='mmmaskformer.SemanticMetric')
    assert evaluate(samples + samples[:1], metric) == evaluate(samples, metric)


def test_samples_that_cannot_be_distinguished_all_count():
    samples = random_samples()
    expected = evaluate(samples, dict(type='mmmaskformer.SemanticMetric'))
    for sample in samples:
        del sample.img_path
    assert evaluate(samples, dict(type='mmmaskformer.SemanticMetric')) == expected


@pytest.mark.parametrize(
    ('num_classes', 'reduce_zero_label', 'dtype', 'shift'),
    [(8, False, np.uint8, 0), (8, True, np.uint8, 1), (255, True, np.uint16, 1), (847, False, np.uint16, 0)],
)
def test_writes_label_maps(tmp_path, num_classes, reduce_zero_label, dtype, shift):
    labels = np.array([[0, 1, 2], [num_classes - 1, 3, 4]])
    samples = seg_samples([None], [labels], reduce_zero_label=reduce_zero_label)
    metric = dict(type='mmmaskformer.SemanticMetric', format_only=True, output_dir=str(tmp_path / 'out'))
    assert evaluate(samples, metric, classes=tuple(map(str, range(num_classes)))) == {}
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['0.png']
    found = cv2.imread(str(tmp_path / 'out/0.png'), cv2.IMREAD_UNCHANGED)
    assert found.dtype == dtype and np.array_equal(found, labels + shift)


def test_writes_the_files_of_mmseg(tmp_path):
    samples = random_samples(reduce_zero_label=True)
    found = evaluate(samples, dict(type='mmmaskformer.SemanticMetric', output_dir=str(tmp_path / 'ours')))
    evaluate(samples, dict(type='IoUMetric', output_dir=str(tmp_path / 'theirs')))
    assert found['mIoU'] > 0
    for index in range(len(samples)):
        ours, theirs = (cv2.imread(str(tmp_path / name / f'{index}.png'), -1) for name in ('ours', 'theirs'))
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize('classwise', [False, True])
def test_table(classwise, monkeypatch):
    printed = []
    monkeypatch.setattr('mmmaskformer.evaluation.semantic_metric.print_log', lambda text, **_: printed.append(text))
    found = evaluate(random_samples(), dict(type='mmmaskformer.SemanticMetric', classwise=classwise))
    lines = [line.split() for text in printed for line in text.splitlines() if line]
    assert lines[-3] == KEYS and lines[-1] == [f'{found[key]:.2f}' for key in KEYS]
    rows = {line[0]: line[1:] for line in lines}
    assert ('h' in rows) == classwise
    if classwise:
        assert rows['h'] == ['-'] * 5 and rows['g'] == ['0.00', '-', '0.00', '0.00', '0.00']


def test_invalid_input_names_the_file():
    metric = dict(type='mmmaskformer.SemanticMetric')
    small = seg_samples([np.zeros((4, 6), int)], [np.zeros((4, 5), int)])
    with pytest.raises(ValueError, match=r'labels/0\.png: the prediction is \(4, 5\)'):
        evaluate(small, metric)
    with pytest.raises(ValueError, match=r'labels/0\.png: found labels \[8\]'):
        evaluate(seg_samples([np.full((4, 6), 8)], [np.zeros((4, 6), int)]), metric)
    with pytest.raises(KeyError, match=r'labels/0\.png: the data sample has no .+pred_sem_seg.+model.test_cfg'):
        del small[0].pred_sem_seg
        evaluate(small, metric)
    with pytest.raises(KeyError, match=r'labels/0\.png: the data sample has no segments_info'):
        evaluate(seg_samples([None], [np.zeros((4, 6), int)]), metric)
    without = seg_samples([None], [np.zeros((4, 6), int)])
    without[0].set_metainfo(dict(seg_map_path=None))
    with pytest.raises(KeyError, match=r"neither 'gt_sem_seg' nor 'seg_map_path'. Fix: set data_prefix"):
        evaluate(without, metric)


def test_wrong_arguments():
    with pytest.raises(ValueError, match='format_only=True without output_dir'):
        SemanticMetric(format_only=True)
    with pytest.raises(ValueError, match='ignore_index=255 is also one of the 847 classes'):
        evaluate(random_samples(), dict(type='mmmaskformer.SemanticMetric'), classes=tuple(map(str, range(847))))


def test_results_of_one_name_do_not_overwrite_each_other(tmp_path):
    maps = [np.full((4, 6), label) for label in (1, 2)]
    samples = seg_samples([None, None], maps)
    for sample, folder in zip(samples, 'ab', strict=True):
        sample.set_metainfo(dict(img_path=f'data/{folder}/0.jpg'))
    config = dict(type='mmmaskformer.SemanticMetric', format_only=True, output_dir=str(tmp_path / 'out'))
    with pytest.raises(
        ValueError, match=r'results of data/a/0\.jpg and data/b/0\.jpg would both be .*0\.png.*CheckDataHook'
    ):
        evaluate(samples, config)
    metric = SemanticMetric(format_only=True, output_dir=str(tmp_path / 'out'))
    metric.image_root = 'data'
    evaluate(samples, metric)
    for label, folder in ((1, 'a'), (2, 'b')):
        assert (cv2.imread(str(tmp_path / f'out/{folder}/0.png'), cv2.IMREAD_UNCHANGED) == label).all()


@pytest.mark.parametrize('ignore_index', [-1, -100, 70000])
def test_ignored_label_that_no_file_can_hold(ignore_index):
    with pytest.raises(ValueError, match=f'ignore_index={ignore_index}: expected a label that a file'):
        SemanticMetric(ignore_index=ignore_index)


def test_label_maps_are_kept_in_any_case():
    with pytest.raises(ValueError, match='found keep_results=False, expected True'):
        SemanticMetric(keep_results=False)


def test_an_interrupted_test_leaves_a_mark_and_older_files_are_reported(tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr('mmmaskformer.evaluation.semantic_metric.print_log', lambda text, **_: printed.append(text))
    out = tmp_path / 'out'
    config = dict(type='mmmaskformer.SemanticMetric', format_only=True, output_dir=str(out))
    maps = [np.full((4, 6), label) for label in (1, 2)]
    samples = seg_samples([None, None], maps)
    evaluate(samples, config)
    assert not any('earlier test' in text for text in printed)
    assert {path.name for path in out.iterdir()} == {'0.png', '1.png'}
    for path in out.iterdir():
        os.utime(path, (1, 1))
    metric = SemanticMetric(format_only=True, output_dir=str(out))
    metric.dataset_meta = dict(classes=tuple('abcdef'))
    metric.process_sample(samples[0].to_dict())  # the test ends here
    assert 'was interrupted' in (out / 'UNFINISHED.txt').read_text()
    os.utime(out / '0.png', (1, 1))
    evaluate(samples[:1], config)
    assert {path.name for path in out.iterdir()} == {'0.png', '1.png'}
    assert any(text.startswith('SemanticMetric: 1 label maps in') and '1.png' in text for text in printed)
