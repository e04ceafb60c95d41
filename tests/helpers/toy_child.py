"""A toy run that can be killed and resumed: ``toy_child.py OPERATION WORK_DIR``, see `helpers.toy_runs.kill_at`."""

import sys
from pathlib import Path

from helpers.toy_runs import kill_at, make_runner

if __name__ == '__main__':
    work_dir = Path(sys.argv[2])
    kill_at(int(sys.argv[1]), work_dir)
    make_runner(work_dir, resume=True).train()
