"""`mmmaskformer draw` from the clone: python tools/draw_predictions.py CONFIG CHECKPOINT --out DIR --num 8."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['draw', *sys.argv[1:]]))
