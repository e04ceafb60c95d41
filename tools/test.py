"""`mim test` without mim: python tools/test.py CONFIG CHECKPOINT [arguments of the host's test.py]."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
