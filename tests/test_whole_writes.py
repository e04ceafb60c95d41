"""Every file that this package and its tools write is complete or absent; exceptions to `whole_files` have a reason."""

import ast
import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.fresh import ROOT
from mmengine.config import Config
from mmengine.fileio import dump
from PIL import Image
from torch import nn

from mmmaskformer.checkpoints.writers import write_checkpoint, write_official, write_transformers
from mmmaskformer.core.segments import Segments
from mmmaskformer.evaluation.coco_panoptic_files import PanopticResultWriter
from mmmaskformer.export.files import write_file
from mmmaskformer.formats.coco_json import write_panoptic
from mmmaskformer.formats.label_maps import write_label_map
from mmmaskformer.hosts.file_backend import write_host_files_whole
from mmmaskformer.hosts.vis_backends import WholeVisBackend
from mmmaskformer.visualization.curve import plot_run
from mmmaskformer.visualization.samples import ClassList, write_pictures
from mmmaskformer.visualization.segments import Overlay
from mmmaskformer.visualization.sheet import Example

WRITERS = {'write_text', 'write_bytes', 'imwrite', 'savefig', 'save', 'dump', 'tofile', 'to_csv', 'copyfile', 'copy2',
           'move', 'print_png', 'imsave', 'savez', 'writelines', 'mkstemp', 'copytree'}  # fmt: skip

# (file, call) → why no reader can see a partly written file
INDIRECT = {
    ('mmmaskformer/formats/whole_files.py', 'part.write_bytes'): 'the one place that writes files',
    ('mmmaskformer/formats/panoptic_png.py', 'Path(path).write_bytes'): 'sets of them are written in a whole_folder',
    ('mmmaskformer/datasets/scenes/files.py', 'Image.fromarray(pixels).save'): 'inside a whole_folder',
    ('mmmaskformer/datasets/scenes/files.py', '(fresh / RECORD).write_text'): 'inside a whole_folder',
    ('mmmaskformer/evaluation/coco_panoptic_files.py', 'part.write_text'): 'inside a whole_file',
    ('mmmaskformer/visualization/samples.py', 'picture.save'): 'inside a whole_file',
    ('mmmaskformer/apis/exporting.py', 'shutil.copyfile'): 'inside a whole_file',
    ('mmmaskformer/export/files.py', 'torch.jit.save'): 'into memory',
    ('mmmaskformer/export/files.py', 'torch.export.save'): 'into memory',
    ('mmmaskformer/checkpoints/writers.py', 'torch.save'): 'into memory',
    ('mmmaskformer/checkpoints/writers.py', 'save'): 'into memory',
    ('mmmaskformer/checkpoints/writers.py', '(folder / WEIGHTS[0]).write_bytes'): 'inside a whole_folder',
    ('mmmaskformer/checkpoints/writers.py', '(folder / name).write_text'): 'inside a whole_folder',
    ('mmmaskformer/checkpoints/downloads.py', 'open'): 'what has come so far, renamed when it is whole',
    ('mmmaskformer/checkpoints/downloads.py', 'part.write_bytes'): 'empties the part of another version',
    ('mmmaskformer/checkpoints/transfers.py', 'version_file(part).write_text'): 'half of a version matches none',
    ('mmmaskformer/evaluation/instance_metric.py', 'file.write_text'): 'in a temporary folder that is removed',
    ('tools/compatibility.py', 'open'): 'a log, line by line',
    ('mmmaskformer/datasets/converters/staging.py', 'shutil.copyfile'): 'to a name that is replaced in one step',
    ('mmmaskformer/datasets/converters/staging.py', 'shutil.copytree'): 'inside a whole_folder',
    ('mmmaskformer/datasets/converters/staging.py', 'open'): 'a lock, and a journal, line by line',
    ('mmmaskformer/analysis/stored.py', 'open'): 'inside a whole_file',
    ('mmmaskformer/apis/analysis/thresholds.py', 'entry.prediction.save'): 'its own function, the row above',
    ('mmmaskformer/apis/analysis/class_masks.py', 'mask_sheet(…).save'): 'inside a whole_file',
    ('mmmaskformer/visualization/analysis_plots.py', 'FigureCanvasAgg(figure).print_png'): 'inside a whole_file',
    ('mmmaskformer/datasets/converters/ade20k_full.py', 'Image.fromarray(image).save'): 'into memory',
    ('mmmaskformer/hosts/vis_backends.py', 'Image.fromarray(np.ascontiguousarray(image)).save'): 'into memory',
    ('mmmaskformer/visualization/curve.py', 'FigureCanvasAgg(figure).print_png'): 'into memory',
    ('tools/efficientnet_lite_weights.py', 'torch.save'): 'into memory',
    ('tools/benchmark/plot.py', 'figure.savefig'): 'into memory',
    ('tools/onnx_demo.py', 'save'): 'its own function, the next row',
    ('tools/onnx_demo.py', 'picture.save'): 'renames it itself: the program runs without this package',
    ('tools/quickstart/summary.py', 'part.write_text'): 'the same',
    ('tools/quickstart/progress.py', 'open'): 'a log, line by line',
    ('tools/benchmark/interruptions.py', 'torch.save'): 'in a temporary folder that is removed',
    ('tools/benchmark/panoptic_maps.py', 'Image.fromarray(…).save'): 'the same',
    ('tools/benchmark/panoptic_maps.py', 'save'): 'its own function, the row above',
    ('tools/benchmark/memory.py', "Path('/proc/self/clear_refs').write_text"): 'no file on a disk',
}


