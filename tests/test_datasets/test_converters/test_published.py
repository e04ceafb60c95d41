"""Every published dataset: prepare, check, load, augment, train, evaluate and draw, from its on-disk format."""

import json

import numpy as np
import pytest
import torch
from helpers import published
from helpers.host_tools import run_tool
from helpers.prepared import DATA_SETS, settings_of
from helpers.published import BUILDERS, IGNORED, SIZE
from helpers.runs import ROOT
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope, init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import PixelData

from mmmaskformer.apis import cli
from mmmaskformer.apis.data_sets import check_config, check_prepared
from mmmaskformer.apis.drawing import draw_predictions
from mmmaskformer.datasets.converters.recipes import RECIPES
from mmmaskformer.formats.label_maps import load_labels
from mmmaskformer.formats.panoptic_png import read_ids

BASE = f'{ROOT}/configs/scenes/maskformer_tiny_'
CONFIG = """
_base_ = {base!r}
model = dict(
    data_preprocessor=dict(**{preprocessor!r}),
    {head}=dict(
        num_classes={classes}, {more}, num_queries=6, channels=16, pixel_decoder=dict(norm_groups=4),
        transformer_decoder=dict(num_layers=1, num_heads=2, ffn_channels=16),
    ),
)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=2, dataset=dict(_delete_=True, pipeline=_base_.train_pipeline, **{train!r}), **loader
)
val_dataloader = dict(
    dataset=dict(_delete_=True, test_mode=True, pipeline=_base_.test_pipeline, **{val!r}), **loader
)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, save_best=None))
val_evaluator = dict(_delete_=True, **{metric!r})
test_evaluator = val_evaluator
"""
# of the datasets that do not ignore 255
IGNORE_INDEX = {'mapillary': 65, 'ade20k_full': 65535}


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    """Each dataset, prepared on the command line."""
    prepared = {}
    for name, build in BUILDERS.items():
        tree = build(tmp_path_factory.mktemp(name))
        source = [] if tree.source is None else ['--source', str(tree.source)]
        assert (
            cli.main(['data', 'prepare', name, '--root', str(tree.root), *source, '--partial', '--workers', '1']) == 0
        )
        prepared[name] = tree
    return prepared


@pytest.fixture(params=list(BUILDERS))
def tree(request, trees):
    return trees[request.param]


@pytest.fixture(autouse=True)
def scope():
    """The default scope must not leak from one test to the next."""
    before = DefaultScope.get_current_instance()
    yield
    init_default_scope(before.scope_name if before else 'mmengine')


def dataset_of(tree, split):
    init_default_scope('mmseg' if DATA_SETS[tree.name].ann_file is None else 'mmdet')
    return DATASETS.build(settings_of(tree, split) | dict(test_mode=True, pipeline=[]))


def test_every_dataset_has_a_tree_and_a_place_in_the_help():
    assert list(BUILDERS) == list(RECIPES) == list(DATA_SETS)
    from mmmaskformer.apis.cli import data

    listed = data.__doc__.partition('NAME is one of:')[2].partition('.')[0]
    assert [name.strip() for name in listed.split(',')] == list(RECIPES)


def test_labels_are_those_of_the_publishers(tree):
    semantic = DATA_SETS[tree.name].ann_file is None
    for split, images in tree.truth.items():
        dataset = dataset_of(tree, split)
        assert len(dataset) == len(images)
        for entry in (dataset.get_data_info(index) for index in range(len(dataset))):
            name = next(name for name in images if name.split('/')[-1] in entry['img_path'])
            shown = images[name]
            if semantic:
                labels = load_labels(entry, dataset.ignore_index, None).astype(np.int64)
                labels[labels == dataset.ignore_index] = IGNORED
            else:
                ids = read_ids(entry['seg_map_path'])
                labels = np.full(SIZE, IGNORED)
                for row in entry['segments_info']:
                    labels[ids == row['id']] = row['category']
                found = sorted((row['category'], row['area'], row['iscrowd']) for row in entry['segments_info'])
                assert tuple(found) == shown.segments
            assert (labels == shown.labels).all()


def test_record_counts_pixels_of_the_images(tree):
    record = json.loads((tree.root / f'{tree.name}.prepared.json').read_text())
    assert record['images'] == {split: len(images) for split, images in tree.truth.items()}
    for split, images in tree.truth.items():
        expected: dict[str, int] = {}
        for shown in images.values():
            labels = shown.labels[shown.labels >= 0].tolist()
            if RECIPES[tree.name].unit == 'segments':
                labels = [row[0] for row in shown.segments]
            for label in labels:
                expected[str(label)] = expected.get(str(label), 0) + 1
        assert record['counts'][split] == expected


