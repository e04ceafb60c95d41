"""`mmmaskformer scenes` from the clone: python tools/make_scenes.py data/scenes --num-train 400 --num-val 80."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['scenes', *sys.argv[1:]]))
