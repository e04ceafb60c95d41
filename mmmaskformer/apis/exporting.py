"""Export of a trained model to a file, compared with it on request; 8-bit weights are kept only if mIoU stays close."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from mmmaskformer.apis.trained import TrainedModel, load_trained, parse_options
from mmmaskformer.datasets.scenes.scenes import METAINFO
from mmmaskformer.export.files import FORMATS, require_packages, run_file, write_file
from mmmaskformer.export.modules import OUTPUTS, export_module
from mmmaskformer.export.quantise import MAX_MIOU_LOSS, quantise
from mmmaskformer.export.verify import check_shapes, compare, scene_miou
from mmmaskformer.formats.whole_files import require_writable, whole_file


class ExportOptions(Protocol):
    """What to export.

    Attributes:
        config: config file of a model with one of our heads.
        checkpoint: its weights.
        to: one of `mmmaskformer.export.files.FORMATS`.
        task: one of `mmmaskformer.export.modules.OUTPUTS`.
        out: file to write.
        verify: compare the file with the model on synthetic scenes.
        int8: weights as 8-bit integers, 'onnx' only; always compared.
        size: (H, W) of the scenes.
        fixed_size: (H, W) of the only images that the file takes; None for any.
        cfg_options: entries KEY=VALUE to replace in the config, or None.
    """

    config: str
    checkpoint: str
    to: str
    task: str
    out: Path
    verify: bool
    int8: bool
    size: tuple[int, int]
    fixed_size: tuple[int, int] | None
    cfg_options: list[str] | None


def export(options: ExportOptions) -> int:
    """Export and report.

    Returns:
        0, or 1 if the file differs too much from the model.

    Raises:
        ValueError: if options contradict each other, or config and weights do not fit.
        FileNotFoundError: if the config, the checkpoint or the folder of the file does not exist.
        OSError: if the file cannot be written.
        ImportError: if the format needs a package that is not installed.
    """
    _check_options(options)
    trained = load_trained(options.config, options.checkpoint, parse_options(options.cfg_options))
    module = export_module(trained.model, options.task)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / 'exact.onnx' if options.int8 else options.out
        write_file(module, options.task, trained.facts, options.to, exact, options.fixed_size)
        if options.int8 and not _write_int8(options, trained, exact):
            return 1
    print(f'{options.out}: {options.out.stat().st_size / 1e6:.1f} MB written')
    return 0 if options.int8 or not options.verify or _check(options, trained) else 1


def _check_options(options: ExportOptions) -> None:
    """Report invalid options before minutes of work."""
    for key, choices in (('to', FORMATS), ('task', OUTPUTS)):
        if getattr(options, key) not in choices:
            raise ValueError(f'--{key}: found {getattr(options, key)!r}, expected one of {list(choices)}')
    if options.int8 and options.to != 'onnx':
        raise ValueError(f'--int8 is for ONNX files; found --to {options.to}. Fix: use --to onnx')
    if not options.out.parent.is_dir():
        raise FileNotFoundError(f'--out {options.out}: the folder does not exist. Fix: create it')
    require_writable(options.out, '--out')
    require_packages(options.to)
    _shapes(options)


def _shapes(options: ExportOptions) -> list[tuple[int, int, int]]:
    """Batches (B, H, W) to compare."""
    shapes = check_shapes(options.fixed_size or options.size)
    return [(batch, *options.fixed_size) for batch, _, _ in shapes] if options.fixed_size else shapes


def _check(options: ExportOptions, trained: TrainedModel) -> bool:
    """Compare the file with the model and print a row for each batch; return whether only rounding differs."""
    rows = compare(trained.model, options.task, run_file(options.out, options.to), _shapes(options))
    print(f'{"batch, height, width":<24}{"largest difference":<20}{"largest logit":<15}differing pixels')
    for row in rows:
        print(f'{str(row.shape):<24}{row.logits:<20.2e}{row.scale:<15.2f}{row.pixels:.4%}')
    good = all(row.small for row in rows)
    if not good:
        print(f'error: {options.out} differs from the model by more than rounding', file=sys.stderr)
    return good


def _write_int8(options: ExportOptions, trained: TrainedModel, exact: Path) -> bool:
    """Write the file with 8-bit weights unless they reduce mIoU too much; return whether it was written."""
    small = exact.with_name('small.onnx')
    quantise(exact, small)
    rows = compare(trained.model, options.task, run_file(small, 'onnx'), _shapes(options))
    print(f'differing pixels: {max(row.pixels for row in rows):.2%}')
    if trained.facts['classes'] != list(METAINFO['classes']) or options.task == 'raw' or options.fixed_size:
        print('mIoU: not measured, the file has no labels of the scenes. Measure it on your own test set.')
    else:
        before, after = (scene_miou(options.task, run_file(file, 'onnx')) for file in (exact, small))
        print(f'mIoU on scenes: {before:.2f} with float32, {after:.2f} with 8 bits')
        if before - after > MAX_MIOU_LOSS:
            print(f'error: 8 bits reduce mIoU by more than {MAX_MIOU_LOSS}; nothing is written', file=sys.stderr)
            return False
    with whole_file(options.out) as part:
        shutil.copyfile(small, part)
    return True
