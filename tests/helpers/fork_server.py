"""A process that has imported both hosts and forks a child for each script that it is asked to run.

Importing MMSegmentation and MMDetection takes about 5 s of CPU, a fork some milliseconds. The child is a process of its
own: its folder, environment, arguments, output and exit status are those of a script that a user starts. What it is not
is a fresh interpreter; use `helpers.runs.run` for tests of imports and of what the start of Python does.

Protocol: one JSON object per line on standard input (``argv``, ``cwd``, ``env``, ``stdout`` and ``stderr`` files), the
exit status as a line on standard output, negative for a signal, as subprocess counts.
"""

import importlib
import json
import os
import runpy
import sys
import traceback
import warnings

if __name__ == '__main__':
    # for the children, which find them in sys.modules
    for name in ('mmmaskformer.registry', 'mmseg.apis', 'mmdet.apis', 'mmseg.models', 'mmdet.models'):
        importlib.import_module(name)


def _redirect(descriptor: int, file: str) -> None:
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, descriptor)
    os.close(target)


def _run_script(request: dict) -> int:
    """Run a script as ``python -W ignore SCRIPT ARGUMENTS`` would; returns its exit status."""
    warnings.simplefilter('ignore')
    script = request['argv'][0]
    sys.argv = request['argv']
    sys.path[0:0] = [os.path.dirname(script), *filter(None, request['env'].get('PYTHONPATH', '').split(os.pathsep))]
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info()) if sys.excepthook is not sys.__excepthook__ else traceback.print_exc()
        return 1
    return 0


def _child(request: dict) -> None:
    status = 1
    try:
        os.chdir(request['cwd'])
        os.environ.clear()
        os.environ.update(request['env'])
        _redirect(0, os.devnull)
        _redirect(1, request['stdout'])
        _redirect(2, request['stderr'])
        status = _run_script(request)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # without the handlers at exit of the parent, as after a fork; loggers write through
        os._exit(status)


def serve() -> None:
    """Answer requests until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            _child(request)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == '__main__':
    serve()
