"""`mim train` without mim: python tools/train.py CONFIG [arguments of the host's train.py]."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
