"""Data that would stop a run later are refused before the first step."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DefaultScope
from PIL import Image

from mmmaskformer.evaluation import PanopticMetric
from mmmaskformer.hosts.annotation_checks import CheckAnnotationsHook
from mmmaskformer.registry import DATASETS, METRICS


def instances(root, kind: str, outline, with_mask: bool = True):
    """A dataset of two images, one with ``outline``."""
    (root / 'img').mkdir(exist_ok=True)
    images, rows = [], []
    for number, segmentation in enumerate(([[10, 10, 40, 10, 40, 40]], outline)):
        Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(root / f'img/{number}.png')
        images.append(dict(id=number, file_name=f'{number}.png', height=90, width=120))
        rows.append(dict(id=number, image_id=number, category_id=5, bbox=[10, 10, 30, 30], area=9, iscrowd=0,
                         segmentation=segmentation))  # fmt: skip
    content = dict(images=images, annotations=rows, categories=[dict(id=5, name='thing')])
    (root / 'instances.json').write_text(json.dumps(content))
    load = dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=with_mask)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(dict(type=kind, data_root=str(root), ann_file='instances.json', pipeline=[load],
                                   data_prefix=dict(img='img'), metainfo=dict(classes=('thing',))))  # fmt: skip


def runner(dataset, *metrics) -> SimpleNamespace:
    parts = {f'{split}_dataloader': SimpleNamespace(dataset=dataset) for split in ('train', 'val', 'test')}
    parts |= {f'{split}_evaluator': SimpleNamespace(metrics=metrics) for split in ('val', 'test')}
    return SimpleNamespace(**parts)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
@pytest.mark.parametrize(
    'wrap', [lambda part: part, lambda part: RepeatDataset(part, 2), lambda part: ConcatDataset([part])]
)
def test_an_empty_outline_in_a_stock_dataset_is_named(tmp_path, split, wrap):
    dataset = wrap(instances(tmp_path, 'mmdet.CocoDataset', []))
    found = r'1 of 2 instances of .*instances\.json have no outline .* the first: .*1\.png'
    with pytest.raises(ValueError, match=rf'{split}_dataloader: CocoDataset: {found}'):
        getattr(CheckAnnotationsHook(), f'before_{split}')(runner(dataset))


@pytest.mark.parametrize(
    ('kind', 'outline', 'with_mask'),
    [
        ('mmdet.CocoDataset', [[10, 10, 40, 10, 40, 40]], True),
        ('mmdet.CocoDataset', [], False),
        ('mmmaskformer.CocoInstanceDataset', [], True),
    ],
)
def test_valid_annotations_pass(tmp_path, kind, outline, with_mask):
    CheckAnnotationsHook().before_train(runner(instances(tmp_path, kind, outline, with_mask)))


def host_metric(root, **changes):
    """MMDetection's CocoMetric on the file of `instances` with a changed second annotation."""
    instances(root, 'mmmaskformer.CocoInstanceDataset', [[10, 10, 40, 10, 40, 40]])
    content = json.loads((root / 'instances.json').read_text())
    content['annotations'][0]['id'] = 5
    content['annotations'][1] = {k: v for k, v in (content['annotations'][1] | changes).items() if v != '-'}
    (root / 'instances.json').write_text(json.dumps(content))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return METRICS.build(dict(type='mmdet.CocoMetric', ann_file=str(root / 'instances.json'), metric=['segm']))


@pytest.mark.parametrize(
    ('changes', 'wrong'),
    [
        (dict(id=0), 'id'),
        (dict(id=5), 'id'),
        (dict(area='-'), 'area'),
        (dict(iscrowd='-'), 'iscrowd'),
        (dict(segmentation=[]), 'segmentation'),
        (dict(segmentation=[[1, 2, 3, 4]]), 'segmentation'),
        (dict(segmentation='-'), 'segmentation'),
    ],
)
def test_annotations_that_the_hosts_metric_cannot_evaluate_are_refused_before_the_first_step(tmp_path, changes, wrong):
    metric = host_metric(tmp_path, **changes)
    expected = rf"CocoMetric: annotation .*missing or wrong {wrong}\. Fix: use type='mmmaskformer.CocoInstanceMetric'"
    with pytest.raises(ValueError, match=expected):
        CheckAnnotationsHook().before_val(runner(Images((1, 'a.png')), metric))
    metric.metrics = ['bbox']
    if wrong == 'segmentation':
        CheckAnnotationsHook().before_val(runner(Images((1, 'a.png')), metric))


def test_a_complete_file_is_evaluated_by_the_hosts_metric(tmp_path):
    CheckAnnotationsHook().before_test(runner(Images((1, 'a.png')), host_metric(tmp_path)))


class Images(BaseDataset):
    """A dataset of ids and paths."""

    def __init__(self, *images: tuple[int, str]) -> None:
        self.images = images
        super().__init__()

    def load_data_list(self) -> list[dict]:
        return [dict(img_id=number, img_path=path) for number, path in self.images]


@pytest.mark.parametrize('split', ['val', 'test'])
def test_results_with_equal_names_are_refused_before_the_test(tmp_path, split):
    writing, counting = PanopticMetric(outfile_prefix=str(tmp_path / 'result')), PanopticMetric()
    good, same_id = Images((1, 'a/1.png'), (2, 'b/1.png')), Images((2, 'c/1.png'))
    same_path = Images((3, 'b/1.png'))

    def check(dataset, *metrics):
        getattr(CheckAnnotationsHook(), f'before_{split}')(runner(dataset, *metrics))

    check(good, counting, writing)
    check(ConcatDataset([good, same_id]), counting)
    with pytest.raises(ValueError, match=r'result\.panoptic\.json: 1 image ids belong to several images, such as 2'):
        check(ConcatDataset([good, same_id]), counting, writing)
    with pytest.raises(ValueError, match=r'results: 2 images are listed more than once, such as b/1\.png'):
        check(ConcatDataset([good, same_path]), writing)


def test_a_dataset_is_read_once(tmp_path):
    metric, calls = PanopticMetric(outfile_prefix=str(tmp_path / 'result')), []
    metric.check_images = lambda *args: calls.append(args)
    hook = CheckAnnotationsHook()
    for _ in range(3):
        hook.before_val(runner(Images((1, 'a.png')), metric))
    assert calls == [([1], ['a.png'])]
