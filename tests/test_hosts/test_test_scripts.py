"""The hosts' own test.py and train.py, unmodified: --out, --show-dir, --tta, --cfg-options, drawing in validation."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.host_tools import built, run_tool
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmmaskformer.datasets.scenes import scenes

PALETTE = np.array(scenes.METAINFO['palette'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('out')


def predictions(trained):
    """The model's data samples of all test images, by file name without suffix."""
    cfg = Config.fromfile(trained.config)
    init_default_scope(cfg.default_scope)
    dataset, model = DATASETS.build(cfg.test_dataloader.dataset), built(trained.config)
    with torch.no_grad():
        samples = [model.test_step(pseudo_collate([data]))[0] for data in dataset]
    return {sample.img_path.rpartition('/')[2].partition('.')[0]: sample for sample in samples}


def read(file):
    return np.array(Image.open(file))


def metrics_of(work_dir):
    """The results that a run of test.py wrote."""
    return json.loads(next(work_dir.glob('*/*.json')).read_text())


def test_mmseg_out_and_show_dir(kinds, folder):
    config, checkpoint = kinds['semantic']
    arguments = [checkpoint, '--work-dir', 'semantic', '--out', 'labels', '--show-dir', 'drawn']
    # our own script, which passes all arguments to the host's
    runs.run_script(str(runs.ROOT / 'tools/test.py'), str(config), *map(str, arguments), cwd=folder)
    expected = predictions(kinds['semantic'])
    assert len(expected) == 3 and len({label for s in expected.values() for label in s.pred_sem_seg.data.unique()}) > 2
    assert {file.stem for file in (folder / 'labels').iterdir()} == set(expected)
    for name, sample in expected.items():
        labels = read(folder / f'labels/{name}.png')
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, sample.pred_sem_seg.data[0])
        drawn, image = read(folder / f'drawn/vis_data/vis_image/test_{name}.png_0.png'), read(sample.img_path)
        for side, classes in zip(np.split(drawn, 2, axis=1), (sample.gt_sem_seg.data[0].numpy(), labels), strict=True):
            blended = 0.2 * image + 0.8 * PALETTE[classes]
            agree = (abs(side - blended) <= 1).all(-1)
            assert agree.mean() > 0.75  # class names cover the rest


def test_mmseg_out_counts_from_1_where_the_files_do(kinds, folder):
    config, checkpoint = kinds['semantic']
    options = ['--cfg-options', 'test_dataloader.dataset.reduce_zero_label=True', 'model.type=EncoderDecoder']
    arguments = [config, checkpoint, '--work-dir', 'zero', '--out', 'labels_from_1', *options]
    run_tool('mmseg', 'test.py', *arguments, cwd=folder)
    for name, sample in predictions(kinds['semantic']).items():
        np.testing.assert_array_equal(read(folder / f'labels_from_1/{name}.png'), sample.pred_sem_seg.data[0] + 1)


def test_mmseg_tta_of_the_host_gets_scores_from_our_segmentor(kinds, folder):
    config, checkpoint = kinds['semantic']
    host = ['--cfg-options', 'tta_model.type=mmseg.SegTTAModel']
    common = [config, checkpoint, '--tta', '--out']
    run_tool('mmseg', 'test.py', *common, 'ours', '--work-dir', 'tta', *host, cwd=folder)
    run_tool('mmseg', 'test.py', *common, 'stock', '--work-dir', 'tta2', *host, 'model.type=EncoderDecoder', cwd=folder)
    for file in (folder / 'stock').iterdir():
        assert (read(file) == read(folder / 'ours' / file.name)).mean() > 0.999


