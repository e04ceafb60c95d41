"""Draw the training curve of a run: ``python tools/plot_curve.py work_dirs/my_run --out curve.png``."""

import argparse
import sys

from mmmaskformer.visualization.curve import plot_run


def main() -> int:
    """Read the command line and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description='Draw losses and validation metrics of a training run as a PNG.')
    parser.add_argument('work_dir', help='work_dir of the run, with the folders named by date and time')
    parser.add_argument('--out', required=True, help='PNG file to write')
    args = parser.parse_args()
    try:
        plot_run(args.work_dir, args.out)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.out}: written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
