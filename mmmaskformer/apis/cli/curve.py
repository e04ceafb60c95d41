"""Draw losses and validation metrics of a training run as a PNG."""

EXAMPLE = 'mmmaskformer curve work_dirs/quickstart/semantic --out work_dirs/curve.png'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('work_dir', help='work_dir of the run, with the folders named by date and time')
    parser.add_argument('--out', required=True, help='PNG file to write')


def run(args) -> int:
    """Draw."""
    from mmmaskformer.visualization.curve import plot_run

    plot_run(args.work_dir, args.out)
    print(f'{args.out}: written')
    return 0