def writes(file: Path) -> set[str]:
    """The calls in a file that may write one."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
        values = [part for arg in [*node.args, *node.keywords] for part in ast.walk(arg)]
        modes = [part.value for part in values if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if name in WRITERS or (name == 'open' and any(set(mode) <= set('rwabx+t') - {'r'} for mode in modes if mode)):
            found.add(ast.unparse(node.func))
    return found


def test_every_file_is_written_with_whole_files():
    files = [*(ROOT / 'mmmaskformer').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]
    found = {(path.relative_to(ROOT).as_posix(), call) for path in files for call in writes(path)}
    shortened = {
        (file, call if len(call) < 60 else f'{call.split("(")[0]}(…){call[call.rindex(".") :]}') for file, call in found
    }
    new, gone = sorted(shortened - set(INDIRECT)), sorted(set(INDIRECT) - shortened)
    assert not new, f'{new} write files; expected formats/whole_files.py, or a row in INDIRECT with the reason'
    assert not gone, f'{gone} have a row in INDIRECT, but are gone'


class Raw(nn.Module):
    """A module that can be exported."""

    def forward(self, images):
        return images.float().mean(1)


WEIGHTS = {'a.weight': torch.zeros(2)}
PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
SEGMENTS = Segments(np.ones((2, 2), np.int64), np.array([0]))
CLASSES = ClassList(['a'], [(1, 2, 3)], [True], 255)


def write_result(folder: Path) -> None:
    writer = PanopticResultWriter(folder / 'result')
    writer.finish([writer.add(1, 'a.jpg', SEGMENTS, [7])])


def write_curve(folder: Path) -> None:
    log = folder / 'run/1/vis_data/scalars.json'
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text('{"loss": 1.0, "step": 1}\n{"loss": 0.5, "step": 2}\n')
    plot_run(folder / 'run', folder / 'curve.png')


def draw(folder: Path) -> None:
    write_pictures([('a', Example(PIXELS, None, Overlay(SEGMENTS.ids, SEGMENTS.labels)))], CLASSES, folder / 'drawn')


def export(to: str):
    return lambda folder: write_file(Raw().eval(), 'raw', {}, to, folder / f'model.{to}')


def backend(folder: Path) -> WholeVisBackend:
    return WholeVisBackend(str(folder / 'vis'))


WRITING = {
    'label map': lambda folder: write_label_map(folder / 'labels.png', PIXELS[..., 0]),
    'panoptic JSON': lambda folder: write_panoptic(folder / 'a.json', []),
    'panoptic result': write_result,
    'curve': write_curve,
    'pictures': draw,
    'TorchScript': export('torchscript'),
    'torch.export': export('torch-export'),
    'converted .pth': lambda folder: write_checkpoint(folder / 'a.pth', WEIGHTS, {}),
    'converted .safetensors': lambda folder: write_checkpoint(folder / 'a.safetensors', WEIGHTS, {}),
    'converted .pkl': lambda folder: write_official(folder / 'a.pkl', WEIGHTS),
    'converted folder': lambda folder: write_transformers(folder / 'hub', WEIGHTS, {}, {}),
    'show-dir': lambda folder: backend(folder).add_image('name/of', PIXELS),
    'config of the visualizer': lambda folder: backend(folder).add_config(Config(dict(a=1))),
    'config of the work dir': lambda folder: Config(dict(a=1)).dump(str(folder / 'config.py')),
    'pickle of --out': lambda folder: dump([1], str(folder / 'out.pkl')),
    'JSON of a host': lambda folder: dump([1], str(folder / 'out.bbox.json')),
}


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(autouse=True, scope='module')
def whole_host_files():
    write_host_files_whole()


@pytest.mark.parametrize('what', WRITING)
def test_a_full_disk_keeps_the_older_file(tmp_path, monkeypatch, what):
    write, flushed, fsync = WRITING[what], [], os.fsync
    with torch.random.fork_rng():
        write(tmp_path)
    before = listing(tmp_path)
    assert before and not any('.part' in name for name in before)

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(
        OSError, match=r'could not be written \(No space left on device\); the older file is unchanged.*Fix'
    ):
        write(tmp_path)
    partial = {name for name in listing(tmp_path) if '.partial/' in name}  # replaced by the next result
    assert {name: data for name, data in listing(tmp_path).items() if name not in partial} == before

    monkeypatch.setattr(os, 'fsync', lambda number: flushed.append(number) or fsync(number))
    write(tmp_path)
    assert flushed and set(listing(tmp_path)) == set(before)


@pytest.mark.parametrize('what', WRITING)
def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path, what):
    """The error of a failed write does not name the file, unlike that of a failed open."""
    write = WRITING[what]
    with torch.random.fork_rng():
        write(tmp_path)
    before = listing(tmp_path)
    log = tmp_path / 'run/1/vis_data/scalars.json'  # input of the curve, not its output
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max([1, *(log.stat().st_size for _ in [0] if log.exists())]), hard))
    try:
        with pytest.raises(
            OSError, match=r'could not be written \(File too large\); (the older file is unch|it may be inc).*Fix'
        ):
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    partial = {name for name in listing(tmp_path) if '.partial/' in name}  # replaced by the next result
    assert {name: data for name, data in listing(tmp_path).items() if name not in partial} == before


def test_configs_in_memory_and_in_other_forms_are_the_hosts(tmp_path):
    config = Config(dict(a=1))
    assert config.dump() == config.pretty_text
    config.dump(tmp_path / 'a.json')
    assert Config.fromfile(tmp_path / 'a.json').a == 1
    config.dump(tmp_path / 'a.py')
    assert Config.fromfile(tmp_path / 'a.py').a == 1


def test_a_picture_of_the_visualizer(tmp_path):
    backend(tmp_path).add_image('a', PIXELS, 3)
    read = np.asarray(Image.open(tmp_path / 'vis/vis_image/a_3.png'))
    np.testing.assert_array_equal(read, PIXELS)
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileExistsError, match=r'visualizer.save_dir: .*file: found a file, expected a folder'):
        WholeVisBackend(str(tmp_path / 'file'))
