"""Analyses of small models give the numbers of the host's test, and each command writes its files."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from helpers import runs
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmmaskformer.apis import cli
from mmmaskformer.apis.analysis.class_masks import draw_class_masks
from mmmaskformer.apis.analysis.evaluators import truth_settings
from mmmaskformer.apis.analysis.inference import compare_inference
from mmmaskformer.apis.analysis.one_pass import load, predict_image
from mmmaskformer.apis.analysis.queries import analyze_classes, analyze_queries
from mmmaskformer.apis.analysis.thresholds import sweep_stored, sweep_thresholds
from mmmaskformer.core.quality.panoptic_map import numbered
from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.export.modules import head_of
from mmmaskformer.formats.mmdet_codes import segments_of_codes
from mmmaskformer.formats.panoptic_png import write_ids

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
    """Small models with random weights that predict something, on three scenes with similar ground truth."""
    root = tmp_path_factory.mktemp('kinds')
    write_scenes(root / 'scenes', 2, 3)
    paths = {}
    for kind in ('semantic', 'panoptic'):
        config = runs.write_config(root / f'{kind}.py', root / 'scenes', panoptic=kind == 'panoptic')
        paths[kind] = config, write_weights(config)
    write_likely_labels(*paths['semantic'])
    write_likely_segments(*paths['panoptic'])
    return paths


def predicted(config, checkpoint, test_cfg):
    trained = load(config, checkpoint, {'model.test_cfg': test_cfg})
    for index in range(len(trained.dataset)):
        with trained.testing():
            yield trained.model.test_step(pseudo_collate([trained.dataset[index]]))[0]


def moved(found):
    """The map shifted right by two columns."""
    return np.roll(found, 2, axis=1)


def write_likely_labels(config, checkpoint):
    for sample in predicted(config, checkpoint, dict(mode='whole')):
        labels = moved(sample.pred_sem_seg.data[0].numpy())
        labels[:12, :12] = 0
        Image.fromarray(labels.astype(np.uint8)).save(sample.seg_map_path)


def write_likely_segments(config, checkpoint):
    file = config.parent / 'scenes/panoptic_val.json'
    content = json.loads(file.read_text())
    for annotation, sample in zip(
        content['annotations'], predicted(config, checkpoint, dict(panoptic=SETTINGS['panoptic'])), strict=True
    ):
        found = sample.pred_panoptic_seg
        segments = segments_of_codes(found.sem_seg[0].numpy(), 9, [segment['id'] for segment in found.segments])
        ids, labels = moved(numbered(segments, num_classes=9).ids), segments.labels.tolist()
        labels += [] if 0 in labels else [0]
        ids[:12, :12] = labels.index(0) + 1
        rows = [
            dict(id=number, category_id=content['categories'][label]['id'], iscrowd=0, area=int((ids == number).sum()))
            for number, label in enumerate(labels, start=1)
        ]
        annotation['segments_info'] = [dict(row, bbox=[0, 0, 1, 1]) for row in rows if row['area']]
        write_ids(sample.seg_map_path, ids)
    file.write_text(json.dumps(content))


def write_weights(config):
    """Random weights with which the classes of a query vary between images."""
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
    """The results of a test by the host's runner with some config entries replaced."""
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


def test_inference_modes_of_a_panoptic_model_equal_the_hosts_tests(kinds, tmp_path):
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
    assert len({row['PQ'] for row in found.values()}) == 4 and all(row['PQ'] > 1 for row in found.values())


def test_inference_modes_of_a_semantic_model_equal_the_hosts_tests(kinds, tmp_path):
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
    with pytest.raises(ValueError, match="Fix: set model.test_cfg.mode='whole'"):
        analyze_queries(*kinds['semantic'], tmp_path, cfg_options={'model.test_cfg': slide})