def test_check_prints_the_report(tree, capsys):
    assert cli.main(['data', 'check', tree.name, '--root', str(tree.root)]) == 0
    printed = capsys.readouterr().out
    assert f'complete in {tree.root}' in printed and check_prepared(tree.name, tree.root) in printed
    first, number = next(iter(RECIPES[tree.name].images.items()))
    assert f'{first} has {len(tree.truth[first])} images; the published number is {number:,}.' in printed


# the shipped config of each dataset, one for all configs that share its base
SHIPPED = {
    'ade20k': 'ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
    'ade20k_full': 'ade20k_full/maskformer_r50-d32_8xb2-200k_ade20k-full-512x512.py',
    'cocostuff10k': 'coco_stuff10k/maskformer_r50-d32_8xb4-60k_coco-stuff10k-640x640.py',
    'cityscapes': 'cityscapes/maskformer_r101-d32_8xb2-90k_cityscapes-512x1024.py',
    'mapillary': 'mapillary/maskformer_r50-d32_8xb2-300k_mapillary-1280x1280.py',
    'coco_panoptic': 'coco_panoptic/maskformer_r50-6enc_64xb1-554k_coco-panoptic.py',
    'ade20k_panoptic': 'ade20k_panoptic/maskformer_r50-6enc_8xb2-720k_ade20k-panoptic-640x640.py',
    'cityscapes_panoptic': 'cityscapes_panoptic/maskformer_r50-6enc_8xb2-90k_cityscapes-panoptic-512x1024.py',
    'mapillary_panoptic': 'mapillary_panoptic/maskformer_r50-6enc_8xb2-300k_mapillary-panoptic-1280x1280.py',
}


def test_shipped_config_reads_the_prepared_data(tree, capsys):
    config = ROOT / 'configs' / SHIPPED[tree.name]
    assert cli.main(['data', 'check', str(config), '--root', str(tree.root)]) == 0
    counts = [len(tree.truth[split]) for split in DATA_SETS[tree.name].splits]
    name = f'{DATA_SETS[tree.name].type}, '
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith('  ')]
    expected = zip(('train_dataloader', 'val_dataloader'), counts, strict=True)
    assert printed == [f'{loader}: {name}{count} images' for loader, count in expected]
    settings = Config.fromfile(config).train_dataloader.dataset
    sample = DATASETS.build(settings | dict(data_root=str(tree.root)))[0]  # through the shipped augmentation
    labels = sample['data_samples'].to_dict()
    assert sample['inputs'].dtype == torch.uint8 and {'gt_sem_seg', 'gt_panoptic_seg'} & set(labels)


SMALL = dict(channels=16, num_queries=6)
SMALL |= {'pixel_decoder.norm_groups': 4, 'transformer_decoder.num_layers': 1, 'transformer_decoder.num_heads': 2}
SMALL_BACKBONE = dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None)


