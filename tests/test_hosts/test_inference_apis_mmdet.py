"""MMDetection's functions for single images, unmodified and without panopticapi, give the results of the test loop."""

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import runs
from helpers.panoptic import write_instances
from helpers.saved_models import SavedModel, config_in, predict_in_batches, save_family, save_model, warnings_in_force
from panopticapi.utils import id2rgb
from PIL import Image
from pycocotools import mask as coco_mask

import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed
from mmmaskformer import compat
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.scenes.files import write_scenes

from mmdet.apis import det_inferencer, inference_detector, init_detector  # isort: skip

FAMILIES = {
    'ade20k_panoptic': (640, 720),
    'camvid_panoptic': (360, 405),
    'coco_instance': (800, 900),
    'coco_panoptic': (800, 900),
    'scenes_panoptic': (128, 144),
}
"""Dataset bases for MMDetection, and the test size of an image of 64 x 72 pixels."""
INSTANCES = """
model['test_cfg'] = dict(_delete_=True, instance=dict(max_per_image=5))
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmdet.CocoDataset',
        data_root={root!r},
        ann_file='instances.json',
        data_prefix=dict(img='images'),
        metainfo=dict(classes={classes!r}),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.Resize', scale=(1333, 96), keep_ratio=True, backend='pillow'),
            dict(type='mmdet.PackDetInputs'),
        ],
    )
)
"""


@pytest.fixture(scope='module')
def without_panopticapi():
    """The module of `DetInferencer` as if panopticapi were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition('.')[0] == 'panopticapi']:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, 'panopticapi', None)
        module = importlib.reload(det_inferencer)
        assert module.VOID is None and module.id2rgb is None
        yield module
    importlib.reload(det_inferencer)


def codes_of(sample) -> np.ndarray:
    """Panoptic map (H, W) of a sample, or of one converted to a dict, in MMDetection's encoding."""
    found = sample['pred_panoptic_seg'] if isinstance(sample, dict) else sample.pred_panoptic_seg
    return np.asarray(found['sem_seg'] if isinstance(found, dict) else found.sem_seg)[0]


def ids_of(colours: np.ndarray) -> np.ndarray:
    return colours.astype(int) @ [1, 256, 65536]


def varied(results: list[dict]) -> bool:
    """At least two images with at least two segments, one with void, and all with a segment."""
    found = [np.unique(codes_of(result)) for result in results]
    return (
        sum(len(codes[codes != 9]) > 1 for codes in found) >= 2
        and any(9 in codes for codes in found)
        and all((codes != 9).any() for codes in found)
    )


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp('panoptic')
    write_scenes(folder / 'scenes', 1, 3)
    return save_model(runs.write_config(folder / 'toy.py', folder / 'scenes', panoptic=True), varied)


@pytest.fixture
def model(saved):
    """A new one for each test, since the host modifies the model's pipeline if the input is an array."""
    return init_detector(str(saved.config), str(saved.checkpoint), device='cpu')


@pytest.fixture(scope='module')
def inferencer(saved, without_panopticapi):
    return without_panopticapi.DetInferencer(str(saved.config), str(saved.checkpoint), device='cpu')


@pytest.fixture(scope='module')
def paths(saved) -> list[str]:
    return [result['img_path'] for result in saved.results]


def require_equal(found: list, saved: SavedModel) -> None:
    expected = [codes_of(result) for result in saved.results]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def require_colours(found: list[dict], results: list[dict]) -> None:
    """Compare the output of `DetInferencer`, where void is 0, with the results of the test loop."""
    for one, other in zip(found, results, strict=True):
        codes = codes_of(other)
        np.testing.assert_array_equal(ids_of(one['panoptic_seg']), np.where(codes == 9, 0, codes))


def test_path_array_and_lists(model, saved, paths):
    require_equal([codes_of(inference_detector(model, path)) for path in paths], saved)
    require_equal([codes_of(sample) for sample in inference_detector(model, paths)], saved)
    arrays = [cv2.imread(path) for path in paths]
    require_equal([codes_of(sample) for sample in inference_detector(model, arrays)], saved)
    require_equal([codes_of(inference_detector(model, array)) for array in arrays], saved)


