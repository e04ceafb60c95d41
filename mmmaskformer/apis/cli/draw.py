"""Draw image, ground truth and prediction for images of the test set."""

EXAMPLE = (
    'mmmaskformer draw configs/scenes/maskformer_tiny_1xb8-800_scenes.py work_dirs/quickstart/semantic/iter_800.pth '
    '--out work_dirs/pictures --num 4'
)


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('config', help='config file of a segmentation model')
    parser.add_argument('checkpoint', help='its weights: a file of any package, or zoo://NAME')
    parser.add_argument('--out', required=True, help='folder for NAME.png and overview.png')
    parser.add_argument('--num', type=int, default=8, help='number of images (default 8)')
    parser.add_argument(
        '--field', help='prediction to draw if the model returns several, such as pred_sem_seg (default: the first)'
    )
    parser.add_argument('--offline', action='store_true', help='download nothing; same as MMMASKFORMER_OFFLINE=1')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='entries to replace, such as a.b=1 c=2')


def run(args) -> int:
    """Draw."""
    from mmmaskformer.apis.drawing import draw_predictions
    from mmmaskformer.apis.trained import parse_options

    options = parse_options(args.cfg_options)
    files = draw_predictions(args.config, args.checkpoint, args.out, args.num, options, args.field)
    print(f'{args.out}: {len(files)} pictures written')
    return 0
