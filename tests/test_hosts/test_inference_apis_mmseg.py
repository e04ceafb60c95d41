"""MMSegmentation's functions for single images, unmodified, give the results of the test loop."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import runs
from helpers.saved_models import config_in, predict_in_batches, save_family, save_model, warnings_in_force
from PIL import Image

import mmmaskformer.registry  # noqa: F401  must come before mmseg where mmcv-lite is installed
from mmmaskformer.datasets.scenes.files import write_scenes

from mmseg.apis import MMSegInferencer, inference_model, init_model, show_result_pyplot  # isort: skip

FAMILIES = {'ade20k': (512, 768), 'camvid': (360, 540), 'scenes': (96, 144)}
"""Semantic dataset bases, and the test size of an image of 64 x 96 pixels."""


def labels_of(sample) -> np.ndarray:
    """Label map (H, W) of a sample, or of one converted to a dict."""
    return np.asarray(sample['pred_sem_seg']['data'] if isinstance(sample, dict) else sample.pred_sem_seg.data)[0]


def varied(results: list[dict]) -> bool:
    return sum(len(np.unique(labels_of(result))) > 1 for result in results) >= 2


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp('semantic')
    write_scenes(folder / 'scenes', 1, 3)
    return save_model(runs.write_config(folder / 'toy.py', folder / 'scenes'), varied)


@pytest.fixture
def model(saved):
    """A new one for each test, since the host modifies the model's pipeline if the input is an array."""
    return init_model(str(saved.config), str(saved.checkpoint), device='cpu')


@pytest.fixture(scope='module')
def inferencer(saved):
    return MMSegInferencer(str(saved.config), str(saved.checkpoint), device='cpu')


@pytest.fixture(scope='module')
def paths(saved) -> list[str]:
    found = [result['img_path'] for result in saved.results]
    assert len({cv2.imread(path).shape for path in found}) == 3
    return found


def require_equal(found: list, saved) -> None:
    expected = [labels_of(result) for result in saved.results]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_path_and_array(model, saved, paths):
    require_equal([labels_of(inference_model(model, path)) for path in paths], saved)
    require_equal([labels_of(inference_model(model, cv2.imread(path))) for path in paths], saved)


def test_colours_of_an_array_are_blue_green_red(model, saved, paths):
    swapped = [labels_of(inference_model(model, cv2.imread(path)[..., ::-1])) for path in paths]
    assert any((one != labels_of(other)).any() for one, other in zip(swapped, saved.results, strict=True))


def test_list_is_a_batch_of_images_of_different_sizes(model, saved, paths):
    expected = predict_in_batches(saved, 3)
    for images in (paths, [cv2.imread(path) for path in paths]):
        for one, other in zip(inference_model(model, images), expected, strict=True):
            np.testing.assert_array_equal(labels_of(one), labels_of(other))


def test_model_from_the_config_in_the_checkpoint(saved, paths):
    config = config_in(saved.checkpoint)
    model = init_model(config, str(saved.checkpoint), device='cpu')
    require_equal([labels_of(inference_model(model, path)) for path in paths], saved)
    inferencer = MMSegInferencer(None, str(saved.checkpoint), device='cpu')
    require_equal([inferencer(path)['predictions'] for path in paths], saved)


def test_the_inferencer_gives_no_warnings(saved, paths, tmp_path):
    with warnings_in_force() as found:
        inferencer = MMSegInferencer(None, str(saved.checkpoint), device='cpu')
        inferencer(paths, batch_size=2, out_dir=str(tmp_path))
    assert found == []


@pytest.mark.parametrize('with_labels', [True, False])
def test_picture(model, saved, paths, tmp_path, with_labels):
    file = tmp_path / 'picture.png'
    result = inference_model(model, paths[0])
    settings = dict(opacity=1, title='a scene', with_labels=with_labels, out_file=str(file))
    drawn = show_result_pyplot(model, paths[0], result, show=False, **settings)
    expected = np.array(model.dataset_meta['palette'], np.uint8)[labels_of(saved.results[0])]
    # Class names are drawn over the colours.
    assert (drawn == expected).all() != with_labels and (drawn == expected).mean() > 0.5
    np.testing.assert_array_equal(np.array(Image.open(file)), drawn)


def test_inferencer_with_files_folder_and_arrays(inferencer, saved, paths):
    require_equal([inferencer(path)['predictions'] for path in paths], saved)
    require_equal([inferencer(cv2.imread(path))['predictions'] for path in paths], saved)
    require_equal(inferencer(paths)['predictions'], saved)
    in_folder = inferencer(str(Path(paths[0]).parent), return_datasamples=True)
    by_path = {sample.img_path: labels_of(sample) for sample in in_folder}
    require_equal([by_path[path] for path in paths], saved)


def test_inferencer_with_batches(inferencer, saved, paths):
    expected = predict_in_batches(saved, 2)
    for inputs in (paths, [cv2.imread(path) for path in paths]):
        found = inferencer(inputs, batch_size=2)['predictions']
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, labels_of(other))


def test_inferencer_writes_pictures_and_label_maps(inferencer, saved, paths, tmp_path):
    settings = dict(out_dir=str(tmp_path), opacity=1, with_labels=False, return_vis=True)
    drawn = inferencer(paths, **settings)['visualization']
    written = sorted((tmp_path / 'pred').iterdir())
    require_equal([np.array(Image.open(file)) for file in written], saved)
    palette = np.array(inferencer.model.dataset_meta['palette'], np.uint8)
    for path, picture, result in zip(paths, drawn, saved.results, strict=True):
        np.testing.assert_array_equal(picture, palette[labels_of(result)])
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / 'vis' / Path(path).name)), picture)


@pytest.fixture(scope='module', params=sorted(FAMILIES))
def family(request, tmp_path_factory) -> tuple[Path, Path, tuple[int, int]]:
    """Config and checkpoint of the small model with the classes of a dataset base, and its network input size."""
    return *save_family(tmp_path_factory.mktemp(request.param), request.param), FAMILIES[request.param]


def test_every_dataset_base_predicts_without_its_data(family, tmp_path):
    config, weights, size = family
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    found = inference_model(init_model(str(config), str(weights), device='cpu'), str(tmp_path / 'a.png'))
    assert tuple(found.img_shape) == size and labels_of(found).shape == (64, 96)
    inferencer = MMSegInferencer(str(config), str(weights), device='cpu')
    results = inferencer([image, str(tmp_path / 'a.png')], batch_size=2, out_dir=str(tmp_path / 'out'))
    assert [x.shape for x in results['predictions']] == [(64, 96)] * 2 and len(list(tmp_path.rglob('*_pred.png'))) == 2
    for labels in results['predictions']:
        assert (labels == labels_of(found)).mean() > 0.999