def test_an_unknown_mode_is_named(kinds, tmp_path):
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
    report = analyze_classes(config, tmp_path)
    files = sorted((config.parent / 'scenes/annotations/train').glob('*.png'))
    present = [set(np.unique(np.asarray(Image.open(file))).tolist()) - {255} for file in files]
    mean = sum(map(len, present)) / 2
    assert (
        f'2 images, 9 classes, {mean:.1f} classes per image' in report.lines[0] and '8.2 for ADE20K' in report.lines[1]
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
    assert len({row['PQ'] for row in rows}) > 1 and float(rows[-1]['PQ']) > 1, 'the thresholds matter'
    assert report.lines[0].startswith('best PQ ') and 'object_threshold=' in report.lines[0]
    with pytest.raises(ValueError, match='found 0.1, expected at least 0.15, the threshold of the predictions'):
        sweep_stored(tmp_path / 'stored', tmp_path / 'b', [0.1])
    assert len(json.loads((tmp_path / 'stored/predictions.json').read_text())['images']) == 3


@pytest.fixture(scope='module')
def other_areas(kinds):
    """Panoptic config entries with which the areas in the JSON file, which are counted, differ from the map."""
    root = kinds['panoptic'][0].parent / 'scenes'
    content = json.loads((root / 'panoptic_val.json').read_text())
    for annotation in content['annotations']:
        for segment in annotation['segments_info']:
            segment['area'] = round(segment['area'] * 1.4)
    (root / 'areas.json').write_text(json.dumps(content))
    return {'test_dataloader.dataset.ann_file': 'areas.json', 'test_evaluator.listed_areas': True}


def test_areas_are_those_that_the_configs_metric_counts(kinds, other_areas, tmp_path):
    settings = dict(object_threshold=0.2, overlap_threshold=0.3)
    options = other_areas | {'model.test_cfg': dict(panoptic=settings)}
    found = as_dicts(*compare_inference(*kinds['panoptic'], tmp_path, ['panoptic'], options)[:2])['panoptic']
    evaluator = dict(type='mmmaskformer.PanopticMetric', listed_areas=True)
    expected, plain = (
        host_results(
            *kinds['panoptic'],
            tmp_path / name,
            model__test_cfg=dict(panoptic=settings),
            test_dataloader__dataset__ann_file='areas.json',
            test_evaluator=metric,
        )['panoptic/PQ']
        for name, metric in (('listed', evaluator), ('pixels', evaluator | dict(listed_areas=False)))
    )
    assert found['PQ'] == pytest.approx(expected, abs=1e-9) and expected < plain - 0.1
    pair = [settings['object_threshold']], [settings['overlap_threshold']]
    sweep_thresholds(*kinds['panoptic'], tmp_path / 'a', *pair, tmp_path / 'stored', options)
    (row,) = read_csv(tmp_path / 'a/thresholds.csv')
    assert float(row['PQ']) == pytest.approx(expected, abs=1e-9)
    sweep_stored(tmp_path / 'stored', tmp_path / 'b', *pair)
    assert read_csv(tmp_path / 'b/thresholds.csv') == [row]


def test_the_settings_of_metrics_are_found_wherever_a_config_has_them():
    metric = dict(type='mmmaskformer.PanopticMetric', listed_areas=True, classwise=True)
    beside = dict(type='SemanticMetric', ignore_index=7)
    for evaluator in (
        dict(metric, also=[beside]),
        [beside, metric],
        dict(type='Evaluator', metrics=[metric, beside]),
        dict(type='mmdet.CocoPanopticMetric', also=[dict(metric, also=[beside])]),
    ):
        config = Config(dict(test_evaluator=evaluator))
        assert truth_settings(config, 'PanopticMetric') == dict(listed_areas=True)
        assert truth_settings(config, 'SemanticMetric') == dict(ignore_index=7)
    assert truth_settings(Config(dict(a=1)), 'PanopticMetric') == {}


ANALYSES = {
    'inference': lambda kinds, out, options: compare_inference(*kinds['panoptic'], out, cfg_options=options),
    'queries': lambda kinds, out, options: analyze_queries(*kinds['panoptic'], out, cfg_options=options),
    'masks': lambda kinds, out, options: draw_class_masks('sky', [kinds['panoptic']], out, cfg_options=options),
    'thresholds': lambda kinds, out, options: sweep_thresholds(*kinds['panoptic'], out, cfg_options=options),
    'classes': lambda kinds, out, options: analyze_classes(
        kinds['panoptic'][0], out, loader='test_dataloader', cfg_options=options
    ),
}


@pytest.mark.parametrize('analysis', ANALYSES)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_runs(kinds, tmp_path, analysis, monkeypatch):
    def build(*args):
        raise AssertionError('a model or a dataset is built')

    for name in ('one_pass', 'inference'):
        monkeypatch.setattr(f'mmmaskformer.apis.analysis.{name}.load_config', build)
    monkeypatch.setattr('mmmaskformer.apis.analysis.queries.DATASETS.build', build)
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileExistsError, match='out: .*found a file, expected a folder'):
        ANALYSES[analysis](kinds, tmp_path / 'file', {})
    for name in ('inference.csv', 'queries.png', 'sky.csv', 'thresholds.md', 'classes_per_image.csv'):
        (tmp_path / 'taken' / name).mkdir(parents=True)
    with pytest.raises(FileExistsError, match='found a folder, expected a file'):
        ANALYSES[analysis](kinds, tmp_path / 'taken', {})


def test_a_dataset_without_images_is_refused(kinds, tmp_path):
    none = dict(indices=0, serialize_data=False)
    for analysis in ('queries', 'classes'):
        with pytest.raises(ValueError, match=r'panoptic.py: (the test set|test_dataloader) has no image, expected'):
            ANALYSES[analysis](kinds, tmp_path / 'out', {'test_dataloader.dataset': none})
    assert not (tmp_path / 'out').exists()


def test_classes_of_data_model_and_checkpoint_are_compared(kinds, tmp_path):
    config, checkpoint = kinds['panoptic']
    classes = list(load(config, checkpoint).dataset.metainfo['classes'])
    content = torch.load(checkpoint)
    content['meta'] = dict(dataset_meta=dict(classes=classes[::-1]))
    torch.save(content, tmp_path / 'other.pth')
    other = dict(kinds, panoptic=(config, tmp_path / 'other.pth'))
    with pytest.raises(ValueError, match='other.pth, which has the same classes in another order'):
        ANALYSES['inference'](other, tmp_path, {})
    options = {'model.panoptic_head.things': [1, 3, 5, 7]}
    with pytest.raises(ValueError, match='class 8 .* is a thing, but stuff in model.panoptic_head.things'):
        ANALYSES['thresholds'](kinds, tmp_path, options)