def test_further_results_are_returned(model, saved, paths):
    found = inference_detector(model, paths)
    for one, other in zip(found, saved.results, strict=True):
        assert torch.equal(one.pred_sem_seg.sem_seg, other['pred_sem_seg']['sem_seg'])
        assert [*one.pred_panoptic_seg.segments] == [*other['pred_panoptic_seg']['segments']]


def test_inferencer_with_files_folder_arrays_and_batches(inferencer, saved, paths):
    require_colours(inferencer(paths)['predictions'], saved.results)
    arrays = [cv2.imread(path) for path in paths]
    require_colours([inferencer(array)['predictions'][0] for array in arrays], saved.results)
    require_colours(inferencer(arrays, batch_size=2)['predictions'], predict_in_batches(saved, 2))
    in_folder = inferencer(str(Path(paths[0]).parent), return_datasamples=True)['predictions']
    by_path = {sample.img_path: codes_of(sample) for sample in in_folder}
    require_equal([by_path[path] for path in paths], saved)


def test_inferencer_writes_pictures_and_panoptic_maps(inferencer, saved, paths, tmp_path):
    results = inferencer(paths, out_dir=str(tmp_path), no_save_pred=False, return_vis=True)
    for path, found, drawn, expected in zip(
        paths, results['predictions'], results['visualization'], saved.results, strict=True
    ):
        stem, codes = Path(path).stem, codes_of(expected)
        written = np.array(Image.open(tmp_path / f'preds/{stem}_panoptic_seg.png'))
        np.testing.assert_array_equal(ids_of(written), np.where(codes == 9, 0, codes))
        assert json.loads((tmp_path / f'preds/{stem}.json').read_text()) == found
        assert drawn.shape == (*codes.shape, 3) and (drawn != np.array(Image.open(path))).any()
        assert (tmp_path / 'vis' / Path(path).name).is_file()


def test_inferencer_from_the_config_in_the_checkpoint(saved, paths, without_panopticapi):
    inferencer = without_panopticapi.DetInferencer(weights=str(saved.checkpoint), device='cpu')
    require_colours(inferencer(paths)['predictions'], saved.results)
    config = config_in(saved.checkpoint)
    model = init_detector(config, str(saved.checkpoint), device='cpu')
    require_equal([codes_of(sample) for sample in inference_detector(model, paths)], saved)


def test_the_inferencer_gives_no_warnings(saved, paths, without_panopticapi, tmp_path):
    with warnings_in_force() as found:
        inferencer = without_panopticapi.DetInferencer(weights=str(saved.checkpoint), device='cpu')
        inferencer(paths, batch_size=2, out_dir=str(tmp_path))
    assert found == []


def test_panopticapi_stays_in_use_where_it_is_installed(monkeypatch, saved):
    monkeypatch.setattr(det_inferencer, 'VOID', 0)
    monkeypatch.setattr(det_inferencer, 'id2rgb', id2rgb)
    init_detector(str(saved.config), str(saved.checkpoint), device='cpu')
    assert det_inferencer.id2rgb is id2rgb


def test_colours_of_ids_are_those_of_panopticapi():
    ids = np.array([[0, 255, 256], [65535, 65536, 2**24 - 1]])
    np.testing.assert_array_equal(compat.colours_of_ids(ids), id2rgb(ids))
    assert compat.colours_of_ids(ids).dtype == np.uint8


@pytest.fixture(scope='module')
def instances(tmp_path_factory):
    folder = tmp_path_factory.mktemp('instances')
    classes = tuple('abcdefghi')
    write_instances(folder / 'coco', classes, ann_file='instances.json', img='images', size=(64, 96))
    more = INSTANCES.format(root=str(folder / 'coco'), classes=classes)
    config = runs.write_config(folder / 'toy.py', folder / 'coco', panoptic=True, more=more)
    # Only the test set has instances; the runner takes the classes of the checkpoint from the training set.
    config.write_text(config.read_text() + 'train_dataloader = test_dataloader\n')
    return save_model(config, lambda results: len(results[0]['pred_instances']['masks'].unique()) == 2)


