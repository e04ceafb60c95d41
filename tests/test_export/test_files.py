"""Exported files, run without PyTorch's eager mode, equal the models they were exported from."""

import json
import re
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from helpers.exports import small_detector, small_segmentor
from helpers.runs import ROOT, run
from PIL import Image

from mmmaskformer.export import files
from mmmaskformer.export.files import FACTS_KEY, require_packages, run_file, write_file
from mmmaskformer.export.modules import OUTPUTS, export_module
from mmmaskformer.export.quantise import quantise
from mmmaskformer.export.verify import check_shapes, compare, differing_segments, labels_of

SHAPES = [(1, 64, 96), (2, 65, 101), (3, 112, 80), (1, 96, 96)]
FACTS = dict(classes=list('abcde'), palette=[], isthing=[False, True, False, True, False], short_edge=64, max_size=None)


@pytest.fixture(scope='module')
def onnx_file(tmp_path_factory):
    """A panoptic ONNX file, exported once because it takes seconds."""
    file = tmp_path_factory.mktemp('onnx') / 'model.onnx'
    write_file(export_module(small_detector(), 'panoptic'), 'panoptic', FACTS, 'onnx', file)
    return file


def check_file(model, task, file, to):
    runner = run_file(file, to)
    assert all(row.small for row in compare(model, task, runner, SHAPES))
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    assert list(runner(images)) == list(OUTPUTS[task])


def test_onnx(onnx_file):
    check_file(small_detector(), 'panoptic', onnx_file, 'onnx')


def test_onnx_keeps_the_metadata(onnx_file):
    (entry,) = onnx.load(onnx_file).metadata_props
    assert entry.key == FACTS_KEY
    assert json.loads(entry.value).items() >= (FACTS | dict(task='panoptic')).items()


def test_onnx_returns_several_segments(onnx_file):
    """Otherwise the comparison of the maps would not be meaningful."""
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    outputs = run_file(onnx_file, 'onnx')(images)
    assert (outputs['segment_valid'].sum(1) > 1).all()
    assert len(np.unique(labels_of('panoptic', outputs))) > 1


def test_8_bit_weights(onnx_file, tmp_path):
    quantise(onnx_file, tmp_path / 'small.onnx')
    assert (tmp_path / 'small.onnx').stat().st_size < onnx_file.stat().st_size
    rows = compare(small_detector(), 'panoptic', run_file(tmp_path / 'small.onnx', 'onnx'), SHAPES)
    assert all(0 < row.logits < 0.2 * row.scale for row in rows)


@pytest.mark.parametrize(('model', 'task'), [(small_detector, 'panoptic'), (small_segmentor, 'semantic')])
def test_torchscript(tmp_path, model, task):
    file = tmp_path / 'model.pt'
    write_file(export_module(model(), task), task, FACTS, 'torchscript', file)
    check_file(model(), task, file, 'torchscript')


def test_torch_export(tmp_path):
    file = tmp_path / 'model.pt2'
    write_file(export_module(small_segmentor(), 'semantic'), 'semantic', FACTS, 'torch-export', file)
    check_file(small_segmentor(), 'semantic', file, 'torch-export')


def test_demo(onnx_file, tmp_path):
    """Hides torch: the demo needs only onnxruntime, numpy and pillow."""
    rng = np.random.default_rng(0)
    (tmp_path / 'in/deep').mkdir(parents=True)
    for name in ('a.png', 'in/a.png', 'in/a.jpg', 'in/deep/b.JPG'):
        Image.fromarray(rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)).save(tmp_path / name)
    demo = f"runpy.run_path({str(ROOT / 'tools/onnx_demo.py')!r}, run_name='__main__')"
    calls = [['a.png', '--out', 'b.jpg'], ['in', '--out', 'out'], ['a.png', '--out', 'b.txt']]
    code = "import runpy, sys\nsys.modules['torch'] = None\n"
    for call in calls:
        code += f'sys.argv = {["onnx_demo.py", str(onnx_file), *call]}\ntry:\n    {demo}\nexcept SystemExit as end:\n'
        code += "    print('status', end.code)\n"
    done = run('-c', code, cwd=tmp_path)
    assert '%' in done.stdout and re.findall(r'status (\d)', done.stdout) == ['0', '0', '2']
    assert "no picture format ends in '.txt'" in done.stderr
    picture = Image.open(tmp_path / 'b.jpg')
    assert picture.size == (130, 90) and picture.format == 'JPEG'
    written = {path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.png')}
    assert written == {'a.png.png', 'a.jpg.png', 'deep/b.JPG.png'}


def test_comparison_detects_another_model(tmp_path):
    file = tmp_path / 'model.pt'
    other = small_segmentor()
    other.decode_head.classifier.class_embed.bias.data[0] += 20
    write_file(export_module(other, 'semantic'), 'semantic', FACTS, 'torchscript', file)
    (row,) = compare(small_segmentor(), 'semantic', run_file(file, 'torchscript'), SHAPES[:1])
    assert not row.small and row.logits == pytest.approx(20, abs=0.01) and row.pixels > 0.1


def test_segments_are_compared_by_overlap_and_class_not_by_number():
    ids = np.repeat([[0], [1], [2]], 4, axis=1)
    labels = np.array([5, 3])
    renumbered = np.where(ids > 0, ids + 1, 0)
    renumbered[0, :3] = 1  # a segment of three pixels that the other result lacks
    differing = differing_segments(ids, labels, renumbered, np.array([7, 5, 3]))
    assert differing.tolist() == [[True, True, True, False], [False] * 4, [False] * 4]
    assert not differing_segments(ids, labels, ids, labels).any()


def test_segments_of_other_classes_and_split_segments_differ():
    ids = np.repeat([[0], [1], [2]], 4, axis=1)
    assert differing_segments(ids, np.array([5, 3]), ids, np.array([5, 4])).sum(1).tolist() == [0, 0, 4]
    split = ids.copy()
    split[1, 3] = 3
    differing = differing_segments(ids, np.array([5, 3]), split, np.array([5, 3, 5]))
    assert np.argwhere(differing).tolist() == [[1, 3]]
    nothing = np.zeros_like(ids)
    assert differing_segments(ids, np.array([5, 3]), nothing, np.array([], int)).sum() == 8


def test_missing_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(files, 'find_spec', lambda name: None if name == 'onnxscript' else SimpleNamespace())
    with pytest.raises(ImportError, match=r"--to onnx needs onnxscript. Fix: pip install -e '.\[export\]'"):
        require_packages('onnx')
    require_packages('torchscript')


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="to='tflite' is unknown"):
        write_file(torch.nn.Identity(), 'raw', FACTS, 'tflite', tmp_path / 'x')


def test_sizes_to_check_must_be_large_enough():
    assert check_shapes((64, 96))[0] == (1, 64, 96)
    with pytest.raises(ValueError, match=r'size: found \(63, 96\), expected height and width of at least 64'):
        check_shapes((63, 96))
