"""Draw predictions of a trained model: ``python tools/draw_predictions.py CONFIG CHECKPOINT --out DIR --num 8``."""

import argparse
import sys

from mmengine.config import DictAction

from mmmaskformer.visualization.predictions import draw_predictions
from mmmaskformer.visualization.samples import FIELDS


def main() -> int:
    """Read the command line and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description='Draw image, ground truth and prediction for images of the test set.')
    parser.add_argument('config', help='config file of a segmentation model')
    parser.add_argument('checkpoint', help='its weights, a .pth file')
    parser.add_argument('--out', required=True, help='folder to write NAME.png and overview.png into')
    parser.add_argument('--num', type=int, default=8, help='number of images (default 8)')
    parser.add_argument('--field', choices=FIELDS, help='which prediction, if the model gives several (default: first)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='entries to replace, such as a.b=1 c=2')
    args = parser.parse_args()
    try:
        files = draw_predictions(args.config, args.checkpoint, args.out, args.num, args.cfg_options, args.field)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.out}: {len(files)} pictures written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
