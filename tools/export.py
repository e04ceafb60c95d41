"""`mmmaskformer export` from the clone: python tools/export.py CONFIG CHECKPOINT --task panoptic --out FILE."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