def test_mmdet_out_show_dir_and_offline_evaluation(kinds, folder):
    config, checkpoint = kinds['panoptic']
    arguments = [config, checkpoint, '--work-dir', 'panoptic', '--out', 'panoptic.pkl', '--show-dir', 'drawn']
    out = run_tool('mmdet', 'test.py', *arguments, cwd=folder)
    assert 'draws pred_panoptic_seg, not pred_sem_seg' in out
    dumped = pickle.loads((folder / 'panoptic.pkl').read_bytes())
    expected = predictions(kinds['panoptic'])
    assert len(dumped) == 3 and any(len(sample.pred_panoptic_seg.segments) > 1 for sample in expected.values())
    for result in dumped:
        name = result['img_path'].rpartition('/')[2]
        sample = expected[name.partition('.')[0]]
        codes = result['pred_panoptic_seg']['sem_seg']
        torch.testing.assert_close(codes, sample.pred_panoptic_seg.sem_seg, rtol=0, atol=0)
        assert result['pred_panoptic_seg']['segments'] == list(sample.pred_panoptic_seg.segments)
        drawn, image = read(next((folder / 'panoptic').glob(f'*/drawn/{name}'))), read(result['img_path'])
        labels = read(result['img_path'].replace('/images/', '/annotations/'))
        truth, found = np.split(drawn, 2, axis=1)  # test_mmdet_visualizer.py checks the right half
        agree = (abs(truth - (0.2 * image + 0.8 * PALETTE[labels])) <= 2).all(-1)
        assert agree.mean() > 0.5  # names and white outlines cover the rest
        assert (found != image).any(-1).mean() > 0.5
    printed = run_tool('mmdet', 'analysis_tools/eval_metric.py', config, folder / 'panoptic.pkl', cwd=folder)
    for key, value in metrics_of(folder / 'panoptic').items():
        assert key.startswith(('data_time', 'time')) or f"'{key}': {value}" in printed


def test_mmdet_options_as_the_readme_prints_them(kinds, folder):
    config, checkpoint = kinds['panoptic']
    out = run_tool(
        'mmdet', 'test.py', config, checkpoint, '--work-dir', 'options', '--cfg-options', 'model.test_cfg.semantic={}',
        'test_evaluator.classwise=True', 'test_evaluator.outfile_prefix=results/test', cwd=folder,
    )  # fmt: skip
    assert 'TP' in out and 'mIoU' in out and (folder / 'results/test.panoptic.json').is_file()
    out = run_tool(
        'mmdet', 'test.py', config, checkpoint, '--work-dir', 'options', '--cfg-options',
        'test_evaluator.outfile_prefix=server/test', 'test_evaluator.format_only=True', cwd=folder,
    )  # fmt: skip
    assert (folder / 'server/test.panoptic.json').is_file() and "['SemanticMetric'] in `also` are skipped" in out


@pytest.mark.parametrize('kind', ['panoptic', 'instance'])
def test_mmdet_tta(kinds, folder, kind):
    config, checkpoint = kinds[kind]
    out = run_tool('mmdet', 'test.py', config, checkpoint, '--tta', '--work-dir', 'tta_det', cwd=folder, check=False)
    assert (
        'panoptic/PQ' in out
        if kind == 'panoptic'
        else "has ['instance'], which test-time augmentation does not support; expected" in out
    )


def test_instance_results_with_mmdets_tools(kinds, folder):
    config, checkpoint = kinds['instance']
    arguments = [config, checkpoint, '--work-dir', 'instance', '--out', 'instance.pkl', '--show-dir', 'drawn']
    run_tool('mmdet', 'test.py', *arguments, cwd=folder)
    assert list((folder / 'instance').glob('*/drawn/p.png'))
    (result,) = pickle.loads((folder / 'instance.pkl').read_bytes())
    sample = predictions(kinds['instance'])['p']
    assert len(result['pred_instances']['masks']) == len(sample.pred_instances) > 0
    printed = run_tool('mmdet', 'analysis_tools/eval_metric.py', config, 'instance.pkl', cwd=folder)
    assert 'coco/segm_mAP' in printed
    run_tool('mmdet', 'analysis_tools/confusion_matrix.py', config, 'instance.pkl', 'matrix', cwd=folder)
    assert (folder / 'matrix/confusion_matrix.png').is_file()


@pytest.mark.parametrize('kind', ['semantic', 'panoptic', 'instance'])
def test_the_hosts_hooks_draw_in_validation(kinds, folder, kind):
    host, work_dir = ('mmseg' if kind == 'semantic' else 'mmdet'), f'val_{kind}'
    options = ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'default_hooks.visualization.draw=True']
    options += ['default_hooks.visualization.interval=1', 'model.test_cfg.panoptic.object_threshold=1.0'][
        : 1 + (kind == 'panoptic')
    ]
    out = run_tool('mmdet' if host == 'mmdet' else 'mmseg', 'train.py', kinds[kind].config, '--work-dir', work_dir,
                   '--cfg-options', *options, cwd=folder)  # fmt: skip
    pictures = list((folder / work_dir).glob('*/vis_data/vis_image/*.png'))
    assert pictures
    if kind == 'panoptic':  # no segments: the plain image beside the ground truth
        assert 'object_threshold=1.0' in out
        drawn = read(sorted(pictures)[0])
        images = [read(file) for file in (folder.parent.glob('kinds*/scenes/images/val/*.png'))]
        found = np.split(drawn, 2, axis=1)[1]
        assert any(image.shape == found.shape and (image == found).all() for image in images)