@pytest.mark.parametrize('name, host, head, more', [
    ('ade20k_full', 'mmseg', 'decode_head', {}),
    ('cityscapes_panoptic', 'mmdet', 'panoptic_head',
     {'pixel_decoder.num_layers': 1, 'pixel_decoder.num_heads': 2}),
])  # fmt: skip
def test_host_script_trains_and_evaluates(trees, tmp_path, name, host, head, more):
    """Uses the shipped config, augmentation and checks; only the model is smaller."""
    root = trees[name].root
    options = {f'model.backbone.{key}': value for key, value in SMALL_BACKBONE.items()}
    options |= {f'model.{head}.{key}': value for key, value in (SMALL | more).items()}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        options |= {
            f'{loader}.dataset.data_root': root,
            f'{loader}.num_workers': 0,
            f'{loader}.persistent_workers': False,
        }
    options |= {'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1, 'default_hooks.logger.interval': 1}
    config = ROOT / 'configs' / SHIPPED[name]
    pairs = [f'{key}={value}' for key, value in options.items()]
    printed = run_tool(host, 'train.py', config, '--work-dir', tmp_path, '--cfg-options', *pairs, cwd=tmp_path)
    assert (
        'Iter(train) [1/1]' in printed and f'Iter(val) [{len(trees[name].truth[DATA_SETS[name].splits[1]])}/' in printed
    )
    assert ('mIoU: ' if host == 'mmseg' else 'panoptic/PQ: ') in printed


def test_folder_of_prepared_data(trees, tmp_path, capsys):
    root = str(trees['mapillary_panoptic'].root)
    assert cli.main(['data', 'check', root]) == 0
    assert f'panoptic: complete in {root}' in capsys.readouterr().out
    for arguments, message in (
        ([str(tmp_path)], f'{tmp_path}: found no record of a complete dataset, NAME.prepared.json'),
        ([root, '--root', 'a'], 'root: found a with the folder'),
        (
            ['ade20k', '--cfg-options', 'a=1'],
            "cfg_options: found {'a': 1}, but 'ade20k' is not a config; expected none",
        ),
    ):
        assert cli.main(['data', 'check', *arguments]) == 2
        assert message in capsys.readouterr().err


def write_config(tree, folder):
    """A toy model for the kind of data."""
    train, val = DATA_SETS[tree.name].splits
    classes, ignore_index = len(RECIPES[tree.name].classes), IGNORE_INDEX.get(tree.name, 255)
    values = dict(classes=classes, train=settings_of(tree, train), val=settings_of(tree, val))
    if DATA_SETS[tree.name].ann_file is None:
        values |= dict(
            base=f'{BASE}1xb8-800_scenes.py',
            head='decode_head',
            more=f'ignore_index={ignore_index}',
            preprocessor=dict(seg_pad_val=ignore_index),
            metric=dict(
                type='mmmaskformer.SemanticMetric', ignore_index=ignore_index, output_dir=str(folder / 'results')
            ),
        )
    else:
        isthing = dataset_of(tree, val).metainfo['isthing']
        values |= dict(
            base=f'{BASE}1xb4-2600_scenes-panoptic.py',
            head='panoptic_head',
            more=f'things={np.flatnonzero(isthing).tolist()}',
            preprocessor={},
            metric=dict(type='mmmaskformer.PanopticMetric', outfile_prefix=str(folder / 'results/results')),
        )
    text = CONFIG.format(**values)
    (folder / 'config.py').write_text(text)
    return folder / 'config.py'


def test_check_load_augment_train_evaluate_draw(tree, tmp_path, monkeypatch):
    """One training step and one evaluation in mmengine's runner, with the hosts' loops and all checks at start-up."""
    # The runner writes the config into each checkpoint and log; formatting it took most of the time.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: cfg.text))
    config = write_config(tree, tmp_path)
    train, val = DATA_SETS[tree.name].splits
    lines = check_config(config)
    counts = (len(tree.truth[train]), len(tree.truth[val]))
    assert [line.split(', ')[-1] for line in lines if not line.startswith('  ')] == [f'{n} images' for n in counts]

    cfg = Config.fromfile(config)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = tree.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert np.isfinite(runner.message_hub.get_scalar('train/loss').current())
    semantic = DATA_SETS[tree.name].ann_file is None
    scores = {key.split('/')[-1] for key in runner.message_hub.log_scalars if key.startswith('val/')}
    assert ('mIoU' if semantic else 'PQ') in scores

    checkpoint = tmp_path / 'work/iter_1.pth'
    pictures = draw_predictions(config, checkpoint, tmp_path / 'pictures', num=1)
    assert all(path.is_file() for path in pictures) and pictures
    results = sorted((tmp_path / 'results').rglob('*.png'))
    assert len(results) == len(tree.truth[val])
    if semantic:
        written = published.as_opencv_reads(results[0])
        assert written.dtype == (np.uint16 if tree.name == 'ade20k_full' else np.uint8) and written.shape == SIZE


def test_847_classes_keep_their_16_bits(trees, tmp_path):
    """From the file through loading, augmentation and metric to the result files."""
    tree = trees['ade20k_full']
    config = Config.fromfile(write_config(tree, tmp_path))
    init_default_scope('mmseg')
    set_random_seed(0)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    seen: set[int] = set()
    for _ in range(8):  # each crop shows a different part
        for index in range(len(dataset)):
            labels = dataset[index]['data_samples'].gt_sem_seg.data
            seen |= set(torch.unique(labels).tolist())
    assert seen == {0, 300, 846, 1, 255, 256, 400, 65535}

    # a prediction of every pixel, correct where there is a label
    dataset = DATASETS.build(config.val_dataloader.dataset)
    sample = dataset[0]['data_samples']
    truth = sample.gt_sem_seg.data
    sample.pred_sem_seg = PixelData(data=torch.where(truth == 65535, 846, truth))
    metric = METRICS.build(config.val_evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    assert metric.evaluate(len(dataset))['mIoU'] == 100
    (written,) = (tmp_path / 'results').rglob('*.png')
    (shown,) = tree.truth['validation'].values()
    assert (published.as_opencv_reads(written) == np.where(shown.labels == IGNORED, 846, shown.labels)).all()
