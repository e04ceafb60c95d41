"""A process that forks a child for each program that it is asked to run.

The server has imported the packages on which OpenMMLab stands, and nothing of OpenMMLab or of this package: its
children find out what such imports do, in any order, as a fresh interpreter does, and save about 5 s of CPU. Requests
that say so are answered by a child of the server that has imported both hosts as well, which saves 2 s more.

A program is a process of its own: its folder, environment, arguments, output and exit status are those that a user
sees. What it is not is a fresh interpreter; use `helpers.runs.run` for what the start of Python does.

Protocol: one JSON object per line on standard input (``argv``, ``cwd``, ``env``, ``hosts``, ``stdout`` and ``stderr``
files), the exit status as a line on standard output, negative for a signal, as subprocess counts.
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
    gc.freeze()  # or each child copies the pages of all objects when it looks for garbage


def _import_packages() -> None:
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    del sys.path[0]  # the folder of this file
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
        program: a file, or ``-m`` or ``-c``; a module or code is then the first argument.
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
        # without the handlers at exit of the parent, as after a fork; loggers write through
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
        requests: a line each.
        answers: exit statuses, a line each.
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