def test_instances(instances, without_panopticapi, tmp_path):
    (expected,) = (result['pred_instances'] for result in instances.results)
    path = instances.results[0]['img_path']
    model = init_detector(str(instances.config), str(instances.checkpoint), device='cpu')
    for image in (path, cv2.imread(path)):
        found = inference_detector(model, image).pred_instances
        for key in ('labels', 'scores', 'bboxes', 'masks'):
            assert torch.equal(found[key], expected[key])
    for inferencer in (
        without_panopticapi.DetInferencer(str(instances.config), str(instances.checkpoint), device='cpu'),
        without_panopticapi.DetInferencer(weights=str(instances.checkpoint), device='cpu'),
    ):
        (found,) = inferencer(path, out_dir=str(tmp_path), pred_score_thr=0)['predictions']
        assert (np.array(Image.open(tmp_path / 'vis/p.png')) != np.array(Image.open(path))).any()
        assert found['labels'] == expected['labels'].tolist() and found['bboxes'] == expected['bboxes'].tolist()
        np.testing.assert_array_equal([coco_mask.decode(mask) for mask in found['masks']], expected['masks'])


@pytest.fixture(scope='module', params=sorted(FAMILIES))
def family(request, tmp_path_factory) -> tuple[Path, Path, tuple[int, int]]:
    """Config and checkpoint of the small model with the classes of a dataset base, and its network input size."""
    result = 'instance' if 'instance' in request.param else 'panoptic'
    return *save_family(tmp_path_factory.mktemp(request.param), request.param, result), FAMILIES[request.param]


def test_every_dataset_base_predicts_without_its_data(family, tmp_path, without_panopticapi):
    config, weights, size = family
    image = np.random.default_rng(0).integers(0, 256, (64, 72, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    found = inference_detector(init_detector(str(config), str(weights), device='cpu'), str(tmp_path / 'a.png'))
    assert tuple(found.img_shape) == size and tuple(found.ori_shape) == (64, 72)
    (result,) = without_panopticapi.DetInferencer(str(config), str(weights), device='cpu')(image)['predictions']
    if 'instance' in config.parent.name:
        assert result['scores'] == pytest.approx(found.pred_instances.scores.tolist())
    else:
        num_classes = len(torch.load(weights)['meta']['dataset_meta']['classes'])
        codes = codes_of(found)
        np.testing.assert_array_equal(ids_of(result['panoptic_seg']), np.where(codes == num_classes, 0, codes))


def test_results_of_arrays_are_saved(inferencer, saved, paths, tmp_path):
    inferencer([cv2.imread(path) for path in paths], out_dir=str(tmp_path), no_save_pred=False)
    files = sorted((tmp_path / 'preds').glob('*_panoptic_seg.png'), key=lambda file: int(file.name.partition('_')[0]))
    found = [dict(panoptic_seg=np.asarray(Image.open(file))) for file in files]
    require_colours(found, saved.results)


@pytest.mark.parametrize('weights', [None, 'bare'])
def test_classes_are_those_of_the_config_if_the_checkpoint_has_none(
    saved, paths, weights, without_panopticapi, tmp_path
):
    if weights is not None:
        weights = str(tmp_path / 'bare.pth')
        state = torch.load(saved.checkpoint, map_location='cpu', weights_only=False)['state_dict']
        torch.save(dict(state_dict=state, meta={}), weights)
    inferencer = without_panopticapi.DetInferencer(str(saved.config), weights, device='cpu', show_progress=False)
    assert inferencer.visualizer.dataset_meta['classes'] == scenes.METAINFO['classes']
    found = inferencer(paths, out_dir=str(tmp_path))['predictions']
    assert len(list((tmp_path / 'vis').iterdir())) == len(paths)
    if weights is None:  # the usual weights give at least one segment, these may not
        assert 9 not in {int(code) for one in found for code in np.unique(ids_of(one['panoptic_seg']))}
    else:
        require_colours(found, saved.results)
