"""The README's config works as printed, and the files that it names exist."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.panoptic import write_panoptic
from helpers.saved_models import save_model
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.heads.results import result_kinds

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_links_and_paths_exist():
    named = re.findall(r'\]\(([^)#]+)\)', README)
    named += re.findall(r'(?:bash|python) (tools/\S+\.(?:sh|py))', README)
    named += re.findall(r'(?<![\w/])(configs/\S+?\.py)', README)
    missing = [path for path in named if not path.startswith('http') and not (ROOT / path).exists()]
    assert not missing


def test_custom_data_example(tmp_path, monkeypatch):
    block = next(code for code in re.findall(r'```python\n(.*?)```', README, re.S) if '# my_config.py' in code)
    block = block.replace('./mmmaskformer/configs', str(ROOT / 'configs'))
    (tmp_path / 'my_config.py').write_text(block)
    for split in ('train', 'val'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data/plants' / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / f'data/plants/images/{split}/a.jpg')
        labels = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
        Image.fromarray(labels).save(tmp_path / f'data/plants/annotations/{split}/a.png')
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile('my_config.py')
    init_default_scope('mmseg')
    assert config.model.decode_head.num_classes == 3
    train = DATASETS.build(config.train_dataloader.dataset)[0]
    assert tuple(train['inputs'].shape) == (3, 512, 512)
    assert set(train['data_samples'].gt_sem_seg.data.unique().tolist()) <= {0, 1, 2, 255}
    test = DATASETS.build(config.test_dataloader.dataset)[0]
    assert test['data_samples'].ori_shape == (40, 60) and test['inputs'].shape[1:] == (512, 768)


def test_custom_panoptic_data_example(tmp_path, monkeypatch):
    block = next(code for code in re.findall(r'```python\n(.*?)```', README, re.S) if '# my_panoptic_config.py' in code)
    (tmp_path / 'my_config.py').write_text(block.replace('./mmmaskformer/configs', str(ROOT / 'configs')))
    meta = dict(classes=('ground', 'leaf', 'stem'), isthing=(False, True, True), category_ids=(7, 3, 5))
    for split in ('train', 'val'):
        write_panoptic(
            tmp_path / 'data/plants', meta, ann_file=f'panoptic_{split}.json', img=f'images/{split}',
            seg=f'panoptic_{split}', labels=(0, 1, 1, 2),
        )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile('my_config.py')
    init_default_scope('mmdet')
    assert (config.model.panoptic_head.num_classes, config.model.panoptic_head.things) == (3, [1, 2])
    assert set(config.model.panoptic_fusion_head) == {'type'}, 'the classes are written once'
    train = DATASETS.build(config.train_dataloader.dataset)[0]
    assert tuple(train['inputs'].shape) == (3, 640, 640)
    assert train['data_samples'].gt_panoptic_seg.labels == (0, 1, 1, 2)
    test = DATASETS.build(config.test_dataloader.dataset)[0]
    assert test['data_samples'].ori_shape == (40, 60) and test['inputs'].shape[1:] == (640, 960)


def test_table_of_results_is_that_of_the_code():
    rows = re.findall(r'^\| `(\w+)` \| `(pred_\w+)`.*\| (`.*) \|$', README, re.M)
    assert [row[0] for row in rows] == ['panoptic', 'semantic', 'general', 'instance', 'detr']
    assert {name for name, *_ in rows} == set(result_kinds())
    for name, field, settings in rows:
        kind = result_kinds()[name]
        assert field == kind.field
        written = dict(re.findall(r'`(\w+)` ([\w.]+)', settings))
        assert written == {key: str(value) for key, value in kind.full_settings(kind.defaults).items()}


FIRST_MODEL = """
_base_ = {base!r}
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
"""


def save_first_model(root: Path, kind: str, name: str, checkpoint: str) -> np.ndarray:
    """Save a model instead of one that the first command trains; returns its labels or codes for the image."""

    def of_image(results: list[dict]) -> torch.Tensor:
        return results[0]['pred_sem_seg']['data'] if kind == 'semantic' else results[0]['pred_panoptic_seg']['sem_seg']

    config = root / f'{kind}.py'
    config.write_text(FIRST_MODEL.format(base=str(ROOT / f'configs/scenes/maskformer_tiny_{name}.py')))
    saved = save_model(config, lambda results: len(set(of_image(results).unique().tolist()) - {9}) > 1)
    target = root / 'work_dirs/quickstart' / kind / checkpoint
    target.parent.mkdir(parents=True)
    saved.checkpoint.rename(target)
    return of_image(saved.results)[0].numpy()


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder that looks like the clone after the first command; labels and codes of its only test image."""
    root = tmp_path_factory.mktemp('clone')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_scenes('data/scenes', 1, 1)
        (root / 'configs').symlink_to(ROOT / 'configs')
        labels = save_first_model(root, 'semantic', '1xb8-800_scenes', 'iter_800.pth')
        codes = save_first_model(root, 'panoptic', '1xb4-2600_scenes-panoptic', 'iter_2600.pth')
    return root, labels, codes


def test_inferencers_on_a_photo(clone):
    """Run both code blocks as printed, in a process that has imported neither OpenMMLab nor this package."""
    root, expected, codes = clone
    blocks = re.findall(r'```python\n(from mm(?:seg|det)\.apis import .*?)```', README, re.S)
    assert [len(block.split('\n\n')[-1].splitlines()) for block in blocks] == [2, 2]
    # MMDetection first: given only a checkpoint, it reads that before a config could import this package.
    (root / 'photo.py').write_text(''.join(blocks[::-1]) + "import numpy\nnumpy.savez('found', labels, colours)\n")
    runs.run_before_hosts('photo.py', cwd=root)
    labels, colours = np.load(root / 'found.npz').values()
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(colours.astype(int) @ [1, 256, 65536], np.where(codes == 9, 0, codes))
    written = sorted(str(path.relative_to(root / 'out')) for path in (root / 'out').rglob('*.png'))
    assert written == ['panoptic/vis/000000.png', 'semantic/pred/00000000_pred.png', 'semantic/vis/000000.png']


def test_models_of_the_first_command_are_tested_from_the_clone(clone):
    root, _, _ = clone
    for kind, name, checkpoint, measure in (
        ('semantic', '1xb8-800_scenes', 'iter_800.pth', 'mIoU'),
        ('panoptic', '1xb4-2600_scenes-panoptic', 'iter_2600.pth', 'panoptic/PQ'),
    ):
        files = (f'configs/scenes/maskformer_tiny_{name}.py', f'work_dirs/quickstart/{kind}/{checkpoint}')
        assert measure in runs.run_script(str(ROOT / 'tools/test.py'), *files, cwd=root).stdout
