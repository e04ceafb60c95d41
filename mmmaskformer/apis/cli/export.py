"""Export a trained model to a file that runs without this package: ONNX, TorchScript or torch.export.

The exit status is 1 if the outputs of the file differ from the model by more than rounding, or if 8-bit weights reduce
mIoU too much.
"""

from pathlib import Path

EXAMPLE = (
    'mmmaskformer export configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py '
    'work_dirs/quickstart/panoptic/iter_2600.pth --to torchscript --task panoptic --out work_dirs/model.pt --verify'
)


def add_arguments(parser):
    """Describe the arguments; `mmmaskformer.export` checks the choices."""
    parser.add_argument('config', help='config file of a model with one of our heads')
    parser.add_argument('checkpoint', help='its weights: a file of any package, or zoo://NAME')
    parser.add_argument(
        '--to', default='onnx', metavar='FORMAT', help='onnx, torchscript or torch-export (default onnx)'
    )
    parser.add_argument('--task', required=True, help='output of the file: semantic, panoptic or raw')
    parser.add_argument('--out', type=Path, required=True, help='file to write')
    parser.add_argument('--verify', action='store_true', help='compare the file with the model on synthetic scenes')
    parser.add_argument('--int8', action='store_true', help='weights as 8-bit integers (ONNX only); always checked')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), default=(96, 128), help='size of the scenes (default 96 128)'
    )
    parser.add_argument(
        '--fixed-size', type=int, nargs=2, metavar=('H', 'W'), help='fix the image size (default: any size)'
    )
    parser.add_argument('--offline', action='store_true', help='download nothing; same as MMMASKFORMER_OFFLINE=1')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='entries to replace, such as a.b=1 c=2')


def run(args) -> int:
    """Export."""
    from mmmaskformer.apis.exporting import export

    return export(args)
