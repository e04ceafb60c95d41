"""Export a trained model: ``python tools/export.py CONFIG CKPT --to onnx --task panoptic --out FILE --verify``."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from mmengine.config import DictAction

from mmmaskformer.datasets.scenes.scenes import METAINFO
from mmmaskformer.export.files import FORMATS, require_packages, run_file, write_file
from mmmaskformer.export.load import TrainedModel, load_trained
from mmmaskformer.export.modules import OUTPUTS, export_module
from mmmaskformer.export.quantise import MAX_MIOU_LOSS, quantise
from mmmaskformer.export.verify import check_shapes, compare, scene_miou
from mmmaskformer.formats.whole_files import whole_file


def main() -> int:
    """Read the command line and export; returns the exit code: 1 if the file differs too much, 2 for an error."""
    args = _arguments()
    try:
        if args.int8 and args.to != 'onnx':
            raise ValueError(f'--int8 is for ONNX files; found --to {args.to}. Fix: --to onnx')
        if not args.out.parent.is_dir():
            raise FileNotFoundError(f'--out {args.out}: the folder does not exist. Fix: make it')
        require_packages(args.to)
        _shapes(args)  # before minutes of work
        trained = load_trained(args.config, args.checkpoint, args.cfg_options)
        module = export_module(trained.model, args.task)
        with tempfile.TemporaryDirectory(dir=args.out.parent, prefix='.export') as folder:
            exact = Path(folder) / 'exact.onnx' if args.int8 else args.out
            write_file(module, args.task, trained.facts, args.to, exact, args.fixed_size)
            if args.int8 and not _write_int8(args, trained, exact):
                return 1
        print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB written')
        return 0 if args.int8 or not args.verify or _check(args, trained) else 1
    except (ValueError, OSError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export a trained model to a file that runs without this package.')
    parser.add_argument('config', help='config file of a model with one of our heads')
    parser.add_argument('checkpoint', help='its weights, a .pth file')
    parser.add_argument('--to', choices=FORMATS, default='onnx', help='kind of file (default onnx)')
    parser.add_argument('--task', choices=OUTPUTS, required=True, help='what the file answers')
    parser.add_argument('--out', type=Path, required=True, help='file to write')
    parser.add_argument('--verify', action='store_true', help='compare the file with the model on invented scenes')
    parser.add_argument('--int8', action='store_true', help='weights as 8-bit integers (ONNX only); always checked')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), default=(96, 128), help='of the scenes (default 96 128)'
    )
    parser.add_argument(
        '--fixed-size', type=int, nargs=2, metavar=('H', 'W'), help='the only size of pictures (default: any)'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='entries to replace, such as a.b=1 c=2')
    return parser.parse_args()


def _shapes(args: argparse.Namespace) -> list[tuple[int, int, int]]:
    """Batches (B, H, W) to compare."""
    shapes = check_shapes(tuple(args.fixed_size or args.size))
    return [(batch, *args.fixed_size) for batch, _, _ in shapes] if args.fixed_size else shapes


def _check(args: argparse.Namespace, trained: TrainedModel) -> bool:
    """Compare the file with the model, print a row for each batch; whether they differ by no more than rounding."""
    rows = compare(trained.model, args.task, run_file(args.out, args.to), _shapes(args))
    print(f'{"batch, height, width":<24}{"largest difference":<20}{"largest logit":<15}differing pixels')
    for row in rows:
        print(f'{str(row.shape):<24}{row.logits:<20.2e}{row.scale:<15.2f}{row.pixels:.4%}')
    good = all(row.small for row in rows)
    if not good:
        print(f'error: {args.out} differs from the model by more than rounding', file=sys.stderr)
    return good


def _write_int8(args: argparse.Namespace, trained: TrainedModel, exact: Path) -> bool:
    """Write the file with 8-bit weights unless that costs too much; whether it was written."""
    small = exact.with_name('small.onnx')
    quantise(exact, small)
    rows = compare(trained.model, args.task, run_file(small, 'onnx'), _shapes(args))
    print(f'differing pixels: {max(row.pixels for row in rows):.2%}')
    if trained.facts['classes'] != list(METAINFO['classes']) or args.task == 'raw' or args.fixed_size:
        print('mIoU: not measured, the file has no labels of the scenes. Measure it on your own test set.')
    else:
        before, after = (scene_miou(args.task, run_file(file, 'onnx')) for file in (exact, small))
        print(f'mIoU on scenes: {before:.2f} with float32, {after:.2f} with 8 bits')
        if before - after > MAX_MIOU_LOSS:
            print(f'error: 8 bits cost more than {MAX_MIOU_LOSS} points; nothing is written', file=sys.stderr)
            return False
    with whole_file(args.out) as part:
        shutil.copyfile(small, part)
    return True


if __name__ == '__main__':
    sys.exit(main())
