"""Convert a checkpoint of MaskFormer from any package to any other.

The package of IN is recognised by the names of its weights: the published code (detectron2), MMDetection,
MMSegmentation, transformers (a folder) or this package; zoo://NAME is a public model. Weights that are not used are
listed with the reason; if a weight is unknown or missing, nothing is written. With --to backbone, IN is a file with a
backbone only: of detectron2, torchvision, timm, Swin's authors or DINOv2.
"""

EXAMPLE = (
    'mmmaskformer convert work_dirs/quickstart/semantic/iter_800.pth work_dirs/converted.safetensors --to mmmaskformer'
)

MODEL_OPTIONS = ('config', 'classes', 'task', 'averaged', 'num_heads', 'verify')
"""Options that do not apply to a bare backbone."""


def add_arguments(parser):
    """Describe the arguments; `mmmaskformer.apis.converting` checks the choices."""
    parser.add_argument('source', metavar='IN', help='file, folder of transformers, or zoo://NAME')
    parser.add_argument('out', metavar='OUT', help='file to write, or folder for transformers')
    parser.add_argument(
        '--to',
        required=True,
        metavar='PACKAGE',
        help='mmmaskformer (.pth, .safetensors), mmdet, mmseg (.pth), official (.pkl, .pth), transformers (a folder), '
        'or backbone (.pth, .safetensors)',
    )
    parser.add_argument('--config', help='config of the model that the result is for; checked and stored with it')
    parser.add_argument(
        '--classes', metavar='LIST', help='class list of the result: a name such as coco_panoptic, or a JSON file'
    )
    parser.add_argument('--task', help='semantic or panoptic, which chooses the host of a checkpoint for mmmaskformer')
    parser.add_argument('--averaged', action='store_true', help='take the averaged weights if the file holds both')
    parser.add_argument('--num-heads', type=int, help='attention heads, if the file does not store them (default: 8)')
    parser.add_argument('--verify', action='store_true', help='compare the outputs of both models on an image')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    parser.add_argument('--offline', action='store_true', help='download nothing; same as MMMASKFORMER_OFFLINE=1')


def run(args) -> int:
    """Convert and report."""
    from mmmaskformer.apis.backbones import convert_backbone
    from mmmaskformer.apis.converting import convert_checkpoint

    options = {key: value for key, value in vars(args).items() if key not in ('source', 'out', 'to', 'offline')}
    if args.to == 'backbone':
        unused = [f'--{key.replace("_", "-")}' for key in MODEL_OPTIONS if options[key]]
        if unused:
            raise ValueError(f'--to backbone: found {", ".join(unused)}, for complete models only. Fix: omit it')
        lines = convert_backbone(args.source, args.out, force=args.force).lines()
    else:
        lines = convert_checkpoint(args.source, args.out, args.to, **options).lines()
    print('\n'.join(lines))
    return 0
