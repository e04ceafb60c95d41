"""The metric in mmengine's evaluator equals MMDetection's and the official tool; result files; several processes."""

import copy
import csv
import json

import cv2
import numpy as np
import pytest
import torch
from helpers import distributed
from helpers.scene_samples import Scenes, add_crowds_and_void, code, evaluate_rank
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from panopticapi.evaluation import pq_compute_single_core

from mmmaskformer.core.quality.panoptic_quality import SegmentCounts
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.evaluation import PanopticMetric

KEYS = ('PQ', 'SQ', 'RQ', 'PQ_th', 'SQ_th', 'RQ_th', 'PQ_st', 'SQ_st', 'RQ_st')
OTHER_ORDER = [3, 0, 5, 1, 2, 8, 4, 7, 6]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(folder, num_train=1, num_val=7)
    add_crowds_and_void(folder)
    return folder


@pytest.fixture
def scenes(root):
    return Scenes(root)


def evaluate(scenes: Scenes, samples: list, *metrics: dict, scope: str = 'mmdet', size: int | None = None) -> dict:
    """Evaluate as the hosts' loops do, two samples at a time; each metric gets its own samples."""
    init_default_scope(scope)
    found = {}
    for metric in metrics:
        evaluator = Evaluator(metric)
        evaluator.dataset_meta = scenes.meta
        own = copy.deepcopy(samples)
        for start in range(0, len(own), 2):
            evaluator.process(own[start : start + 2])
        found |= evaluator.evaluate(size or len(own))
    return found


# MMDetection uses the order of the file's categories for labels if it reads the file.
@pytest.mark.parametrize(('order', 'from_file'), [(None, True), (None, False), (OTHER_ORDER, False)])
@pytest.mark.parametrize('with_void', [True, False])
def test_equal_to_mmdet(root, order, from_file, with_void):
    scenes = Scenes(root, order)
    samples = scenes.samples(seed=1, with_void=with_void)
    theirs = dict(type='CocoPanopticMetric', seg_prefix=str(scenes.folder), nproc=1)
    if from_file:
        theirs['ann_file'] = str(scenes.json_file)
    found = evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'), theirs)
    for key in KEYS:
        assert found[f'panoptic/{key}'] == pytest.approx(found[f'coco_panoptic/{key}'], rel=0, abs=1e-10)
    assert 5 < found['panoptic/PQ_th'] < 95 and 5 < found['panoptic/PQ_st'] < 95


@pytest.mark.parametrize('order', [None, OTHER_ORDER])
def test_mmdets_metric_before_it_changes_nothing(root, order):
    scenes = Scenes(root, order)
    samples = scenes.samples(seed=1)
    for sample in samples:  # as our heads list them
        codes = sample.pred_panoptic_seg.sem_seg.unique().tolist()
        segments = [dict(id=code, label=code % 1000, score=1.0) for code in codes if code % 1000 < 9]
        sample.pred_panoptic_seg.set_metainfo(dict(segments=segments))
    ours = dict(type='mmmaskformer.PanopticMetric')
    theirs = dict(type='CocoPanopticMetric', seg_prefix=str(scenes.folder), nproc=1)
    alone, after = evaluate(scenes, samples, ours), evaluate(scenes, samples, [theirs, ours])
    assert 5 < alone['panoptic/PQ'] < 95 and set(after) > set(alone)
    assert {key: after[key] for key in alone} == alone


def test_others_measure_the_same_predictions(scenes):
    samples = scenes.samples(seed=1)
    panoptic, semantic = dict(type='mmmaskformer.PanopticMetric'), dict(type='mmmaskformer.SemanticMetric')
    one_dict = evaluate(scenes, samples, panoptic | dict(also=[semantic]))
    assert one_dict == evaluate(scenes, samples, panoptic, semantic) and {'panoptic/PQ', 'mIoU'} < set(one_dict)


def test_image_table_lists_the_worst_image_first(scenes, tmp_path):
    samples = scenes.samples(seed=1)
    metric = dict(type='mmmaskformer.PanopticMetric', image_table=str(tmp_path / 'tables/images.csv'))
    evaluate(scenes, samples, metric)
    rows = list(csv.DictReader((tmp_path / 'tables/images.csv').open()))
    found = [float(row['PQ']) for row in rows]
    assert len(rows) == len(samples) and found == sorted(found)
    path = {sample.img_path: sample for sample in samples}
    for row in (rows[0], rows[-1]):
        alone = evaluate(scenes, [path[row['image']]], dict(type='mmmaskformer.PanopticMetric'))
        assert float(row['PQ']) == pytest.approx(alone['panoptic/PQ'], abs=1e-9)