@pytest.fixture(scope='module')
def twins(kinds, folder):
    """Scenes with images of the same name in several folders, and the options to test them, by kind."""
    scenes_root, root = Path(Config.fromfile(kinds['semantic'].config).data_root), folder / 'twins'
    content = json.loads((scenes_root / 'panoptic_val.json').read_text())
    for row in (*content['images'], *content['annotations']):
        row['file_name'] = f'{row["file_name"].removesuffix(".png")}/x.png'
    for kind, source in (('images', 'images/val'), ('labels', 'annotations/val'), ('segments', 'panoptic_val')):
        for file in (scenes_root / source).iterdir():
            (root / kind / file.stem).mkdir(parents=True)
            shutil.copy(file, root / kind / file.stem / 'x.png')
    (root / 'panoptic_val.json').write_text(json.dumps(content))
    prefixes = dict(
        semantic=dict(img_path='images', seg_map_path='labels'), panoptic=dict(img='images', seg='segments')
    )
    options = {
        kind: [f'test_dataloader.dataset.data_prefix.{key}={value}' for key, value in prefix.items()]
        for kind, prefix in prefixes.items()
    }
    return {kind: [f'test_dataloader.dataset.data_root={root}', *option] for kind, option in options.items()}


NAMES = ['000000/x.png', '000001/x.png', '000002/x.png']
PICTURES = ['000001_x.png', '000002_x.png', 'x.png']


def names_in(folder) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob('*.png'))


def test_images_of_one_name_are_kept_apart_in_mmseg(kinds, twins, folder):
    config, checkpoint = kinds['semantic']
    arguments = [config, checkpoint, '--work-dir', 'twins_s', '--out', 'twins_l', '--show-dir', 'twins_d']
    out = run_tool('mmseg', 'test.py', *arguments, '--cfg-options', *twins['semantic'], cwd=folder)
    assert names_in(folder / 'twins_l') == NAMES and 'Several images are called x.png' in out
    assert names_in(folder / 'twins_d/vis_data/vis_image') == [f'test_{name}_0.png' for name in PICTURES]


def test_images_of_one_name_are_kept_apart_in_mmdet(kinds, twins, folder):
    config, checkpoint = kinds['panoptic']
    options = [*twins['panoptic'], 'test_evaluator.outfile_prefix=twins_r']
    arguments = [config, checkpoint, '--work-dir', 'twins_p', '--show-dir', 'twins_d', '--cfg-options', *options]
    run_tool('mmdet', 'test.py', *arguments, cwd=folder)
    assert names_in(folder / 'twins_r.panoptic') == NAMES
    (drawn,) = (folder / 'twins_p').glob('*/twins_d')
    assert names_in(drawn) == PICTURES
    over = [config, checkpoint, '--work-dir', 'twins_o', '--show-dir', folder / 'twins/images/000001', '--cfg-options']
    out = run_tool('mmdet', 'test.py', *over, *options, cwd=folder, check=False)
    assert 'could replace files of the dataset' in out.splitlines()[-1]


def test_instance_files_with_defects_are_trained_on_and_evaluated(kinds, folder):
    config = kinds['instance'].config
    root = config.parent / 'coco'
    content = json.loads((root / 'instances.json').read_text())
    good = content['annotations'][0]
    bare = {key: value for key, value in good.items() if key not in ('area', 'iscrowd', 'bbox')}
    broken = [[], [[10, 10, 20, 20]], None, dict(size=[64, 96], counts=[5, 5])]
    content['annotations'] += [dict(bare, id=0)]
    content['annotations'] += [dict(good, id=100 + n, segmentation=outline) for n, outline in enumerate(broken)]
    (root / 'defects.json').write_text(json.dumps(content))
    options = [f'{split}_dataloader.dataset.ann_file=defects.json' for split in ('train', 'val')]
    options += ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', f'val_evaluator.ann_file={root}/defects.json']
    out = run_tool('mmdet', 'train.py', config, '--work-dir', 'defects', '--cfg-options', *options, cwd=folder)
    for text in ('3 annotations without a usable outline', '1 annotations whose run lengths do not add up to'):
        assert f'defects.json: {text}' in out
    assert 'CocoInstanceMetric: ' in out and 'coco/segm_mAP:' in out
