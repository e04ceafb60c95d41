"""Analyses of small models: the same numbers as the host's test, and the files that each command writes."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers import runs
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmmaskformer.apis import cli
from mmmaskformer.apis.analysis.class_masks import draw_class_masks
from mmmaskformer.apis.analysis.inference import compare_inference
from mmmaskformer.apis.analysis.one_pass import load, predict_image
from mmmaskformer.apis.analysis.queries import analyze_classes, analyze_queries
from mmmaskformer.apis.analysis.thresholds import sweep_stored, sweep_thresholds
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.export.modules import head_of

FIELDS = dict(panoptic='pred_panoptic_seg', detr='pred_detr_seg', semantic='pred_sem_seg', general='pred_general_seg')
SETTINGS = dict(
    panoptic=dict(object_threshold=0.2, overlap_threshold=0.3),
    detr=dict(object_threshold=0.3),
    semantic=dict(),
    general=dict(object_threshold=0.25),
)
PANOPTIC_OPTIONS = {f'model.test_cfg.{mode}': settings for mode, settings in SETTINGS.items()}


@pytest.fixture(scope='module')
def kinds(tmp_path_factory):
    """Small models with random weights that find something, on three scenes."""
    root = tmp_path_factory.mktemp('kinds')
    write_scenes(root / 'scenes', 2, 3)
    paths = {}
    for kind in ('semantic', 'panoptic'):
        config = runs.write_config(root / f'{kind}.py', root / 'scenes', panoptic=kind == 'panoptic')
        paths[kind] = config, write_weights(config)
    return paths


def write_weights(config):
    """Random weights with which the classes of a query change from image to image."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    network = head_of(model).classifier
    with torch.no_grad():
        for parameter in network.transformer_decoder.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter)
        torch.nn.init.normal_(network.class_embed.weight, std=0.6)
        network.class_embed.bias[0] += 1.0
        torch.nn.init.normal_(network.mask_embed.layers[-1].weight)
    torch.save(dict(state_dict=model.state_dict(), meta={}), config.with_suffix('.pth'))
    return config.with_suffix('.pth')


def host_results(config, checkpoint, tmp_path, **changes) -> dict:
    """What the host's runner gives in a test with entries of the config replaced."""
    cfg = Config.fromfile(config)
    for key, value in changes.items():
        parts = key.split('__')
        target = cfg
        for part in parts[:-1]:
            target = target[part]
        target[parts[-1]] = value
    cfg.load_from, cfg.work_dir, cfg.experiment_name = str(checkpoint), str(tmp_path), f'{tmp_path.name}-{len(changes)}'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return Runner.from_cfg(cfg).test()


def as_dicts(header, rows):
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def read_csv(path):
    return list(csv.DictReader(path.open()))


def test_ways_of_a_panoptic_model_equal_the_hosts_tests(kinds, tmp_path):
    found = as_dicts(*compare_inference(*kinds['panoptic'], tmp_path, cfg_options=PANOPTIC_OPTIONS)[:2])
    assert list(found) == list(FIELDS)
    for mode, settings in SETTINGS.items():
        metrics = [dict(type='mmmaskformer.PanopticMetric', field=FIELDS[mode])]
        if mode in ('semantic', 'general'):
            metrics.append(dict(type='mmmaskformer.SemanticMetric', field=FIELDS[mode]))
        host = host_results(
            *kinds['panoptic'], tmp_path / mode, model__test_cfg={mode: settings}, test_evaluator=metrics
        )
        row = found[mode]
        assert [row['PQ'], row['PQ things'], row['PQ stuff']] == pytest.approx(
            [host[f'panoptic/PQ{end}'] for end in ('', '_th', '_st')], abs=1e-9, nan_ok=True
        )
        if len(metrics) == 2:
            expected = [host[key] for key in ('mIoU', 'PQ_St', 'SQ_St', 'RQ_St')]
            assert [row[key] for key in ('mIoU', 'PQ-St', 'SQ-St', 'RQ-St')] == pytest.approx(expected, abs=1e-9)
    assert len({row['mIoU'] for row in found.values()}) > 2, 'the modes differ'