def test_a_store_that_holds_something_else_is_refused(kinds, tmp_path):
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/weights.pth').write_text('important')
    with pytest.raises(FileExistsError, match='store: .*results holds something other than stored predictions'):
        sweep_thresholds(*kinds['panoptic'], tmp_path / 'out', store=tmp_path / 'results')
    assert (tmp_path / 'results/weights.pth').read_text() == 'important'
    with pytest.raises(FileExistsError, match='store: .*holds something other'):
        sweep_thresholds(*kinds['panoptic'], tmp_path / 'results', store=tmp_path / 'results')


@pytest.mark.parametrize('name', ['predictions.json', '000000.npz'])
def test_damaged_stored_predictions_are_named(kinds, tmp_path, name):
    sweep_thresholds(*kinds['panoptic'], tmp_path, [0.2], [0.5], store=tmp_path / 'stored')
    whole = (tmp_path / 'stored' / name).read_bytes()
    for content in (b'', b'{}', b'[]', whole[:100], whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / 'stored' / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name}: .*Fix: store the predictions again'):
            sweep_stored(tmp_path / 'stored', tmp_path, [0.2])


def test_stored_predictions_take_no_options_of_a_model(tmp_path, capsys):
    arguments = ['analyze', 'thresholds', '--stored', str(tmp_path), '--out', str(tmp_path)]
    assert cli.main([*arguments, '--cfg-options', 'a=1']) == 2
    assert '--cfg-options as well, expected only --stored' in capsys.readouterr().err


def test_checkpoints_of_one_config_are_distinguished(kinds, tmp_path):
    config, checkpoint = kinds['semantic']
    (tmp_path / 'last').mkdir()
    for name in ('first.pth', 'last/first.pth'):
        (tmp_path / name).write_bytes(checkpoint.read_bytes())
    for others, expected in (
        ([checkpoint, tmp_path / 'first.pth'], {'semantic, semantic.pth', 'semantic, first.pth'}),
        ([tmp_path / 'last/first.pth', tmp_path / 'first.pth'],
         {f'semantic, {tmp_path}/last/first.pth', f'semantic, {tmp_path}/first.pth'}),
    ):  # fmt: skip
        report = draw_class_masks('sky', [(config, other) for other in others], tmp_path, 1, 0.1)
        assert {line.split(': ')[0] for line in report.lines} == expected
        assert {row['model'] for row in read_csv(tmp_path / 'sky.csv')} == expected
    with pytest.raises(ValueError, match='more than once, expected different models'):
        draw_class_masks('sky', [kinds['semantic']] * 2, tmp_path)


def test_images_of_one_name_in_two_folders_are_not_mixed_up(kinds, tmp_path):
    config, checkpoint = kinds['semantic']
    root = config.parent / 'scenes'
    for part in ('a', 'b'):
        for kind in ('images', 'annotations'):
            shutil.copytree(root / kind / 'val', tmp_path / 'data' / kind / 'val' / part)
    (tmp_path / 'two.py').write_text(
        f'_base_ = {str(config)!r}\ntest_dataloader = dict(dataset=dict(data_root={str(tmp_path / "data")!r}))\n'
    )
    with pytest.raises(ValueError, match='2 images of that name, such as .*Fix: test all models on one image folder'):
        draw_class_masks('sky', [kinds['semantic'], (tmp_path / 'two.py', checkpoint)], tmp_path / 'out', 1, 0.1)


def test_pictures_of_masks_replace_no_image(kinds, tmp_path):
    config, checkpoint = kinds['semantic']
    shutil.copytree(config.parent / 'scenes', tmp_path / 'data')
    images = tmp_path / 'data/images/val'
    (file, *_) = sorted(images.iterdir())
    for kind in ('images', 'annotations'):
        (tmp_path / f'data/{kind}/val' / file.name).rename(tmp_path / f'data/{kind}/val/sky.png')
    options = {'test_dataloader.dataset.data_root': str(tmp_path / 'data')}
    with pytest.raises(ValueError, match='sky.png is a file of the dataset'):
        draw_class_masks('sky', [(config, checkpoint)], images, cfg_options=options)


def test_different_thresholds_of_two_modes_are_named(kinds, tmp_path):
    option = 'model.test_cfg.detr.object_threshold'
    options = {'model.test_cfg.panoptic.object_threshold': 0.2}
    files = compare_inference(*kinds['panoptic'], tmp_path, cfg_options=options)[2]
    note = (
        "'detr' has the default object threshold, 0.85; 'panoptic' has 0.2, from the config. To compare like with like"
    )
    assert note in files[0].read_text() and f'{option}=0.2' in files[0].read_text()
    files = compare_inference(*kinds['panoptic'], tmp_path, cfg_options=options | {option: 0.2})[2]
    assert 'like with like' not in files[0].read_text()


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
