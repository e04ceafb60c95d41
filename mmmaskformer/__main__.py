"""``python -m mmmaskformer COMMAND``: the command line without the console script."""

import sys

from mmmaskformer.apis.cli import main

if __name__ == '__main__':
    sys.exit(main())