def test_ways_of_a_semantic_model_equal_the_hosts_tests(kinds, tmp_path):
    options = {'model.test_cfg.object_threshold': 0.25}
    header, rows, files = compare_inference(*kinds['semantic'], tmp_path, cfg_options=options)
    found = as_dicts(header, rows)
    for mode in ('semantic', 'general'):
        test_cfg = dict(mode='whole', inference=mode) | (dict(object_threshold=0.25) if mode == 'general' else {})
        host = host_results(*kinds['semantic'], tmp_path / mode, model__test_cfg=test_cfg)
        values = [found[mode][key] for key in ('mIoU', 'PQ-St', 'SQ-St', 'RQ-St')]
        assert values == pytest.approx([host[key] for key in ('mIoU', 'PQ_St', 'SQ_St', 'RQ_St')], abs=1e-9)
        assert np.isnan(found[mode]['PQ'])
    assert found['semantic']['mIoU'] != found['general']['mIoU']
    assert [float(row['mIoU']) for row in read_csv(files[1])] == [row[1] for row in rows]
    assert files[0].read_text().count('\n|') == 4


def test_precision_is_that_of_the_hosts_test(kinds, tmp_path):
    options = {'test_cfg.fp16': True}
    found = as_dicts(*compare_inference(*kinds['semantic'], tmp_path, ['semantic'], options)[:2])
    host = host_results(*kinds['semantic'], tmp_path / 'host', test_cfg__fp16=True)
    assert found['semantic']['mIoU'] == pytest.approx(host['mIoU'], abs=1e-9)
    exact = as_dicts(*compare_inference(*kinds['semantic'], tmp_path, ['semantic'])[:2])
    assert found['semantic']['mIoU'] != exact['semantic']['mIoU'], 'precision matters'


def test_sliding_windows_are_computed_once_for_all_modes(kinds, tmp_path):
    slide = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    options = {f'model.test_cfg.{key}': value for key, value in slide.items()}
    found = as_dicts(*compare_inference(*kinds['semantic'], tmp_path, cfg_options=options)[:2])
    host = host_results(*kinds['semantic'], tmp_path / 'slide', model__test_cfg=dict(slide, inference='general'))
    assert found['general']['mIoU'] == pytest.approx(host['mIoU'], abs=1e-9)


def test_queries_of_sliding_windows_are_refused(kinds, tmp_path):
    slide = dict(mode='slide', crop_size=(64, 64), stride=(48, 48))
    with pytest.raises(ValueError, match="Fix: model.test_cfg.mode='whole'"):
        analyze_queries(*kinds['semantic'], tmp_path, cfg_options={'model.test_cfg': slide})


def test_an_unknown_way_is_named(kinds, tmp_path):
    with pytest.raises(ValueError, match=r"modes: found \['detr'\], expected some of \['semantic', 'general'\]"):
        compare_inference(*kinds['semantic'], tmp_path, ['detr'])


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
def test_queries_count_what_the_network_predicts(kinds, tmp_path, kind):
    report = analyze_queries(*kinds[kind], tmp_path)
    trained = load(*kinds[kind])
    expected = [set() for _ in range(20)]
    for index in range(3):
        for query, label in enumerate(predict_image(trained, index).class_logits.argmax(1).tolist()):
            expected[query] |= {label} - {9}
    rows = read_csv(tmp_path / 'queries.csv')
    assert {int(row['query']): int(row['unique classes']) for row in rows} == dict(enumerate(map(len, expected)))
    numbers = [int(row['unique classes']) for row in rows]
    assert numbers == sorted(numbers, reverse=True) and max(numbers) > 1
    assert report.lines[0] == '20 queries, 3 images, 9 classes' and Image.open(report.files[1]).width > 400


