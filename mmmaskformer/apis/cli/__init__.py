"""The command line: ``mmmaskformer COMMAND`` or ``python -m mmmaskformer COMMAND``.

Each file of this package is one command, named after the file and imported only when it is called. It has

- a docstring, whose first line is the summary that ``mmmaskformer --help`` lists;
- ``EXAMPLE``, a command that works as printed after the preparation that ``--help`` names, see `PREPARATIONS`;
- ``add_arguments(parser)``, which describes its arguments;
- ``run(args)``, which does the work and returns the exit status;
- optionally ``HOST_SCRIPT``, the name of a script of the host, which gets all arguments instead of ``run``.

The commands import the standard library only, except inside ``run``: ``--help`` answers at once, and ``doctor`` works
where nothing else is installed.
"""

import argparse
import ast
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mmmaskformer import __version__
from mmmaskformer.apis.cli import _pipes

FOLDER = Path(__file__).parent

PREPARATIONS = {
    'work_dirs/quickstart': ' (in the root of the clone, after: bash tools/quickstart.sh)',
    'configs/scenes': (
        ' (in the root of the clone, after: mmmaskformer scenes data/scenes --num-train 1500 --num-val 200)'
    ),
    'configs/': ' (in the root of the clone)',
    'data prepare': ' (after the download that docs/datasets.md describes)',
}
"""Part of an example and what it needs; the first that fits counts. The scenes are those of the quickstart."""


def command_names() -> list[str]:
    """All commands, in alphabetical order."""
    return sorted(file.stem for file in FOLDER.glob('[!_]*.py'))


def summary(name: str) -> str:
    """First line of a command's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text(encoding='utf-8')))
    return (docstring or '').partition('\n')[0]


def parser_of(name: str, command: ModuleType) -> argparse.ArgumentParser:
    """The parser of a command, with its docstring as description and its example at the end of ``--help``."""
    parser = argparse.ArgumentParser(
        prog=f'mmmaskformer {name}',
        description=command.__doc__,
        epilog=epilog_of(command.EXAMPLE),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return parser


def epilog_of(example: str) -> str:
    """The end of ``--help``: an example, and what has to be done before."""
    before = next((text for part, text in PREPARATIONS.items() if part in example), '')
    return f'example{before}:\n  {example}'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: name of the command and its arguments; None takes those of the process.

    Returns:
        The exit status: 2 for invalid input, which is reported as one line on standard error; 141 if the reader of the
            output has closed it, as shells report it.
    """
    try:
        with _pipes.errors_of_logging():
            try:
                return _dispatch(arguments)
            finally:
                sys.stdout.flush()
    except BrokenPipeError:
        if not _pipes.reader_is_gone():
            raise
        _pipes.close_output()
        return _pipes.STATUS


def _dispatch(arguments: Sequence[str] | None) -> int:
    # Spinning idle OpenMP threads cost more than they save when anything else runs on the machine.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else '--help'
    if name in ('-h', '--help'):
        print(overview())
        return 0 if arguments else 2
    if name == '--version':
        print(__version__)
        return 0
    if name not in command_names():
        print(f'error: {name!r} is not a command. Fix: use one of {", ".join(command_names())}', file=sys.stderr)
        return 2
    return _run(name, importlib.import_module(f'{__name__}.{name}'), arguments[1:])


def overview() -> str:
    """All commands with their summaries."""
    width = max(map(len, command_names())) + 2
    rows = [f'  {name:<{width}}{summary(name)}' for name in command_names()]
    lines = ['usage: mmmaskformer COMMAND [ARGUMENTS]', '', 'commands:', *rows, '']
    return '\n'.join([*lines, 'mmmaskformer COMMAND --help shows the arguments of a command and an example.'])


def _run(name: str, command: ModuleType, arguments: list[str]) -> int:
    parser = parser_of(name, command)
    script = getattr(command, 'HOST_SCRIPT', None)
    if script is not None:
        if not arguments or arguments[0] in ('-h', '--help'):
            parser.print_help()
            return 0 if arguments else 2
        return _run_host_script(parser, script, arguments)
    if '' in arguments:
        parser.error(
            f'argument {arguments.index("") + 1} is empty, as from an unset variable of a shell; expected a value'
        )
    args = parser.parse_args(arguments)
    if getattr(args, 'offline', False):
        os.environ['MMMASKFORMER_OFFLINE'] = '1'
    try:
        return command.run(args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError) as error:
        print(f'error: {_message(error)}', file=sys.stderr)
        return 2


def _message(error: Exception) -> str:
    is_missing = isinstance(error, ModuleNotFoundError) and 'Fix:' not in str(error)
    return f'{error}{". Fix: install it; mmmaskformer doctor lists the commands" if is_missing else ""}'


def _run_host_script(parser: argparse.ArgumentParser, script: str, arguments: list[str]) -> int:
    """Pass all arguments to a script of the host; its errors keep their traceback."""
    try:
        from mmmaskformer.apis.scripts import find_script, run_script

        path = find_script(script, arguments)
    except (ImportError, ValueError, OSError) as error:
        parser.error(_message(error))
    run_script(path, arguments)
    return 0