def test_image_table_needs_ground_truth():
    with pytest.raises(ValueError, match="found image_table='a.csv' with format_only=True"):
        PanopticMetric(format_only=True, outfile_prefix='a', image_table='a.csv')


def test_two_metrics_with_the_same_keys_are_refused(scenes):
    twice = dict(type='mmmaskformer.PanopticMetric', also=[dict(type='mmmaskformer.PanopticMetric')])
    with pytest.raises(
        ValueError, match=r"PanopticMetric also reports \['panoptic/PQ'.*Fix: give one of them a prefix"
    ):
        evaluate(scenes, scenes.samples(), twice)


def test_further_metrics_are_in_a_list():
    with pytest.raises(TypeError, match=r'PanopticMetric.also: found .* expected a list of metrics'):
        PanopticMetric(also=dict(type='mmmaskformer.SemanticMetric'))


@pytest.mark.parametrize('order', [None, OTHER_ORDER])
def test_written_results_score_the_same_in_the_official_tool(root, order, tmp_path):
    scenes = Scenes(root, order)
    metric = dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(tmp_path / 'out/result'))
    found = evaluate(scenes, scenes.samples(seed=2), metric)
    require_official_scores(found, scenes, tmp_path / 'out/result.panoptic.json')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['result.panoptic', 'result.panoptic.json']


def require_official_scores(found, scenes, written):
    """Compare with panopticapi's results for the written files."""
    entries = json.loads(written.read_text())['annotations']
    truth = scenes.content
    categories = {category['id']: category for category in truth['categories']}
    pairs = list(zip(truth['annotations'], entries, strict=True))
    assert all(true['image_id'] == entry['image_id'] for true, entry in pairs)
    stat = pq_compute_single_core(0, copy.deepcopy(pairs), str(scenes.folder), str(written.with_suffix('')), categories)
    for isthing, ending in ((None, ''), (True, '_th'), (False, '_st')):
        official, _ = stat.pq_average(categories, isthing=isthing)
        for key in ('pq', 'sq', 'rq'):
            assert found[f'panoptic/{key.upper()}{ending}'] == pytest.approx(100 * official[key], rel=0, abs=1e-10)


def test_listed_areas_count_as_in_the_official_tool(scenes, tmp_path):
    """As in ADE20K panoptic, where stuff areas are measured before things cover them."""
    for row in scenes.content['annotations']:
        for segment in row['segments_info']:
            segment['area'] += segment['area'] // 4 if not segment['iscrowd'] else 0
    samples = scenes.samples(seed=2)
    metric = dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(tmp_path / 'result'))
    found = evaluate(scenes, samples, metric | dict(listed_areas=True))
    require_official_scores(found, scenes, tmp_path / 'result.panoptic.json')
    assert found['panoptic/PQ'] < evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))['panoptic/PQ'] - 1
    for sample in samples:  # without areas, the pixels count
        sample.set_metainfo({'segments_info': [row | {'area': None} for row in sample.segments_info]})
    assert evaluate(scenes, samples, metric | dict(listed_areas=True)) == evaluate(scenes, samples, metric)


def test_writes_without_ground_truth(scenes, tmp_path):
    metric = dict(type='mmmaskformer.PanopticMetric', format_only=True, outfile_prefix=str(tmp_path / 'result'))
    samples = scenes.samples(truth=False)
    assert evaluate(scenes, samples, metric) == {}
    entries = json.loads((tmp_path / 'result.panoptic.json').read_text())['annotations']
    assert len(entries) == len(samples)
    for entry, sample in zip(entries, samples, strict=True):
        colours = cv2.imread(str(tmp_path / 'result.panoptic' / entry['file_name']))[..., ::-1].astype(int)
        ids, encoded = colours @ [1, 256, 65536], sample.pred_panoptic_seg.sem_seg[0].numpy()
        assert np.array_equal(ids == 0, encoded == 9)
        for segment in entry['segments_info']:
            values = np.unique(encoded[ids == segment['id']])
            assert len(values) == 1
            assert scenes.meta['category_ids'][values[0] % 1000] == segment['category_id']


