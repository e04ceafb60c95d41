"""Runs scripts one after the other in one process, each as ``__main__``, and prints how each ended.

``python in_turn.py JSON`` takes a list of command lines, each a script and its arguments. It is run by
`helpers.runs.run_script`.
"""

import json
import re
import runpy
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from helpers import runs

END = '=== end of script: '


class Ended(NamedTuple):
    """The result of a script: its output, and the last line of its error, empty if there was none."""

    output: str
    error: str


def run_in_turn(*commands: list, cwd: Path) -> list[Ended]:
    """Run scripts in one process, to start only one."""
    this = Path(__file__).resolve()
    lines = json.dumps([list(map(str, command)) for command in commands])
    done = runs.run_script(str(this), lines, cwd=cwd, pythonpath=this.parents[1])
    parts = re.split(rf'^{END}(.*)$', done.stdout, flags=re.MULTILINE)
    ends = [Ended(*pair) for pair in zip(parts[::2], parts[1::2], strict=False)]
    assert len(ends) == len(commands), done.stdout[-2000:] + done.stderr[-2000:]
    return ends


def main() -> None:
    for script, *arguments in json.loads(sys.argv[1]):
        error = ''
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(script, run_name='__main__')
        except BaseException:
            error = traceback.format_exc().strip().splitlines()[-1]
        print(f'\n{END}{error}', flush=True)


if __name__ == '__main__':
    main()
