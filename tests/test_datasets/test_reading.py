"""An image file that cannot be decoded is named in the error, by all our datasets and before the first step."""

import io
import re
from pathlib import Path

import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmmaskformer.datasets.inspection import inspect_data
from mmmaskformer.datasets.scenes.files import write_scenes

LOAD = dict(type='LoadImageFromFile')
KINDS = {
    'semantic': dict(
        type='mmmaskformer.ScenesDataset', data_prefix=dict(img_path='images/train', seg_map_path='annotations/train')
    ),
    'panoptic': dict(
        type='mmmaskformer.ScenesPanopticDataset',
        ann_file='panoptic_train.json',
        data_prefix=dict(img='images/train', seg='panoptic_train'),
    ),
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_kinds(tmp_path_factory.mktemp('reading'))


def write_kinds(root: Path) -> Path:
    write_scenes(root, 1, 1)
    return root


def dataset(kind: str, root: Path):
    with DefaultScope.overwrite_default_scope('mmseg' if kind == 'semantic' else 'mmdet'):
        return DATASETS.build(dict(KINDS[kind], data_root=str(root), pipeline=[LOAD]))


DAMAGES = {
    'empty': (lambda content: b'', r'empty \(0 bytes\), expected a picture. Fix: copy it again'),
    'cut off': (
        lambda content: content[: len(content) // 2],
        r'it is truncated: .*expected a picture. Fix: it is truncated',
    ),
    'page': (lambda content: b'<html>404</html>', '16 bytes of text, as when a download failed'),
    'pointer': (lambda content: b'version https://git-lfs.github.com/spec/v1\n', 'a Git LFS file is not fetched'),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('damage', DAMAGES)
def test_an_unreadable_image_is_named(root, kind, damage, request):
    file = root / 'images/train/000000.png'
    content = file.read_bytes()
    request.addfinalizer(lambda: file.write_bytes(content))
    change, message = DAMAGES[damage]
    assert dataset(kind, root)[0]['img'].ndim == 3
    file.write_bytes(change(content))
    with pytest.raises(ValueError, match=f'^image {re.escape(str(file))}: .*{message}'):
        dataset(kind, root)[0]
    if damage == 'empty':
        with pytest.raises(ValueError, match=f'^image {re.escape(str(file))}: empty'):
            inspect_data(dataset(kind, root))


def test_a_truncated_jpeg_is_named(tmp_path):
    root = write_kinds(tmp_path)
    file = root / 'images/train/000000.png'
    Image.open(file).save(file, format='JPEG')
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(
        ValueError, match=f'{re.escape(str(file))}: .* bytes that cannot be decoded, expected a picture'
    ):
        dataset('semantic', root)[0]


def test_other_errors_are_not_changed(root):
    found = dataset('semantic', root)
    found.pipeline.transforms.append(lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        found[0]


def flipped(content: bytes):
    """The file with a bit of its last compressed pixels changed, from the end."""
    for at in range(len(content) - 21, 60, -1):
        yield content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def is_read_by_pillow(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return False
    return True


@pytest.mark.parametrize('kind', KINDS)
def test_a_flipped_bit_of_a_png_is_found_with_pillow_as_well(root, kind, request):
    file = root / 'images/train/000000.png'
    content = file.read_bytes()
    request.addfinalizer(lambda: file.write_bytes(content))
    data = dataset(kind, root)
    data.pipeline.transforms[0].imdecode_backend = 'pillow'
    assert data[0]['img'].ndim == 3
    file.write_bytes(next(each for each in flipped(content) if is_read_by_pillow(each)))
    with pytest.raises(ValueError, match=rf"^image {re.escape(str(file))}: .*checksum of its chunk 'IDAT'.* is wrong"):
        data[0]