def test_perfect_prediction(scenes):
    samples = scenes.samples()
    for index, sample in enumerate(samples):
        ids, segments = scenes.truth(index)
        encoded = np.full(ids.shape, 9)
        for number, segment in enumerate(segments, 1):
            label = segment['category']
            encoded[ids == segment['id']] = code(label, number, scenes.meta['isthing'][label])
        sample.pred_panoptic_seg.sem_seg = torch.from_numpy(encoded[None])
    found = evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))
    assert found == {f'panoptic/{key}': pytest.approx(100) for key in KEYS}


def test_another_field_and_prefix(scenes):
    samples = scenes.samples(seed=3)
    expected = evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))
    for sample in samples:
        sample.pred_detr_seg = sample.pred_panoptic_seg
        del sample.pred_panoptic_seg
    metric = dict(type='mmmaskformer.PanopticMetric', field='pred_detr_seg', prefix='detr')
    found = evaluate(scenes, samples, metric)
    assert found == {key.replace('panoptic', 'detr'): value for key, value in expected.items()}


@pytest.mark.parametrize('scope', ['mmseg', 'mmengine'])
def test_found_from_any_scope(scenes, scope):
    samples = scenes.samples(seed=3)
    metric = dict(type='mmmaskformer.PanopticMetric')
    assert evaluate(scenes, samples, metric, scope=scope) == evaluate(scenes, samples, metric)


def test_images_that_a_sampler_repeats_count_once(scenes, tmp_path):
    samples = scenes.samples(seed=4)
    metric = dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(tmp_path / 'result'))
    assert evaluate(scenes, samples + samples[:3], metric) == evaluate(scenes, samples, metric)
    assert len(json.loads((tmp_path / 'result.panoptic.json').read_text())['annotations']) == len(samples)


def test_two_processes_give_the_results_of_one(scenes, root, tmp_path):
    alone = dict(outfile_prefix=str(tmp_path / 'alone'))
    expected = evaluate(scenes, scenes.samples(seed=5), dict(type='mmmaskformer.PanopticMetric', **alone))
    both = dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(tmp_path / 'both'))
    results = distributed.run_two(evaluate_rank, str(root), both, 5)
    assert results[0] == results[1] == {key: pytest.approx(value) for key, value in expected.items()}
    written = [json.loads((tmp_path / f'{name}.panoptic.json').read_text()) for name in ('alone', 'both')]
    assert written[0] == written[1]


def test_results_stay_small(scenes):
    metric = PanopticMetric()
    metric.dataset_meta = scenes.meta
    metric.process(None, [sample.to_dict() for sample in scenes.samples()])
    assert all(rows.nbytes < 500 and entry is None for _, rows, entry in metric.results)


def test_areas_and_crowds_of_mmdets_dataset(scenes):
    samples = scenes.samples(seed=6)
    metric = dict(type='mmmaskformer.PanopticMetric')
    expected = evaluate(scenes, samples, metric)
    for sample in samples:
        kept = [{key: row[key] for key in ('id', 'category', 'is_thing')} for row in sample.segments_info]
        sample.set_metainfo({'segments_info': kept})
    assert evaluate(scenes, samples, metric) == expected


@pytest.mark.parametrize('area', [1, 0.5, None, 10**9, 'many'])
def test_areas_of_the_file_are_not_used(scenes, area):
    samples = scenes.samples(seed=6)
    metric = dict(type='mmmaskformer.PanopticMetric')
    expected = evaluate(scenes, samples, metric)
    for sample in samples:
        sample.set_metainfo({'segments_info': [row | {'area': area} for row in sample.segments_info]})
    assert evaluate(scenes, samples, metric) == expected


def test_left_out_classes_are_void(scenes):
    samples = scenes.samples(seed=7)
    sample = samples[0]
    out = max(sample.segments_info, key=lambda row: row['area'])
    sample.set_metainfo({'segments_info': [row for row in sample.segments_info if row is not out]})
    with pytest.raises(ValueError, match=rf'ground truth has pixels of segment ids \[{out["id"]}\]'):
        evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))
    sample.set_metainfo({'void_ids': [out['id']]})
    ids, _ = scenes.truth(0)
    encoded = sample.pred_panoptic_seg.sem_seg
    encoded[0][torch.from_numpy(ids == out['id'])] = 999001  # a new segment replaces the one left out
    before = evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))
    encoded[encoded == 999001] = 9
    assert evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric')) == before


