"""A process that forks a child for each program that it is asked to run.

The server has imported the packages on which OpenMMLab depends, but neither OpenMMLab nor this package. Its children
therefore behave like a fresh interpreter when they import these, in any order, and save about 5 s of CPU. Requests with
``hosts`` are handled by a child of the server that has also imported both hosts, which saves 2 s more.

A program runs in a separate process: its working directory, environment, arguments, output and exit status are those
that a user sees. Only the start-up of the interpreter is not repeated; tests of that use `helpers.runs.run`.

Protocol: one JSON object per line on standard input (``argv``, ``cwd``, ``env``, ``hosts``, ``stdout`` and ``stderr``
files); the exit status as a line on standard output, negative for a signal, as in subprocess.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
import types
import warnings
from pathlib import Path
from typing import TextIO

PACKAGES = (
    'torch',
    'torch._dynamo',
    'torch.distributed.tensor',
    'torch.utils.data',
    'torchvision',
    'cv2',
    'matplotlib.pyplot',
    'pycocotools.mask',
    'rich.console',
    'scipy.optimize',
    'seaborn',
    'setuptools',
    'shapely.geometry',
    'timm',
    'transformers.models.bert.modeling_bert',
    'yapf.yapflib.yapf_api',
)
HOSTS = (
    'mmmaskformer.registry',  # must come before the hosts where mmcv-lite is installed
    *(
        f'{host}.{part}'
        for host in ('mmseg', 'mmdet')
        for part in ('apis', 'datasets', 'engine', 'evaluation', 'models')
    ),
)


def _freeze() -> None:
    gc.collect()
    gc.freeze()  # otherwise garbage collection in each child would copy the memory pages of all objects


def _import_packages() -> None:
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del sys.path[0]  # the directory of this file
    found = {name.partition('.')[0] for name in sys.modules} & {'mmengine', 'mmcv', 'mmseg', 'mmdet'}
    assert not found, found
    _freeze()


def _import_hosts() -> None:
    for name in HOSTS:
        importlib.import_module(name)
    from mmengine.registry import Registry

    from mmmaskformer import registry

    for each in vars(registry).values():
        if isinstance(each, Registry):
            each.import_from_location()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from helpers.remembered import remember_formatted_configs

    del sys.path[0]
    remember_formatted_configs()
    _freeze()


def _redirect(descriptor: int, file: str) -> None:
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, descriptor)
    os.close(target)


def _execute(program: str, arguments: list[str], path: list[str]) -> None:
    """Do what ``python PROGRAM ARGUMENTS`` does.

    Args:
        program: a file, or ``-m`` or ``-c``, with the module or code as the first argument.
        arguments: of the program.
        path: entries of PYTHONPATH.
    """
    if program == '-m':
        sys.path[0:0] = [os.getcwd(), *path]
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name='__main__', alter_sys=True)
    elif program == '-c':
        sys.path[0:0] = ['', *path]
        sys.argv = ['-c', *arguments[1:]]
        main = sys.modules['__main__'] = types.ModuleType('__main__')
        exec(compile(arguments[0], '<string>', 'exec'), vars(main))
    else:
        sys.path[0:0] = [os.path.dirname(program), *path]
        sys.argv = [program, *arguments]
        runpy.run_path(program, run_name='__main__')


def run_program(request: dict) -> int:
    """Run a program as ``python -W ignore …`` would; returns its exit status."""
    warnings.simplefilter('ignore')
    program, *arguments = request['argv']
    path = [entry for entry in request['env'].get('PYTHONPATH', '').split(os.pathsep) if entry]
    try:
        _execute(program, arguments, path)
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
        status = run_program(request)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # without the exit handlers of the parent, as usual after a fork; log files are not buffered
        os._exit(status)


def _answer(request: dict) -> int:
    process = os.fork()
    if process == 0:
        _child(request)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


class _ServerWithHosts:
    """A fork of this process that imports the hosts and answers requests; it ends with this process."""

    def __init__(self):
        reading, self.requests = _pipe()
        self.answers, writing = _pipe()
        if os.fork() == 0:
            self.requests.close()
            _import_hosts()
            serve(reading, writing)
            os._exit(0)
        reading.close()
        writing.close()

    def answer(self, line: str) -> int:
        self.requests.write(line)
        self.requests.flush()
        return int(self.answers.readline())


def _pipe() -> tuple[TextIO, TextIO]:
    reading, writing = os.pipe()
    return os.fdopen(reading), os.fdopen(writing, 'w')


def serve(requests: TextIO, answers: TextIO, with_hosts: bool = True) -> None:
    """Answer requests until they end.

    Args:
        requests: one per line.
        answers: exit statuses, one per line.
        with_hosts: whether this process has imported the hosts.
    """
    hosts = None
    for line in requests:
        request = json.loads(line)
        if request['hosts'] and not with_hosts:
            hosts = hosts or _ServerWithHosts()
            status = hosts.answer(line)
        else:
            status = _answer(request)
        print(status, file=answers, flush=True)


if __name__ == '__main__':
    _import_packages()
    serve(sys.stdin, sys.stdout, with_hosts=False)