@pytest.mark.parametrize('kind', ['semantic', 'panoptic'])
def test_classes_per_image_are_those_of_the_label_files(kinds, tmp_path, kind):
    config, _ = kinds[kind]
    report = analyze_classes(config, tmp_path, 'val_dataloader')
    files = sorted((config.parent / 'scenes/annotations/val').glob('*.png'))
    present = [set(np.unique(np.asarray(Image.open(file))).tolist()) - {255} for file in files]
    mean = sum(map(len, present)) / 3
    assert (
        f'3 images, 9 classes, {mean:.1f} classes per image' in report.lines[0] and '8.2 for ADE20K' in report.lines[1]
    )
    images = [int(row['images']) for row in read_csv(tmp_path / 'classes.csv')]
    assert images == [sum(label in labels for labels in present) for label in range(9)]


def test_masks_of_a_class_for_two_models(kinds, tmp_path):
    report = draw_class_masks('sky', [kinds['semantic'], kinds['panoptic']], tmp_path, num=2, object_threshold=0.1)
    rows = read_csv(tmp_path / 'sky.csv')
    assert {row['model'] for row in rows} == {'semantic', 'panoptic'}
    trained = load(*kinds['semantic'])
    probabilities = predict_image(trained, 0).class_logits.softmax(-1)
    scores, labels = probabilities.max(-1)
    expected = ((labels == 0) & (scores > 0.1)).nonzero()[:, 0].tolist()
    image = trained.dataset.get_data_info(0)['img_path']
    found = [int(row['query']) for row in rows if row['model'] == 'semantic' and row['image'] == image]
    assert sorted(found) == expected
    assert len(report.lines) == 2 and Image.open(report.files[0]).height > 4 * 180


def test_a_class_that_is_not_in_the_list_is_named(kinds, tmp_path):
    with pytest.raises(ValueError, match=r"class 'hose': .* has no such class. Fix: .*'house'"):
        draw_class_masks('hose', [kinds['semantic']], tmp_path)


def test_thresholds_equal_the_hosts_test_and_stored_predictions_give_the_same(kinds, tmp_path):
    pairs = [0.15, 0.3], [0.0, 0.4]
    report = sweep_thresholds(*kinds['panoptic'], tmp_path / 'a', *pairs, store=tmp_path / 'stored')
    rows = read_csv(tmp_path / 'a/thresholds.csv')
    settings = dict(object_threshold=0.3, overlap_threshold=0.4)
    host = host_results(
        *kinds['panoptic'],
        tmp_path / 'host',
        model__test_cfg=dict(panoptic=settings),
        test_evaluator=dict(type='mmmaskformer.PanopticMetric'),
    )
    assert [float(rows[-1][key]) for key in ('PQ', 'SQ', 'RQ')] == pytest.approx(
        [host[f'panoptic/{key}'] for key in ('PQ', 'SQ', 'RQ')], abs=1e-9
    )
    sweep_stored(tmp_path / 'stored', tmp_path / 'b', *pairs)
    assert (tmp_path / 'b/thresholds.csv').read_text() == (tmp_path / 'a/thresholds.csv').read_text()
    assert report.lines[0].startswith('best PQ ') and 'object_threshold=' in report.lines[0]
    with pytest.raises(ValueError, match='found 0.1, expected at least 0.15, the threshold of the predictions'):
        sweep_stored(tmp_path / 'stored', tmp_path / 'b', [0.1])
    assert len(json.loads((tmp_path / 'stored/predictions.json').read_text())['images']) == 3


def test_a_semantic_model_has_no_panoptic_thresholds(kinds, tmp_path):
    with pytest.raises(ValueError, match='found a semantic model, expected a panoptic one'):
        sweep_thresholds(*kinds['semantic'], tmp_path)


def test_the_command_explains_empty_maps(kinds, tmp_path, capsys):
    arguments = ['analyze', 'thresholds', *map(str, kinds['panoptic']), '--out', str(tmp_path)]
    options = ['--object', '0.999', '--overlap', '0.5', '--cfg-options', 'model.test_cfg.panoptic.object_threshold=1.0']
    assert cli.main([*arguments, *options]) == 0
    printed = capsys.readouterr().out
    assert 'object threshold 1: in 3 of 3 images none of the 20 queries is above it; highest 0.' in printed
    assert torch.is_grad_enabled()