@pytest.mark.parametrize('classwise', [False, True])
def test_table(scenes, classwise, monkeypatch):
    printed = []
    monkeypatch.setattr('mmmaskformer.evaluation.panoptic_metric.print_log', lambda text, **_: printed.append(text))
    samples = scenes.samples(with_void=False)
    scenes.meta['classes'] = (*scenes.meta['classes'], 'never')
    scenes.meta['isthing'] = (*scenes.meta['isthing'], True)
    found = evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric', classwise=classwise))
    rows = {line.split()[0]: line.split()[1:] for text in printed for line in text.splitlines() if line}
    assert rows['All'][:3] == [f'{found[f"panoptic/{key}"]:.2f}' for key in ('PQ', 'SQ', 'RQ')]
    assert rows['All'][3] == '9' and rows['Stuff'][3] == '4'
    assert ('never' in rows) == ('sky' in rows) == classwise
    if classwise:
        assert rows['never'] == ['-', '-', '-', '0', '0', '0']
        assert int(rows['sky'][3]) + int(rows['sky'][5]) > 0


def test_no_class_of_a_kind_is_nan(scenes):
    scenes.meta['isthing'] = (False,) * 9
    found = evaluate(scenes, scenes.samples(), dict(type='mmmaskformer.PanopticMetric'))
    assert np.isnan([found[f'panoptic/{key}_th'] for key in ('PQ', 'SQ', 'RQ')]).all()
    assert found['panoptic/PQ_st'] == found['panoptic/PQ']


def change_segment(**changes):
    def change(sample):
        segments = copy.deepcopy(sample.segments_info)
        segments[1].update(changes)
        sample.set_metainfo({'segments_info': segments})

    return change


def without_prediction(sample):
    del sample.pred_panoptic_seg


def smaller_prediction(sample):
    sample.pred_panoptic_seg = PixelData(sem_seg=sample.pred_panoptic_seg.sem_seg[:, ::2])


def negative_prediction(sample):
    sample.pred_panoptic_seg.sem_seg[0, 0, 0] = -1


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (change_segment(category=9), ValueError, r'have unknown categories \[9\], expected labels from 0 to 8'),
        (
            change_segment(id=5),
            ValueError,
            r'ground truth has pixels of segment ids \[\d+\] that segments_info does not',
        ),
        (smaller_prediction, ValueError, r'the prediction is \(\d+, \d+\) \(height, width\), expected'),
        (negative_prediction, ValueError, r'panoptic map: found \[-1\]'),
        (without_prediction, KeyError, 'no .+pred_panoptic_seg.+model.test_cfg'),
        (lambda sample: sample.pop('segments_info'), KeyError, 'no segments_info.*format_only=True'),
        (lambda sample: sample.pop('seg_map_path'), KeyError, 'no seg_map_path.*format_only=True'),
    ],
)
def test_invalid_input_names_the_file(scenes, change, error, message):
    samples = scenes.samples(seed=1)[:1]
    change(samples[0])
    with pytest.raises(error, match=rf'000000\.png.*{message}'):
        evaluate(scenes, samples, dict(type='mmmaskformer.PanopticMetric'))


def test_a_listed_segment_without_pixels_is_missed_as_in_the_official_tool(scenes):
    sample = scenes.samples(seed=1)[0].to_dict()
    ghost = {'id': 77, 'category': 3, 'iscrowd': 0, 'area': 4, 'is_thing': True}
    metric = PanopticMetric()
    metric.dataset_meta = scenes.meta
    metric.process(None, [sample, sample | {'segments_info': [*sample['segments_info'], ghost]}])
    before, after = (SegmentCounts.from_rows([rows], 9) for _, rows, _ in metric.results)
    assert (after.fn - before.fn).tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize('key', ['isthing', 'category_ids'])
def test_missing_metadata_is_reported(scenes, key, tmp_path):
    samples = scenes.samples()
    del scenes.meta[key], scenes.meta['thing_classes']
    metric = dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(tmp_path / 'result'))
    with pytest.raises(ValueError, match=f"meta '{key}': found no such entry, expected one for each of the 9 classes"):
        evaluate(scenes, samples, metric)


def test_things_are_those_listed_by_mmdetections_datasets(root):
    scenes = Scenes(root, OTHER_ORDER)
    samples, metric = scenes.samples(), dict(type='mmmaskformer.PanopticMetric')
    expected = evaluate(scenes, samples, metric)
    del scenes.meta['isthing']
    assert evaluate(scenes, samples, metric) == expected


def test_format_only_needs_a_path():
    with pytest.raises(ValueError, match='format_only=True without outfile_prefix'):
        PanopticMetric(format_only=True)
