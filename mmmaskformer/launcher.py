"""What mim's own process prints: for a config that is not there, and when the script that it runs has failed."""

import difflib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent / '.mim' / 'configs'
MODULES = {'mmsegmentation': 'mmseg', 'mmseg': 'mmseg', 'mmdet': 'mmdet', 'mmdetection': 'mmdet'}
"""Names by which mim knows the hosts."""
NO_CONFIG = "doesn't exist and we"
"""In mim's error for a config that it does not find."""


def end_with_the_message_of_the_script() -> None:
    """Leave out the traceback of a launcher whose script has printed one already.

    `mim train`, `mim test` and `mim run` start a script of the host in a process of its own and raise
    CalledProcessError when it fails. That traceback would follow the script's error message, which says what is wrong,
    and contains nothing but the command. For a config that mim does not find, its traceback is replaced by one line.
    The exit status stays 1, and any other exception is printed as before.
    """
    print_exception = sys.excepthook

    def hook(kind, error, traceback) -> None:
        if isinstance(error, ValueError) and NO_CONFIG in str(error) and (config := missing_config(sys.argv)):
            print(f'error: {describe_missing(config)}', file=sys.stderr)
        elif not has_explained_itself(error):
            print_exception(kind, error, traceback)

    sys.excepthook = hook


def has_explained_itself(error: BaseException) -> bool:
    """Whether an exception only reports that a script of an OpenMMLab package has failed with a message of its own.

    Args:
        error: what ended the launcher.

    Returns:
        False for a script that was killed by a signal, which prints nothing, and for other commands such as srun.
    """
    if not isinstance(error, subprocess.CalledProcessError) or error.returncode <= 0:
        return False
    command = error.cmd if isinstance(error.cmd, list) else []
    return len(command) > 1 and command[0] == sys.executable and '.mim' in Path(command[1]).parts


def missing_config(arguments: list[str]) -> str | None:
    """The config of a command line of mim if there is no such file.

    Args:
        arguments: as ``mim train PACKAGE CONFIG …``.
    """
    if len(arguments) < 4 or arguments[1] not in ('train', 'test'):
        return None
    config = next((argument for argument in arguments[3:] if argument.endswith('.py')), None)
    return None if config is None or Path(config).exists() else config


def describe_missing(config: str) -> str:
    """A message for a config that is not there, with ours of the same or of the nearest name."""
    own = {path.name: path for path in sorted(CONFIGS.rglob('*.py'))}
    near = difflib.get_close_matches(Path(config).name, own, n=1, cutoff=0.7)
    hint = f' such as {own[near[0]]}' if near else ''
    where = 'relative paths start at the working directory'
    return f'config {config}: no such file. Fix: give the path of a config{hint}; {where}'


def warn_of_a_namesake() -> None:
    """Tell that mim takes the host's config of a name where a path of ours was misspelt."""
    config = missing_config(sys.argv)
    host = MODULES.get(sys.argv[2].lower()) if config else None
    if host is None or not any(CONFIGS.rglob(Path(config).name)):
        return
    spec = find_spec(host)
    folders = spec.submodule_search_locations if spec else None
    if folders and any((Path(folders[0]) / '.mim' / 'configs').rglob(Path(config).name)):
        print(
            f'warning: {describe_missing(config)}. mim goes on with the config of that name of {host}, which is '
            'another one.',
            file=sys.stderr,
        )
