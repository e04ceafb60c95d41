"""`mmmaskformer curve` from the clone: python tools/plot_curve.py work_dirs/my_run --out curve.png."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['curve', *sys.argv[1:]]))
