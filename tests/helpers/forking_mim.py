"""mim's command line; the Python programs that it starts are forks of this process.

A script for `helpers.runs.run_before_hosts`. Otherwise each program would import torch and other packages again, in
`mim train` even twice.
"""

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ORIGINAL = {name: getattr(subprocess, name) for name in ('check_call', 'check_output')}
run_program = runpy.run_path(str(Path(__file__).with_name('fork_server.py')))['run_program']


def check_call(command: list[str], env: dict[str, str] | None = None, stdout: int | None = None) -> int:
    """Replace `subprocess.check_call` for commands that start this Python."""
    python, *arguments = command
    assert python == sys.executable, command
    environment = dict(os.environ if env is None else env)
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        if stdout is not None:
            os.dup2(stdout, 1)
        os.environ.update(environment)
        vars(subprocess).update(ORIGINAL)
        sys.excepthook = sys.__excepthook__  # our package replaces the hook of mim
        status = 1
        try:
            status = run_program(dict(argv=arguments, env=environment))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        raise subprocess.CalledProcessError(status, command)
    return 0


def check_output(command: list[str]) -> bytes:
    """Replace `subprocess.check_output` in the same way."""
    with tempfile.TemporaryFile() as output:
        check_call(command, stdout=output.fileno())
        output.seek(0)
        return output.read()


if __name__ == '__main__':
    subprocess.check_call, subprocess.check_output = check_call, check_output
    sys.argv[0] = 'mim'
    runpy.run_module('mim', run_name='__main__')
